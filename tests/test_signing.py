"""A signed artifact is accepted as it was signed, with the key of its author, and in no other form."""

import base64
import json
import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest
from command_line import in_process

from keras_resnet.cli import export as export_command
from keras_resnet.errors import ArgumentError, MissingDependencyError, SignatureError
from keras_resnet.export import export, runtimes
from keras_resnet.export.signing import check_signature, read_private_key, sign, signature_file
from keras_resnet.model_files import save_model
from keras_resnet.variants import InputContract

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

FILES = {"saved_model.pb": b"graph", "variables/variables.index": b"index", "assets.extra/other": b"", ".hidden": b"h"}
SIGNED = "the file that was signed"
NOT_COMPARED = "Its answers were not compared with its model's: that needs --model or --against-report"


def write_key(folder: Path, name: str, key, password: bytes | None = None) -> Path:
    """Writes `<name>.pem` and `<name>.pub`, as OpenSSL does -> path of the private key."""
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub").write_bytes(public)
    (folder / f"{name}.pem").write_bytes(private)
    return folder / f"{name}.pem"


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Path:
    """Folder with `own` and `other`, `encrypted` with the password "open", and keys of other kinds."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("own", "other"):
        write_key(folder, name, ed25519.Ed25519PrivateKey.generate())
    write_key(folder, "encrypted", ed25519.Ed25519PrivateKey.generate(), b"open")
    write_key(folder, "rsa", rsa.generate_private_key(65537, 2048))
    write_key(folder, "ec", ec.generate_private_key(ec.SECP256R1()))
    (folder / "text.pem").write_text("no key\n")
    (folder / "text.pub").write_text("no key\n")
    (folder / "large.pub").write_bytes(b" " * 20_000)
    return folder


@pytest.fixture
def signed_file(keys, tmp_path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_text(SIGNED)
    assert sign(path, read_private_key(keys / "own.pem")) == tmp_path / "model.onnx.sig"
    return path


@pytest.fixture
def signed_folder(keys, tmp_path) -> Path:
    folder = tmp_path / "saved_model"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    sign(folder, read_private_key(keys / "own.pem"))
    return folder


def refusal(artifact: Path, public_key: Path) -> str:
    with pytest.raises(SignatureError) as raised:
        check_signature(artifact, public_key)
    return str(raised.value)


def test_the_right_key_and_the_signed_content_are_accepted(keys, signed_file, signed_folder, tmp_path, monkeypatch):
    check_signature(signed_file, keys / "own.pub")
    check_signature(str(signed_folder), str(keys / "own.pub"))
    monkeypatch.chdir(signed_folder)
    check_signature(Path("."), keys / "own.pub")
    os.replace(signed_file, tmp_path / "renamed.onnx")  # a receiver may rename a file, together with its signature
    os.replace(signature_file(signed_file), tmp_path / "renamed.onnx.sig")
    check_signature(tmp_path / "renamed.onnx", keys / "own.pub")


def test_the_signature_is_what_openssl_and_the_page_describe(keys, signed_file, tmp_path):
    """Another program can check it: Ed25519 of the statement's bytes."""
    content = json.loads(signature_file(signed_file).read_text())
    key = serialization.load_pem_public_key((keys / "own.pub").read_bytes())
    key.verify(base64.b64decode(content["signature"]), content["statement"].encode())
    assert json.loads(content["statement"]) == {
        "signed": "an artifact of keras-resnet-kit",
        "schema_version": 1,
        "files": {".": "ec8e5ab980233cd7055e765791423269d1a577f3454a09b028309d90124c6196"},
    }


def test_another_key_is_refused(keys, signed_file):
    path = signature_file(signed_file)
    assert refusal(signed_file, keys / "other.pub") == (
        f"{path}: this signature was not made with the private key of {keys / 'other.pub'}: another key made it, or "
        "the signature has changed. Do not use the artifact, unless you find the key that made it and trust its owner"
    )


@pytest.mark.parametrize("change", ["flip", "cut", "longer", "empty"])
def test_a_changed_file_is_refused(change, keys, signed_file):
    content = signed_file.read_bytes()
    changed = {"flip": content[:-1] + b"D", "cut": content[:-1], "longer": content + b"\0", "empty": b""}
    signed_file.write_bytes(changed[change])
    assert refusal(signed_file, keys / "own.pub") == (
        f"{signed_file}: is not what was signed: its contents have changed. Do not use it. Fetch artifact and "
        "signature again"
    )


def change_file(folder: Path) -> None:
    (folder / "variables" / "variables.index").write_bytes(b"Index")


def rename_file(folder: Path) -> None:
    os.replace(folder / "variables" / "variables.index", folder / "variables" / "variables.indey")


def add_file(folder: Path) -> None:
    (folder / "assets.extra" / "tf_serving_warmup_requests").touch()


def add_hidden_file(folder: Path) -> None:
    (folder / ".added").touch()


def remove_file(folder: Path) -> None:
    (folder / ".hidden").unlink()


def swap_files(folder: Path) -> None:
    (folder / "saved_model.pb").write_bytes(b"index")
    (folder / "variables" / "variables.index").write_bytes(b"graph")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (change_file, "variables/variables.index has changed"),
        (rename_file, "variables/variables.index is missing, variables/variables.indey was added"),
        (add_file, "assets.extra/tf_serving_warmup_requests was added"),
        (add_hidden_file, ".added was added"),
        (remove_file, ".hidden is missing"),
        (swap_files, "saved_model.pb has changed, variables/variables.index has changed"),
    ],
)
def test_a_changed_folder_is_refused_with_the_names_of_its_files(change, told, keys, signed_folder):
    change(signed_folder)
    assert f"{signed_folder}: is not what was signed: {told}. Do not use it" in refusal(signed_folder, keys / "own.pub")


def test_more_than_three_differences_are_counted(keys, signed_folder):
    shutil.rmtree(signed_folder)
    signed_folder.mkdir()
    assert "saved_model.pb is missing, and 1 more." in refusal(signed_folder, keys / "own.pub")


def test_a_name_cannot_stand_for_two_files(keys, tmp_path):
    """In a plain list of names and hashes, a name with an end of line would."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(name)
    sign(folder, read_private_key(keys / "own.pem"))
    digest = json.loads(json.loads(signature_file(folder).read_text())["statement"])["files"]["a"]
    (folder / "a").unlink()
    (folder / "b").rename(folder / f"a {digest}\nb")
    assert "is not what was signed" in refusal(folder, keys / "own.pub")


def test_links_to_folders_are_refused_and_links_to_files_are_these_files(keys, signed_folder, tmp_path):
    os.replace(signed_folder / "saved_model.pb", tmp_path / "blob")
    (signed_folder / "saved_model.pb").symlink_to(tmp_path / "blob")  # as in the cache of the Hub
    check_signature(signed_folder, keys / "own.pub")
    (signed_folder / "more").symlink_to(tmp_path)
    assert f"{signed_folder / 'more'}: is a link to a folder, which can't be signed" in refusal(
        signed_folder, keys / "own.pub"
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(keys, signed_folder, signed_file):
    os.mkfifo(signed_folder / "pipe")
    assert "pipe: can't be read: not a regular file" in refusal(signed_folder, keys / "own.pub")
    signature_file(signed_file).unlink()
    os.mkfifo(signature_file(signed_file))
    assert "model.onnx.sig: can't be read: not a regular file" in refusal(signed_file, keys / "own.pub")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "is not signed: there is no"),
        ("", "is not a signature of this package, or is damaged"),
        ("{", "is not a signature of this package, or is damaged"),
        ("[" * 100_000, "is not a signature of this package, or is damaged"),
        ('{"statement": "{}"}', "is not a signature of this package, or is damaged ('signature')"),
        ('{"statement": 1, "signature": ""}', "is not a signature of this package, or is damaged"),
        ('{"statement": "{}", "signature": "?"}', "is not a signature of this package, or is damaged"),
        ('{"statement": "{}", "signature": ""}', "was not made with the private key"),
        (" " * 1_000_001, "it has more bytes than the limit of 1,000,000"),
    ],
)
def test_a_removed_or_damaged_signature_is_refused(content, told, keys, signed_file):
    signature_file(signed_file).unlink()
    if content is not None:
        signature_file(signed_file).write_text(content)
    assert told in refusal(signed_file, keys / "own.pub")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_a_truncated_signature_is_refused(share, keys, signed_file):
    path = signature_file(signed_file)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "is not a signature of this package, or is damaged" in refusal(signed_file, keys / "own.pub")


def test_the_signature_of_another_artifact_is_refused(keys, signed_file, signed_folder, tmp_path):
    other = tmp_path / "other.onnx"
    other.write_text("another file of this author")
    sign(other, read_private_key(keys / "own.pem"))
    shutil.copy(signature_file(other), signature_file(signed_file))
    assert "is not what was signed: its contents have changed" in refusal(signed_file, keys / "own.pub")
    shutil.copy(signature_file(signed_folder), signature_file(signed_file))
    assert "is not what was signed: . was added" in refusal(signed_file, keys / "own.pub")


def test_a_changed_statement_needs_a_signature_of_its_own(keys, signed_file):
    """Who changes the artifact can write its new hash, and cannot sign it."""
    signed_file.write_text("forged")
    forged = sign(signed_file, read_private_key(keys / "other.pem"))
    assert "was not made with the private key" in refusal(signed_file, keys / "own.pub")
    content = json.loads(forged.read_text())
    sign(signed_file, read_private_key(keys / "own.pem"))
    own = json.loads(forged.read_text())
    forged.write_text(json.dumps({"statement": content["statement"] + " ", "signature": own["signature"]}))
    assert "was not made with the private key" in refusal(signed_file, keys / "own.pub")


@pytest.mark.parametrize(
    "statement", ["{}", "[]", "text", '{"signed": "a contract", "schema_version": 1, "files": {}}']
)
def test_what_the_owner_signed_for_another_purpose_is_refused(statement, keys, signed_file):
    key = read_private_key(keys / "own.pem")
    signature = base64.b64encode(key.sign(statement.encode())).decode()
    signature_file(signed_file).write_text(json.dumps({"statement": statement, "signature": signature}))
    assert "what was signed is not an artifact" in refusal(signed_file, keys / "own.pub")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("rsa.pem", "must be an Ed25519 key. Received: RSA key. This command makes one: openssl genpkey"),
        ("ec.pem", "must be an Ed25519 key. Received: EC"),
        ("text.pem", "is not a private key in PEM format. This command makes one: openssl genpkey -algorithm ed25519"),
        ("own.pub", "is a public key. Signing needs the private key that belongs to it"),
        ("encrypted.pem", "is encrypted, and no password was given"),
        ("missing.pem", "can't be read as a key: No such file or directory"),
        (".", "can't be read as a key: Is a directory"),
        ("large.pub", "can't be read as a key: it has more bytes than the limit of 16,384"),
    ],
)
def test_what_cannot_sign(name, told, keys):
    with pytest.raises(ArgumentError) as raised:
        read_private_key(keys / name)
    assert str(raised.value).startswith(f"{keys / name}: {told}")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("rsa.pub", "must be an Ed25519 key. Received: RSA key"),
        ("text.pub", "is not a public key in PEM format"),
        ("own.pem", "is a private key, which only its owner needs"),
        ("missing.pub", "can't be read as a key: No such file or directory"),
        ("large.pub", "can't be read as a key: it has more bytes than the limit of 16,384"),
    ],
)
def test_what_cannot_check(name, told, keys, signed_file):
    with pytest.raises(ArgumentError) as raised:
        check_signature(signed_file, keys / name)
    assert str(raised.value).startswith(f"{keys / name}: {told}")


def test_an_encrypted_key_is_opened_with_its_password(keys, signed_file):
    sign(signed_file, read_private_key(keys / "encrypted.pem", lambda: "open"))
    check_signature(signed_file, keys / "encrypted.pub")
    with pytest.raises(ArgumentError, match="can't be decrypted: the password is wrong, or the file damaged"):
        read_private_key(keys / "encrypted.pem", lambda: "shut")


def test_an_absent_package_names_its_extra(keys, signed_file, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cryptography.hazmat.primitives.serialization", None)
    for call in (partial(read_private_key, keys / "own.pem"), partial(check_signature, signed_file, keys / "own.pub")):
        with pytest.raises(MissingDependencyError, match=r"'cryptography'.*pip install 'keras-resnet-kit\[sign\]'"):
            call()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="OpenSSL is not installed")
def test_keys_that_openssl_makes_by_the_commands_of_the_page(tmp_path, signed_file):
    page = (Path(__file__).parents[1] / "docs" / "security.md").read_text(encoding="utf-8")
    commands = [line for line in page.splitlines() if line.startswith("openssl ")]
    assert len(commands) == 2
    for command in commands:
        done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, check=False)
        if "not found" in done.stderr and "ed25519" in done.stderr.lower():
            pytest.skip("this OpenSSL has no Ed25519")
        assert done.returncode == 0, done.stderr
    sign(signed_file, read_private_key(tmp_path / "private.pem"))
    check_signature(signed_file, tmp_path / "public.pem")


# --- commands -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model_file(small_exports, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.keras"
    save_model(small_exports.model, path, [f"thing {index}" for index in range(10)], InputContract(32, 36))
    return path


def test_export_signs_and_verify_checks_first(keys, model_file, tmp_path, monkeypatch):
    out, onnx = tmp_path / "out", tmp_path / "out" / "model.onnx"
    arguments = ("export", "--model", model_file, "--formats", "saved_model,onnx", "--out", out)
    status, lines, errors = in_process(*arguments, "--sign-key", keys / "own.pem")
    assert (status, errors) == (0, [])
    assert lines[-3] == f"signed with {keys / 'own.pem'}: saved_model.sig, model.onnx.sig"
    public = ("--public-key", keys / "own.pub")
    status, lines, errors = in_process("verify", onnx, *public, "--model", model_file)
    assert (status, errors) == (0, [])
    unchanged = f"unchanged since it was signed with the private key of {keys / 'own.pub'}"
    assert lines[:2] == [f"{onnx}: {unchanged}", f"{onnx} as onnx, on 16 images"]

    monkeypatch.setattr(runtimes, "format_and_description", None)  # nothing of the artifact is read
    for path in (onnx, out / "saved_model"):
        assert in_process("verify", path, *public) == (
            *(0, [f"{path}: {unchanged}", NOT_COMPARED]),
            [],
        )
    onnx.write_bytes(onnx.read_bytes() + b"\0")
    for model in ((), ("--model", model_file)):
        assert in_process("verify", onnx, *public, *model) == (
            *(1, []),
            [
                f"error: {onnx}: is not what was signed: its contents have changed. Do not use it. Fetch artifact and "
                "signature again"
            ],
        )
    assert in_process("verify", onnx, *public, "--images", "photos") == (
        *(1, []),
        [
            "error: --images is for the comparison with a model, which needs --model beside --public-key. Received: "
            "--images photos"
        ],
    )


def test_a_new_export_without_a_key_removes_the_older_signature(small_exports, tmp_path, keys):
    [path] = export(small_exports.model, tmp_path, ["onnx"]).paths.values()
    sign(path, read_private_key(keys / "own.pem"))
    export(small_exports.model, tmp_path, ["onnx"], overwrite=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["manifest.json", "model.onnx", "model.onnx.answers.npz"]


def test_export_reads_the_key_before_its_work(keys, model_file, tmp_path, monkeypatch):
    arguments = ("export", "--model", model_file, "--formats", "onnx", "--out", tmp_path / "out", "--sign-key")
    status, lines, errors = in_process(*arguments, keys / "rsa.pem")
    assert (status, lines) == (1, [])
    assert errors[0].startswith(f"error: {keys / 'rsa.pem'}: must be an Ed25519 key. Received: RSA key")
    assert in_process(*arguments, keys / "encrypted.pem") == (
        *(1, []),
        [
            "error: --sign-key is encrypted, and there is no terminal that could ask for its password. Received: "
            f"{keys / 'encrypted.pem'}. Give a key without a password, which `openssl pkey -in KEY -out NEW` writes"
        ],
    )
    monkeypatch.setattr(export_command, "sys", type("Sys", (), {"stdin": type("Tty", (), {"isatty": lambda: True})}))
    asked = []
    monkeypatch.setattr("typer.prompt", lambda text, **options: asked.append((text, options)) or "shut")
    assert in_process(*arguments, keys / "encrypted.pem")[2] == [
        f"error: {keys / 'encrypted.pem'}: can't be decrypted: the password is wrong, or the file damaged"
    ]
    assert asked == [(f"Password of {keys / 'encrypted.pem'}", {"hide_input": True, "err": True})]
    assert not (tmp_path / "out").exists()
