"""`keras_resnet.json` inside a `.keras` file: names of classes, input contract, and what the commands make of them."""

import json
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from command_line import in_process
from PIL import Image
from small_classifier import small_classifier

from keras_resnet.errors import WeightsError
from keras_resnet.loading import open_network, open_predictor
from keras_resnet.model_files import LARGEST_MEMBER_BYTES, MEMBER, ModelDescription, read_model_description, save_model
from keras_resnet.preprocessing import load_image
from keras_resnet.variants import InputContract

LABELS = ["Katze", "고양이", "ship & $sail$", "", *(f"thing {index}" for index in range(4, 10))]
CONTRACT = InputContract(size=32, resize=41, interpolation="bicubic")
PIXELS = np.random.default_rng(3).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
GOOD = {
    "schema_version": 2,
    "task": "classify",
    "labels": LABELS,
    "contract": {"size": 32, "resize": 41, "interpolation": "bicubic"},
    "task_facts": {},
}


@pytest.fixture(scope="module")
def model(randomise):
    return randomise(small_classifier(), seed=6)


@pytest.fixture(scope="module")
def described(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("described") / "model.keras"
    save_model(model, path, LABELS, CONTRACT)
    return path


def with_member(source: Path, path: Path, content: bytes, **options) -> Path:
    """A file without the member -> the same with it."""
    shutil.copy(source, path)
    with zipfile.ZipFile(path, "a", **options) as archive:
        archive.writestr(MEMBER, content)
    return path


def test_roundtrip(model, described):
    assert read_model_description(described) == ModelDescription("classify", tuple(LABELS), CONTRACT)
    assert [path.name for path in described.parent.iterdir()] == ["model.keras"]
    with zipfile.ZipFile(described) as archive:
        assert json.loads(archive.read(MEMBER)) == GOOD
    loaded = keras.saving.load_model(described)
    for pixels in (PIXELS, PIXELS[:2]):
        np.testing.assert_array_equal(loaded.predict_on_batch(pixels), model.predict_on_batch(pixels))
    network, contract = open_network(str(described), None)
    assert contract == CONTRACT
    np.testing.assert_array_equal(network.predict_on_batch(PIXELS), model.predict_on_batch(PIXELS))


def test_a_file_by_keras_alone_says_nothing(model_file):
    assert read_model_description(model_file) is None
    predictor = open_predictor(str(model_file), None)
    assert (predictor.class_names, predictor.contract) == (None, InputContract.for_size(32))


def test_no_labels(model, tmp_path):
    save_model(model, tmp_path / "m.keras", None, CONTRACT)
    assert read_model_description(tmp_path / "m.keras") == ModelDescription("classify", None, CONTRACT)
    assert open_predictor(str(tmp_path / "m.keras"), None).class_names is None


def test_an_older_file_is_replaced_when_the_new_one_is_whole(model, tmp_path, monkeypatch):
    path = tmp_path / "m.keras"
    save_model(model, path, LABELS, CONTRACT)
    before = path.read_bytes()

    def fill_the_disk(self, *_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "writestr", fill_the_disk)
        with pytest.raises(OSError, match="No space left"):
            save_model(model, path, LABELS[::-1], CONTRACT)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    save_model(model, path, LABELS[::-1], CONTRACT)
    assert read_model_description(path).class_names == tuple(LABELS[::-1])


@pytest.mark.parametrize(
    ("name", "class_names", "contract", "message"),
    [
        ("m.h5", LABELS, CONTRACT, "`path` must end in .keras. Received: path='.*m.h5'"),
        ("m.keras", LABELS[:9], CONTRACT, "Received: 9 names for 10 classes"),
        ("m.keras", "0123456789", CONTRACT, "`class_names` must be a list of names"),
        ("m.keras", list(range(10)), CONTRACT, "must be null or a list of texts"),
        ("m.keras", np.arange(10), CONTRACT, "int64"),
        ("m.keras", LABELS, InputContract(), r"pixels of \(224, 224\) for an input of \(32, 32\)"),
        ("m.keras", LABELS, InputContract(32, 31), "1 <= size <= resize <= 10000: 32, 31"),
        ("m.keras", LABELS, InputContract(32, 36, "lanczos"), "'bilinear'"),
    ],
)
def test_what_does_not_fit_the_model_is_not_written(model, tmp_path, name, class_names, contract, message):
    with pytest.raises(ValueError, match=message):
        save_model(model, tmp_path / name, class_names, contract)
    assert not list(tmp_path.iterdir())


def changed(**fields) -> bytes:
    return json.dumps({**GOOD, **fields}).encode()


HOSTILE = {
    "not JSON": (b"labels: cat", "Expecting value"),
    "not UTF-8": (b'{"labels": "\xff\xfe"}', "utf-8"),
    "empty": (b"", "Expecting value"),
    "deep": (b"[" * 100_000, "recursion"),
    "a list": (b"[]", "must be an object with 'labels' and 'contract'"),
    "no labels": (json.dumps({"contract": GOOD["contract"]}).encode(), "must be an object with"),
    "no contract": (json.dumps({"labels": LABELS}).encode(), "must be an object with"),
    "a text for labels": (changed(labels="0123456789"), "list of texts"),
    "numbers for labels": (changed(labels=list(range(10))), "list of texts"),
    "size is true": (changed(contract={**GOOD["contract"], "size": True}), "1 <= size"),
    "size is a float": (changed(contract={**GOOD["contract"], "size": 32.0}), "1 <= size"),
    "size is NaN": (changed(contract={**GOOD["contract"], "size": float("nan")}), "1 <= size"),
    "size is huge": (changed(contract={**GOOD["contract"], "size": 10**9, "resize": 10**9}), "1 <= size"),
    "size above resize": (changed(contract={**GOOD["contract"], "resize": 31}), "1 <= size"),
    "no interpolation": (changed(contract={"size": 32, "resize": 41}), "'interpolation'"),
    "interpolation is a list": (changed(contract={**GOOD["contract"], "interpolation": []}), "'interpolation'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_member_is_refused_by_name(model_file, tmp_path, name):
    content, message = HOSTILE[name]
    path = with_member(model_file, tmp_path / "bad.keras", content)
    with pytest.raises(WeightsError, match=rf"bad\.keras: its member 'keras_resnet\.json' can't be read: .*{message}"):
        read_model_description(path)
    with pytest.raises(WeightsError, match=message):
        open_network(str(path), None)


def test_a_huge_member_is_not_read(model_file, tmp_path):
    path = with_member(
        model_file, tmp_path / "bomb.keras", b" " * (LARGEST_MEMBER_BYTES + 1), compression=zipfile.ZIP_DEFLATED
    )
    assert path.stat().st_size < 1_000_000
    with pytest.raises(WeightsError, match="it has 16,000,001 bytes, more than the limit of 16,000,000"):
        read_model_description(path)


def test_a_description_of_another_model_is_refused(model_file, tmp_path):
    short = with_member(model_file, tmp_path / "short.keras", changed(labels=LABELS[:9]))
    with pytest.raises(WeightsError, match=r"short\.keras: .*9 names for 10 classes"):
        open_network(str(short), None)
    large = with_member(
        model_file,
        tmp_path / "large.keras",
        changed(contract={"size": 64, "resize": 73, "interpolation": "bilinear"}),
    )
    with pytest.raises(WeightsError, match=r"large\.keras: .*pixels of \(64, 64\) for an input of \(32, 32\)"):
        open_network(str(large), None)


def test_a_damaged_archive_is_refused(described, tmp_path):
    content = bytearray(described.read_bytes())
    place = content.index(b'"interpolation"')
    content[place + 3] ^= 1
    (tmp_path / "flipped.keras").write_bytes(content)
    with pytest.raises(WeightsError, match=r"flipped\.keras.*CRC"):
        read_model_description(tmp_path / "flipped.keras")
    (tmp_path / "short.keras").write_bytes(content[:500])
    with pytest.raises(WeightsError, match=r"short\.keras.*zip"):
        read_model_description(tmp_path / "short.keras")
    with pytest.raises(WeightsError, match="No such file"):
        read_model_description(tmp_path / "absent.keras")


def test_opening_a_file_leaves_no_variables_to_be_filled(described, monkeypatch):
    """The network that its declared size is taken from has none; on JAX, Keras would fill them at the first batch."""
    drawn = []
    draw = keras.initializers.VarianceScaling.__call__

    def count(initializer, shape, dtype=None):
        drawn.append(shape)
        return draw(initializer, shape, dtype)

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", count)
    network, _ = open_network(str(described), None)
    with keras.StatelessScope():
        pass
    assert len(drawn) == sum(variable.name == "kernel" for variable in network.variables)


def test_predict_goes_by_labels_and_contract(model, described, tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(8).integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(path)
    status, lines, errors = in_process("predict", path, "--model", described, "--top", 10)
    assert (status, errors) == (0, [])
    [expected] = model.predict_on_batch(load_image(path, CONTRACT)[None])
    assert [line.split(" %  ")[1] for line in lines[1:]] == [LABELS[index] for index in np.argsort(-expected)]
    percent = [float(line.split(" %  ")[0]) for line in lines[1:]]
    np.testing.assert_allclose(percent, 100 * np.sort(expected)[::-1], atol=0.006)


def test_export_takes_the_labels_and_the_contract_along(described, tmp_path):
    status, _, errors = in_process(
        "export", "--model", described, "--formats", "saved_model", "--out", tmp_path / "out"
    )
    assert (status, errors) == (0, [])
    predictor = open_predictor(str(tmp_path / "out" / "saved_model"), None)
    assert (predictor.class_names, predictor.contract) == (LABELS, CONTRACT)
