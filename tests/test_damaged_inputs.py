"""Files of strangers with odd contents: one clear error, or the right answer, and never a traceback."""

import json
import shutil

import numpy as np
import onnx
import pytest
import safetensors.numpy
from command_line import in_process
from pictures import write_folder
from small_classifier import small_classifier

from keras_resnet.data.reading import Reading
from keras_resnet.errors import ArgumentError, ExportError, TrainingError
from keras_resnet.export import export, integrity
from keras_resnet.export.description import DESCRIPTION_KEY, read_description
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.manifest import read_manifest
from keras_resnet.export.runtimes import open_runtime
from keras_resnet.packing import pack
from keras_resnet.tasks.sources import open_source
from keras_resnet.training.checkpoint import read_progress
from keras_resnet.training.recipe import read_recipe

HUGE = "9" * 4400  # Python refuses to read so many digits
DEEP = "[" * 100_000


def refused(*command):
    """A command -> its error, which is one line without a traceback."""
    status, _, [error] = in_process(*command)
    assert status == 1
    assert error.startswith("error: ")
    return error


# --- packed sets --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    write_folder(folder / "images", {"ant": 4, "bee": 4})
    pack(folder / "images", folder / "shards")
    return folder / "shards"


def of_shard(**fields):
    return lambda described: described["splits"]["train"]["shards"][0].update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("splits"), "`splits` must be an object"),
        (lambda d: d.update(splits=[]), "`splits` must be an object"),
        (lambda d: d["splits"].pop("val"), "`splits` must have `train` and `val`"),
        (lambda d: d["splits"].update(train=1), "`train` must be an object with `shards`"),
        (lambda d: d["splits"]["train"].update(shards={}), "`shards` of `train` must be a list"),
        (lambda d: d["splits"]["train"].update(shards=["a"]), "`shards` of `train` must hold objects"),
        (lambda d: d.update(classes=[1, 2]), "`classes` must be a list of texts"),
        (lambda d: d.pop("classes"), "`classes` must be a list of texts"),
        (lambda d: d.update(classes=["a", "a"]), "`classes` must have no name twice"),
        (lambda d: d.update(classes=["a"]), r"label must lie in 0\.\.0"),
        (lambda d: d.pop("validation"), "`validation` must be a text"),
        (lambda d: d.update(task="zzz"), "its `task` is unknown. Received: zzz"),
        (of_shard(file="/etc/passwd"), "must be a name in the folder: '/etc/passwd'"),
        (of_shard(file="../images/ant/000.jpg"), "must be a name in the folder"),
        (of_shard(file=3), "must be a name in the folder: 3"),
        (of_shard(file="a\0"), "must be a name in the folder"),
        (of_shard(file=300 * "x"), "must be a name in the folder"),
        (of_shard(bytes="1"), "must be a number of bytes"),
        (of_shard(bytes=10**30), "must be a number of bytes"),
    ],
)
def test_a_damaged_description_of_shards_is_refused(packed, tmp_path, change, message):
    folder = shutil.copytree(packed, tmp_path / "shards")
    described = json.loads((folder / "dataset.json").read_text())
    change(described)
    (folder / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(ArgumentError, match=message):
        open_source(folder, "train")


@pytest.mark.parametrize("content", [b"", b"[1]", DEEP.encode(), b"\xff\xfe{", b"null", b'{"version": 2}'])
def test_a_description_of_shards_that_is_none_is_refused(packed, tmp_path, content):
    folder = shutil.copytree(packed, tmp_path / "shards")
    (folder / "dataset.json").write_bytes(content)
    assert "dataset.json" in refused("data", "check", folder)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("shard", lambda a: a + 99, "shard must lie in 0..0"),
        ("shard", lambda a: a - 1, "shard must lie in 0..0"),
        ("offset", lambda a: a - 10**9, "offset must lie in the file"),
        ("offset", lambda a: a + 10**9, "offset must lie in the file"),
        ("offset", lambda a: a * 1.5, "offset must hold whole numbers"),
        ("offset", lambda a: a[None], "offset must hold whole numbers in one row"),
        ("length", lambda a: a + 2**40, "length must lie in the file"),
        ("length", lambda a: a * 0 - 1, "length must lie in the file"),
        ("length", lambda a: a.astype("uint64") + np.uint64(2**63), "length must lie in the file"),
        ("length", lambda a: a[:-1], "length must have 6 numbers"),
        ("label", lambda a: a + 99, "label must lie in 0..1"),
        ("label", lambda a: a - 1, "label must lie in 0..1"),
        ("name_ends", lambda a: a[:-1], "name_ends must have 6 numbers"),
        ("name_ends", lambda a: a[::-1].copy(), "name_ends must rise"),
        ("name_ends", lambda a: a + 1, "name_ends must rise to the end of names"),
        ("names", lambda a: a.astype("int64"), "names must be bytes"),
        ("label", lambda a: np.array([print] * len(a), dtype=object), "must hold numbers: its type is object"),
        ("label", None, "can't be read"),
    ],
)
def test_a_damaged_index_of_shards_is_refused(packed, tmp_path, name, change, message):
    folder = shutil.copytree(packed, tmp_path / "shards")
    arrays = dict(np.load(folder / "index.npz"))
    values = arrays.pop(f"train_{name}")
    if change is not None:
        arrays[f"train_{name}"] = change(values)
    np.savez(folder / "index.npz", **arrays)
    with pytest.raises(ArgumentError) as caught:
        open_source(folder, "train")
    assert message in str(caught.value)
    assert str(caught.value).endswith("pack the set again")


def test_a_damaged_plan_is_of_another_run(packed, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".plan.json").write_text(DEEP)
    with pytest.raises(ArgumentError, match="unfinished `data pack` of other images"):
        pack(packed.parent / "images", tmp_path / "out")


# --- tables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (f"file,index\na.png,{HUGE}\n".encode(), "must be a whole number from 0, of at most 6 digits"),
        (b"file,index\na.png,99999999\n", "must be a whole number from 0, of at most 6 digits"),
        (b"file,label\na.png,a,b,c\n", "row 2 has more cells than the header"),
        (b"file,label\na\0.png,a\n", "binary content"),
        (b"file,label\n" + b"x" * 200_000 + b",a\n", "field larger than field limit"),
        ("file,label\na.png,ä\n".encode("utf-16-be"), "binary content"),
        ("file,label\na.png,ä\n".encode("latin-1"), "not a CSV file in UTF-8"),
        (f'file,label\na.png,"{{""choices"":{DEEP}"\n'.encode(), "must be a name or"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path, table, message):
    (tmp_path / "table.csv").write_bytes(table)
    assert message in refused("data", "check", tmp_path / "table.csv")


@pytest.mark.parametrize("labels", [np.array([0, 2**62]), np.array([0, 2**63], "uint64")])
def test_an_archive_with_huge_classes_is_refused(tmp_path, labels):
    np.savez(tmp_path / "a.npz", x_train=np.zeros((2, 8, 8, 3), "uint8"), y_train=labels)
    assert "class indices from 0, integers [N] of at most 6 digits" in refused("data", "check", tmp_path / "a.npz")


def test_an_empty_label_map_is_refused(tmp_path):
    for folder in ("images", "masks"):
        write_folder(tmp_path, {folder: 2})
    for mask in (tmp_path / "masks").iterdir():
        mask.rename(mask.with_suffix(".png"))
    for content in (b"", b"\xff\xfe", f"a:{HUGE},0,0::".encode()):
        (tmp_path / "labelmap.txt").write_bytes(content)
        assert "labelmap.txt: each line must be a name and a colour" in refused("data", "check", tmp_path)


# --- descriptions of artifacts ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def artifact(randomise, tmp_path_factory):
    pytest.importorskip("onnxruntime")
    model = randomise(small_classifier(classes=3), seed=4)
    return export(model, tmp_path_factory.mktemp("artifact"), ["onnx"], class_names=["a", "b", "c"]).paths["onnx"]


def described(artifact, path, change):
    """Artifact -> whole file at `path` whose description is changed."""
    description = read_description(artifact)
    changed = change(description)
    proto = onnx.load(str(artifact))
    onnx.helper.set_model_props(proto, {DESCRIPTION_KEY: json.dumps(description if changed is None else changed)})
    path.write_bytes(integrity.onnx_with_room(proto.SerializeToString()))
    integrity.seal(path)
    return path


def put(*place, value):
    *folders, last = place

    def change(description):
        for folder in folders:
            description = description[folder]
        description[last] = value

    return change


ODD = [
    (put("labels", value=["a"]), "'labels' must hold a name for each of the 3 classes"),
    (put("labels", value=[1, 2, 3]), "'labels' must be null or a list of texts"),
    (put("labels", value="abc"), "'labels' must be null or a list of texts"),
    (put("output", "classes", value=10**9), "'output.classes' must lie in 1..10000000. Received: 1000000000"),
    (put("output", "classes", value=True), "'output.classes' must lie in"),
    (put("output", "name", value=["probabilities"]), "'output.name' must be one of probabilities"),
    (put("output", value=None), "'output' must be an object"),
    (put("input", value=[1]), "'input' must be an object"),
    (put("input", "resize_short_side", value=16), "'input.resize_short_side' must be at least 'centre_crop', 32"),
    (put("input", "resize_short_side", value=None), "'input.resize_short_side' must be null where"),
    (put("input", "centre_crop", value=48), "must be at least 'centre_crop', 48"),
    (put("input", "centre_crop", value=16), "'input.centre_crop' must be the height and width of 'size', [32, 32]"),
    (put("input", "interpolation", value=["bilinear"]), "'input.interpolation' must be one of bilinear, bicubic"),
    (put("input", "layout", value="X"), "'input.layout' must be one of NHWC, NCHW. Received: 'X'"),
    (put("input", "layout", value={}), "'input.layout' must be one of"),
    (put("input", "size", value=["a", 1, 2]), "'input.size' must hold height, width and channels"),
    (put("input", "size", value=[32, 32]), "'input.size' must hold height, width and channels"),
    (put("input", "size", value="abc"), "'input.size' must hold height, width and channels"),
    (put("quantization", value="x"), "'quantization' must be an object or null"),
    (put("quantization", value=[1]), "'quantization' must be an object or null"),
    (put("quantization", value={}), "the field 'keep_float' is missing"),
    (put("quantization", value={"keep_float": [1]}), "'quantization.keep_float' must be a list of texts"),
    (put("weights", value=3), "'weights' must be an object or null"),
    (put("network", value=None), "'network' must be a text"),
    (put("task", value="zzz"), "'task' must be one of"),
    (put("task", value=["classify"]), "'task' must be a text"),
    (put("format", value={}), "'format' must be a text"),
    (put("schema_version", value="2"), "schema version 2, but only 3 is known"),
    (put("task_facts", value=[1]), "'task_facts' must be an object"),
    (
        lambda description: (
            description.update(format="tflite") or put("input", "colour_order", value="BGR")(description)
        ),
        "'input.colour_order' must be RGB in the format tflite",
    ),
    (lambda description: [1], "can't be read"),
    (lambda description: {}, "the field 'schema_version' is missing"),
]


@pytest.mark.parametrize(("change", "message"), ODD)
def test_an_odd_description_is_refused(artifact, tmp_path, change, message):
    with pytest.raises(ExportError, match="its description can't be read: ") as caught:
        read_description(described(artifact, tmp_path / "m.onnx", change))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_runtime_prints_nothing_about_a_file_that_it_refuses(artifact, tmp_path, capsys):
    """ONNX Runtime would print the fault of an operation whose name is no UTF-8, and try again."""
    proto = onnx.load(str(artifact))
    proto.graph.node[0].op_type = "QQQQQQ"
    path = tmp_path / "odd.onnx"
    path.write_bytes(proto.SerializeToString().replace(b"QQQQQQ", b"\xff" * 6))
    with pytest.raises(ExportError, match="ONNX Runtime can't open it as onnx"):
        open_runtime(path, FORMATS["onnx"])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("labels", value=["a"]), "must hold a name for each of the 3 classes"),
        (lambda d: d.update(labels=None) or put("output", "classes", value=7)(d), "states 7 classes, but it gives"),
        (lambda d: d["input"].update(size=[48, 48, 3], centre_crop=48, resize_short_side=48), "states an input of [48"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "evaluate", "benchmark"])
def test_commands_refuse_a_description_that_does_not_fit(artifact, packed, tmp_path, change, message, command):
    path = described(artifact, tmp_path / "m.onnx", change)
    images = packed.parent / "images"
    arguments = {"predict": (images, "--model", path), "evaluate": (path, images), "benchmark": (path,)}[command]
    assert message in refused(command, *arguments)


@pytest.mark.parametrize(
    "content",
    [
        b"[1]",
        DEEP.encode(),
        b"\xff\xfe{",
        b'{"schema_version": 2, "artifacts": []}',
        b'{"schema_version": 2, "artifacts": {"onnx": 3}}',
        b'{"schema_version": 2, "artifacts": {"onnx": {"file": "../x.onnx", "description": {"schema_version": 3}}}}',
        b'{"schema_version": 2, "artifacts": {"onnx": {"file": "x.onnx", "description": []}}}',
        b'{"schema_version": 2, "artifacts": {"onnx": {"file": "x.onnx", "description": {"schema_version": 2}}}}',
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ExportError, match="this version can't read the manifest"):
        read_manifest(tmp_path)
    assert "this version can't read the manifest" in refused("info", tmp_path)


@pytest.mark.parametrize("labels", [True, 3, 0.5, ["ant"], {"ant": 0}])
def test_a_manifest_has_descriptions_that_fit(artifact, tmp_path, labels):
    entry = {"file": artifact.name, "sha256": "0" * 64, "size_bytes": 1}
    entry["description"] = {**read_description(artifact), "labels": labels}
    (tmp_path / "manifest.json").write_text(json.dumps({"schema_version": 2, "artifacts": {"onnx": entry}}))
    assert f"{tmp_path / 'manifest.json'}: this version can't read the manifest: its 'labels' must" in refused(
        "info", tmp_path
    )


def test_a_file_of_class_names_must_be_text(model_file, tmp_path):
    (tmp_path / "names.txt").write_bytes(b"caf\xe9\n")
    error = refused("export", "--model", model_file, "--class-names", tmp_path / "names.txt", "--out", tmp_path / "out")
    assert "--class-names must name a text file in UTF-8" in error


# --- recipes and checkpoints --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"epochs = 999999999999", "`epochs` must be at most 4294967296. Received: epochs = 1e+12"),
        (b"size = 100000000", "`size` must be at most 10000. Received: size = 100000000"),
        (b"progressive_sizes = [100000000]", "`progressive_sizes` must hold sizes of at most 10000"),
        (b"batch_size = -99999999999999999999999", "`batch_size` must be at most"),
        (f"epochs = {HUGE}".encode(), "not a TOML file"),
        (f"data = {DEEP}".encode(), "not a TOML file"),
        (b"\xff\xfe", "not a TOML file"),
        (b'data = "a\\u0000b"', "`data` must be a text that UTF-8 can encode, without NUL characters"),
        (b"learning_rate = 1e999", "`learning_rate` must be finite"),
    ],
)
def test_a_recipe_with_absurd_values_is_refused(tmp_path, text, message):
    (tmp_path / "recipe.toml").write_bytes(text)
    assert message in refused("train", tmp_path / "recipe.toml", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_whose_name_is_no_text_is_refused_before_the_run(tmp_path):
    with pytest.raises(ArgumentError, match="rename that"):
        read_recipe(None, {"data": f"{tmp_path}/caf\udce9"})


PROGRESS = {
    "step": 2,
    "epoch": 1,
    "batch": 0,
    "best_epoch": 1,
    "history": [{"epoch": 1, "loss": 0.5}],
    "fingerprint": "f",
    "contract": {"size": 32, "resize": 32, "interpolation": "bilinear"},
    "problems": [["a", "b", True]],
}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"step": "x"}, "numbers must be whole"),
        ({"step": -1}, "numbers must be whole"),
        ({"epoch": 1.5}, "numbers must be whole"),
        ({"batch": 10**400}, "numbers must be whole"),
        ({"history": [1]}, "`history` must be a list of objects"),
        ({"history": [{"loss": "=1+1"}]}, "`history` must hold numbers"),
        ({"fingerprint": None}, "`fingerprint` must be a text"),
        ({"contract": {"size": -1}}, "'contract' must have 1 <= size"),
        ({"contract": [1]}, "`contract` must be an object"),
        ({"problems": [["\x1b[31m"]]}, "`problems` must hold a name, a reason and a truth value"),
        ({"problems": 3}, "`problems` must be a list"),
        ({"foo": 1}, "unexpected keyword argument 'foo'"),
    ],
)
def test_a_checkpoint_with_odd_progress_is_refused(tmp_path, fields, message):
    write_checkpoint(tmp_path, json.dumps(PROGRESS))
    assert read_progress(tmp_path)[1].history == PROGRESS["history"]
    write_checkpoint(tmp_path, json.dumps(PROGRESS | fields))
    with pytest.raises(TrainingError, match="no readable checkpoint to continue from") as caught:
        read_progress(tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize("progress", [DEEP, "[]", "3", "", "{"])
def test_a_checkpoint_whose_progress_is_none_is_refused(tmp_path, progress):
    write_checkpoint(tmp_path, progress)
    with pytest.raises(TrainingError, match="no readable checkpoint to continue from"):
        read_progress(tmp_path)


def write_checkpoint(folder, progress):
    path = folder / "step-000000002.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(1, "float32")}, path, metadata={"progress": progress})


def test_a_checkpoint_of_another_recipe_is_refused(packed, tmp_path):
    """Its history lacks figures, or its steps are none of this recipe."""
    data = packed.parent / "images"
    recipe = read_recipe(None, {"data": str(data), "network": "resnet20", "size": 32, "epochs": 3, "batch_size": 4})
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    fingerprint = open_source(data, "train", reading=Reading()).fingerprint
    whole = {"epoch": 1, "learning_rate": 0.1, "loss": 1, "top1_percent": 1, "val_loss": 1, "val_top1_percent": 1}
    for history, step, message in (
        ([{"epoch": 1}], 1, "its history lacks learning_rate"),
        ([whole], 9, "9 steps, not"),
    ):
        fields = {"fingerprint": fingerprint, "history": history, "step": step}
        write_checkpoint(tmp_path / "checkpoints", json.dumps(PROGRESS | fields))
        status, _, errors = in_process("train", "--resume", tmp_path)
        assert status == 1
        assert "the checkpoint is of another recipe, or damaged: " in errors[-1]
        assert message in errors[-1]
