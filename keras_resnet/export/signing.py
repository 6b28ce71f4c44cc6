"""Signatures of artifacts: whoever has the public key sees who wrote a file, and that nobody has changed it since.

A signature is a JSON file beside the artifact, `<name of the artifact>.sig`, with two texts:

| field | is |
| --- | --- |
| `statement` | JSON: what is signed, and the SHA-256 of each file of the artifact, by its name |
| `signature` | Ed25519 signature (RFC 8032) of the bytes of the statement, in base64 |

The statement of a folder names every file in it, so that no file can be added, renamed or exchanged. It stands in the
signature file, and is believed only after its signature was checked; so a refusal names the files that are different.
"""

import base64
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from keras_resnet.errors import ArgumentError, SignatureError
from keras_resnet.optional import require
from keras_resnet.regular_files import open_regular
from keras_resnet.whole_files import write_whole

if TYPE_CHECKING:
    from io import BufferedReader

SUFFIX = ".sig"
PURPOSE = "an artifact of keras-resnet-kit"  # a key signs other things too, which must not be taken for this
SCHEMA_VERSION = 1
ITSELF = "."  # name of an artifact that is one file, in its statement: it may be renamed together with its signature

LARGEST_KEY_BYTES = 16_384
LARGEST_SIGNATURE_BYTES = 1_000_000
FILES_LISTED = 3

PrivateKey = Any  # cryptography's Ed25519PrivateKey
_HOW_TO_MAKE_A_KEY = "openssl genpkey -algorithm ed25519 -out private.pem"
_HOW_TO_MAKE_ITS_PUBLIC_KEY = "openssl pkey -in private.pem -pubout -out public.pem"


def signature_file(artifact: Path) -> Path:
    """Artifact -> path of its signature, which lies beside it."""
    named = artifact if artifact.name not in ("", "..") else Path(os.path.abspath(artifact))
    return named.with_name(named.name + SUFFIX)


def sign(artifact: str | os.PathLike[str], key: PrivateKey) -> Path:
    """Artifact that is finished, private key -> its signature file, which replaces an older one.

    Raises:
        SignatureError: The artifact can't be read, or has other things in it than files and folders.
    """
    artifact = Path(artifact)
    statement = json.dumps({"signed": PURPOSE, "schema_version": SCHEMA_VERSION, "files": _hashes(artifact)})
    signature = base64.b64encode(key.sign(statement.encode())).decode()
    path = signature_file(artifact)
    write_whole(path, (json.dumps({"statement": statement, "signature": signature}, indent=2) + "\n").encode())
    return path


def check_signature(artifact: str | os.PathLike[str], public_key: str | os.PathLike[str]) -> None:
    """Checks that a file or folder is what the owner of a key signed. No runtime opens it.

    Raises:
        SignatureError: There is no signature, another key made it, or the artifact has changed since.
        ArgumentError: The file of the public key holds none.
    """
    artifact, public_key = Path(artifact), Path(public_key)
    key, path = _read_public_key(public_key), signature_file(artifact)
    if not artifact.exists():
        raise SignatureError(f"{artifact}: no such file or folder")
    if not path.exists():
        raise SignatureError(
            f"{artifact}: is not signed: there is no {path}. Fetch it from the place where the artifact came from, or "
            "ask its author to export with --sign-key"
        )
    statement, signature = _read_signature(path)
    try:
        key.verify(signature, statement)
    except require("cryptography.exceptions", "sign").InvalidSignature as error:
        raise SignatureError(
            f"{path}: this signature was not made with the private key of {public_key}: another key made it, or the "
            "signature has changed. Do not use the artifact, unless you find the key that made it and trust its owner"
        ) from error
    signed, found = _stated_hashes(path, statement), _hashes(artifact)
    different = sorted(name for name in signed.keys() | found.keys() if signed.get(name) != found.get(name))
    if different:
        more = f", and {len(different) - FILES_LISTED} more" if len(different) > FILES_LISTED else ""
        told = ", ".join(_told(name, signed, found) for name in different[:FILES_LISTED]) + more
        raise SignatureError(
            f"{artifact}: is not what was signed: {told}. Do not use it. Fetch artifact and signature again"
        )


def _told(name: str, signed: dict[str, str], found: dict[str, str]) -> str:
    """Name of a file that is different -> what is different."""
    if name not in found:
        return f"{name} is missing"
    if name not in signed:
        return f"{name} was added"
    return "its contents have changed" if name == ITSELF else f"{name} has changed"


def _hashes(artifact: Path) -> dict[str, str]:
    """File or folder -> SHA-256 of each file, by its name in the folder, in the order of the names."""
    paths = {ITSELF: artifact}
    if artifact.is_dir():
        paths = {path.relative_to(artifact).as_posix(): path for path in _files(artifact)}
    try:
        return {name: _sha256(paths[name]) for name in sorted(paths)}
    except OSError as error:
        raise SignatureError(f"{error.filename or artifact}: can't be read: {error.strerror or error}") from error


def _files(folder: Path) -> Iterator[Path]:
    """Folder -> all that is in it, at any depth. A link to a file counts as this file.

    Raises:
        SignatureError: A folder can't be listed, or is a link, under which files could be exchanged.
    """

    def fail(error: OSError) -> None:
        raise SignatureError(f"{error.filename}: can't be read: {error.strerror}") from error

    for parent, folders, names in os.walk(folder, onerror=fail):
        for name in folders:
            if stat.S_ISLNK(os.lstat(os.path.join(parent, name)).st_mode):
                raise SignatureError(
                    f"{Path(parent, name)}: is a link to a folder, which can't be signed: put the folder in its place"
                )
        yield from (Path(parent, name) for name in names)


def _sha256(path: Path) -> str:
    with open_regular(path) as stream:
        return hashlib.file_digest(cast("BufferedReader", stream), "sha256").hexdigest()


def _read_signature(path: Path) -> tuple[bytes, bytes]:
    """Signature file -> bytes that were signed, and their signature."""
    try:
        content = json.loads(_read(path, LARGEST_SIGNATURE_BYTES))
        return content["statement"].encode(), base64.b64decode(content["signature"], validate=True)
    except OSError as error:
        raise SignatureError(f"{path}: can't be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SignatureError(
            f"{path}: is not a signature of this package, or is damaged ({error}). Fetch it again"
        ) from error


def _stated_hashes(path: Path, statement: bytes) -> dict[str, str]:
    """Statement whose signature is right -> SHA-256 of each file."""
    try:
        stated = json.loads(statement)
        if (stated["signed"], stated["schema_version"]) == (PURPOSE, SCHEMA_VERSION):
            return dict(stated["files"])
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # the key is right, so this is no attack: its owner has signed something else
    raise SignatureError(f"{path}: what was signed is not an artifact, or a later version of this package signed it")


def read_private_key(path: str | os.PathLike[str], ask_password: Callable[[], str] | None = None) -> PrivateKey:
    """PEM file -> Ed25519 private key, with which `sign` signs.

    Args:
        path: File of the key.
        ask_password: Called for the password if the file is encrypted. Default: such a file is an error.

    Raises:
        ArgumentError: The file can't be read, holds no such key, or the password is wrong.
        MissingDependencyError: The package `cryptography` is not installed.
    """
    path = Path(path)
    serialization = require("cryptography.hazmat.primitives.serialization", "sign")
    content = _read_key(path)
    if b"PUBLIC KEY" in content:
        raise ArgumentError(f"{path}: is a public key. Signing needs the private key that belongs to it")
    password = None
    if b"ENCRYPTED" in content:
        if ask_password is None:
            raise ArgumentError(f"{path}: is encrypted, and no password was given")
        password = ask_password().encode()
    try:
        key = serialization.load_pem_private_key(content, password)
    except (ValueError, TypeError, require("cryptography.exceptions", "sign").UnsupportedAlgorithm) as error:
        if password is not None:
            raise ArgumentError(f"{path}: can't be decrypted: the password is wrong, or the file damaged") from error
        raise ArgumentError(
            f"{path}: is not a private key in PEM format. This command makes one: {_HOW_TO_MAKE_A_KEY}"
        ) from error
    ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519", "sign")
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ArgumentError(
            f"{path}: must be an Ed25519 key. Received: {_kind_of(key)}. This command makes one: {_HOW_TO_MAKE_A_KEY}"
        )
    return key


def _read_public_key(path: Path) -> Any:
    serialization = require("cryptography.hazmat.primitives.serialization", "sign")
    content = _read_key(path)
    if b"PRIVATE KEY" in content:
        raise ArgumentError(
            f"{path}: is a private key, which only its owner needs. This command makes the public key of it: "
            f"{_HOW_TO_MAKE_ITS_PUBLIC_KEY}"
        )
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, TypeError, require("cryptography.exceptions", "sign").UnsupportedAlgorithm) as error:
        raise ArgumentError(
            f"{path}: is not a public key in PEM format. The owner of the private key makes it: "
            f"{_HOW_TO_MAKE_ITS_PUBLIC_KEY}"
        ) from error
    ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519", "sign")
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise ArgumentError(f"{path}: must be an Ed25519 key. Received: {_kind_of(key)}")
    return key


def _kind_of(key: Any) -> str:
    """Key of any kind -> its kind in words, such as "RSA key"."""
    return type(key).__name__.removeprefix("_").removesuffix("PrivateKey").removesuffix("PublicKey") + " key"


def _read_key(path: Path) -> bytes:
    try:
        return _read(path, LARGEST_KEY_BYTES)
    except (OSError, ValueError) as error:
        raise ArgumentError(f"{path}: can't be read as a key: {getattr(error, 'strerror', None) or error}") from error


def _read(path: Path, largest_bytes: int) -> bytes:
    with open_regular(path) as stream:
        content = stream.read(largest_bytes + 1)
    if len(content) > largest_bytes:
        raise ValueError(f"it has more bytes than the limit of {largest_bytes:,}")
    return content
