"""`keras-resnet layout`: what other servers find gives the artifact's answers, and their own schemas read it."""

import functools
import importlib.util
import json
import shutil
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import in_process
from pictures import jpeg, picture
from small_classifier import small_classifier
from small_detector import small_detector

from keras_resnet import load
from keras_resnet.errors import ArgumentError, ExportError
from keras_resnet.export import Options, export, pipeline
from keras_resnet.export.checks import Report
from keras_resnet.layouts.table import LAYOUTS
from keras_resnet.layouts.writing import Written, lay_out
from keras_resnet.serve.named_files import ServedFile, served_files

pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")

OLD = Path(__file__).parents[1] / "old_files"
NAMES = ["ant", "bee", "cow"]
IMAGES = [jpeg(picture(height, width, seed)) for seed, (height, width) in enumerate([(60, 80), (131, 77), (50, 50)])]
OF_SAVED_MODELS = ("tf-serving", "sagemaker", "vertex")
needs_serving = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_serving") is None,
    reason="tensorflow-serving-api is not installed: pip install 'keras-resnet-kit[tf-serving]'",
)


@pytest.fixture(scope="module")
def files(randomise: Callable, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Artifacts by task and kind. Those written here are not verified, which would take most time."""
    model = randomise(small_classifier(classes=3), seed=4)
    made = written(model, tmp_path_factory.mktemp("classifier"), ["saved_model", "onnx", "openvino", "tflite"])
    return {**{f"classify {kind}": path for kind, path in made.items()}, "segment onnx": OLD / "segmenter.onnx"}


@pytest.fixture(scope="module")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    made = written(small_detector(3), tmp_path_factory.mktemp("detector"), ["saved_model", "onnx"])
    return {f"detect {kind}": path for kind, path in made.items()}


def written(model: Any, folder: Path, formats: list[str]) -> Mapping[str, Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "verify", lambda path, row, reference: Report(row.name, (), 1, 0.0, 0.0, 100.0))
        options = Options(default_signature="jpeg")
        return export(model, folder, formats, class_names=NAMES, options=options).paths


def laid_out(server: str, path: Path, out: Path, name: str = "flowers", **given: Any) -> Written:
    if server == "kserve":
        given.setdefault("storage_uri", "s3://bucket/models/")
    return lay_out(LAYOUTS[server], ServedFile(name, None, str(path)), out, **given)


def loaded_back(version: Path, folder: Path) -> Any:
    """Folder of a version -> the artifact in it, opened."""
    archive = version / "model.tar.gz"
    if archive.exists():
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        version = folder / version.name
    [file] = served_files([f"x={version}"])
    return load(file.path)


def assert_equal_answers(found: Any, expected: Any) -> None:
    for image in IMAGES:
        [received], [wanted] = found.predict([image]), expected.predict([image])
        assert received.keys() == wanted.keys()
        for name, values in wanted.items():
            np.testing.assert_array_equal(received[name], values)


CASES = [
    *((server, "classify saved_model") for server in (*OF_SAVED_MODELS, "kserve")),
    *((server, f"{task} onnx") for server in ("triton", "ovms", "kserve") for task in ("classify", "segment")),
    *((server, "classify openvino") for server in ("triton", "ovms")),
]
CASES_OF_DETECTORS = [
    *((server, "detect saved_model") for server in (*OF_SAVED_MODELS, "kserve")),
    *((server, "detect onnx") for server in ("triton", "ovms", "kserve")),
]


@pytest.mark.parametrize(("server", "artifact"), CASES)
def test_what_a_server_finds_gives_the_artifacts_answers(server, artifact, files, tmp_path) -> None:
    check_layout(server, files[artifact], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("server", "artifact"), CASES_OF_DETECTORS)
def test_what_a_server_finds_of_a_detector_gives_its_answers(server, artifact, detectors, tmp_path) -> None:
    check_layout(server, detectors[artifact], tmp_path)


def check_layout(server: str, path: Path, folder: Path) -> None:
    """Asserts that a layout, loaded back, gives the artifact's answers, and that nothing is left beside it."""
    if path.name == "saved_model":
        pytest.importorskip("tensorflow_serving")
    found = laid_out(server, path, folder / "models", version=3)
    assert found.paths[0].name == "3"
    assert_equal_answers(loaded_back(found.paths[0], folder), load(path))
    assert [each for each in folder.rglob("*") if ".partial" in each.name] == []


def test_a_changed_file_in_a_layout_gives_other_answers(files, tmp_path) -> None:
    """The comparison above sees differences."""
    written = laid_out("triton", files["classify onnx"], tmp_path)
    shutil.copy(OLD / "classifier.onnx", written.paths[0] / "model.onnx")
    with pytest.raises(AssertionError):
        assert_equal_answers(loaded_back(written.paths[0], tmp_path), load(files["classify onnx"]))


# --- Triton -------------------------------------------------------------------------------------------------------


@functools.cache
def triton_schema() -> Any:
    """-> the module of Triton's configuration, without its package, whose other messages have the names of KServe's."""
    found = importlib.util.find_spec("tritonclient")
    if found is None or not found.submodule_search_locations:
        pytest.skip("tritonclient is not installed: pip install tritonclient")
    file = Path(found.submodule_search_locations[0], "grpc", "model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("triton_model_config_pb2", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def triton_config(text: str) -> Any:
    """Text -> Triton's own `ModelConfig`."""
    text_format = pytest.importorskip("google.protobuf.text_format")
    return text_format.Parse(text, triton_schema().ModelConfig())


@pytest.mark.parametrize("artifact", ["classify onnx", "classify openvino", "segment onnx"])
def test_tritons_schema_reads_the_configuration(artifact, files, tmp_path) -> None:
    config = check_configuration(files[artifact], tmp_path)
    if artifact.startswith("classify"):
        assert (tmp_path / "flowers" / config.output[0].label_filename).read_text().splitlines() == NAMES


@pytest.mark.slow
def test_tritons_schema_reads_the_configuration_of_a_detector(detectors, tmp_path) -> None:
    config = check_configuration(detectors["detect onnx"], tmp_path)
    assert [output.name for output in config.output if output.HasField("reshape")] == ["num_detections"]


def check_configuration(path: Path, folder: Path) -> Any:
    """-> Triton's own object, which has the names and shapes of the artifact's tensors."""
    laid_out("triton", path, folder)
    text = (folder / "flowers" / "config.pbtxt").read_text()
    config = triton_config(text)
    assert (config.name, config.backend) == ("flowers", "openvino" if path.is_dir() else "onnxruntime")
    assert (config.max_batch_size, config.HasField("dynamic_batching")) == (16, True)
    predictor = load(path)
    [given] = config.input
    height, width = (side or 48 for side in predictor.contract.sides)
    assert (given.name, [48 if side == -1 else side for side in given.dims]) == ("image", [height, width, 3])
    answers = predictor.run(np.zeros((2, height, width, 3), np.uint8))
    assert [output.name for output in config.output] == list(answers)
    for output, values in zip(config.output, answers.values(), strict=True):
        sides = list(output.reshape.shape) if output.HasField("reshape") else list(output.dims)
        assert len(sides) == values.ndim - 1
        assert all(side in (-1, real) for side, real in zip(sides, values.shape[1:], strict=True))
    with pytest.raises(Exception, match=r"no field named .*max_batchsize"):
        triton_config(text.replace("max_batch_size", "max_batchsize"))
    with pytest.raises(Exception, match="TYPE_FP33"):
        triton_config(text.replace("TYPE_FP32", "TYPE_FP33", 1))
    return config


def test_the_configuration_of_a_classifier(files, tmp_path) -> None:
    """As Triton's schema read it, so that this is tested without the schema too."""
    laid_out("triton", files["classify onnx"], tmp_path)
    assert (tmp_path / "flowers" / "config.pbtxt").read_text() == (
        'name: "flowers"\nbackend: "onnxruntime"\nmax_batch_size: 16\n'
        'input { name: "image" data_type: TYPE_FP32 dims: [32, 32, 3] }\n'
        'output { name: "probabilities" data_type: TYPE_FP32 dims: [3] label_filename: "labels.txt" }\n'
        "dynamic_batching { }\n"
    )


def test_versions_have_one_configuration(files, tmp_path) -> None:
    laid_out("triton", files["classify onnx"], tmp_path)
    written = laid_out("triton", files["classify onnx"], tmp_path, version=2)
    assert sorted(entry.name for entry in (tmp_path / "flowers").iterdir()) == ["1", "2", "config.pbtxt", "labels.txt"]
    assert [file.version for file in served_files([str(tmp_path / "flowers")])] == ["1", "2"]
    assert written.paths == [tmp_path / "flowers" / "2"]
    with pytest.raises(ArgumentError, match=r"config\.pbtxt is for all versions.*Give another name"):
        laid_out("triton", files["segment onnx"], tmp_path, version=3)
    with pytest.raises(ArgumentError, match=r"2 exists already\. Give --version 3 to put a newer version"):
        laid_out("triton", files["classify onnx"], tmp_path, version=2)
    assert not (tmp_path / "flowers" / "3").exists()


# --- TensorFlow Serving, SageMaker, Vertex ------------------------------------------------------------------------


@needs_serving
def test_tensorflow_servings_schema_reads_the_list_of_models(files, tmp_path) -> None:
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    for name in ("flowers", "ants"):
        laid_out("tf-serving", files["classify saved_model"], tmp_path, name)
    written = laid_out("tf-serving", OLD / "classifier_saved_model", tmp_path, "boxes-1.0")
    assert written.paths == [tmp_path / "boxes-1.0" / "1", tmp_path / "models.config"]
    text = written.paths[1].read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    found = {entry.name: (entry.base_path, entry.model_platform) for entry in config.model_config_list.config}
    assert found == {name: (f"/models/{name}", "tensorflow") for name in ("flowers", "ants", "boxes-1.0")}
    with pytest.raises(text_format.ParseError, match='no field named "basepath"'):
        text_format.Parse(text.replace("base_path", "basepath"), model_server_config_pb2.ModelServerConfig())


@needs_serving
def test_warm_up_requests_are_answered(files, tmp_path) -> None:
    check_warm_up(files["classify saved_model"], tmp_path)


@needs_serving
@pytest.mark.slow
def test_warm_up_requests_of_a_detector_are_answered(detectors, tmp_path) -> None:
    check_warm_up(detectors["detect saved_model"], tmp_path)


def check_warm_up(path: Path, folder: Path) -> None:
    """Asserts that each request of the warm-up asks a signature of the artifact, which answers it."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    version = laid_out("tf-serving", path, folder).paths[0]
    signatures = tf.saved_model.load(str(version)).signatures
    asked = {}
    for record in tf.data.TFRecordDataset(str(version / "assets.extra" / "tf_serving_warmup_requests")):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == "flowers"
        given = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        answer = signatures[request.model_spec.signature_name](**given)
        asked[request.model_spec.signature_name] = list(given)
        assert {values.shape[0] for values in answer.values()} == {1}
    assert asked == {"serving_default": ["image_bytes"], "serve_jpeg": ["image_bytes"], "serve_pixels": ["image"]}


@needs_serving
def test_the_archive_of_sagemaker_holds_a_version_and_nothing_of_this_machine(files, tmp_path) -> None:
    written = laid_out("sagemaker", files["classify saved_model"], tmp_path, version=12345)
    assert [path.name for path in written.paths[0].iterdir()] == ["model.tar.gz"]
    with tarfile.open(written.paths[0] / "model.tar.gz") as archive:
        entries = {entry.name: entry for entry in archive}
    assert {"12345", "12345/saved_model.pb", "12345/variables/variables.index"} <= entries.keys()
    assert all(name == "12345" or name.startswith("12345/") for name in entries)
    assert {(e.uid, e.gid, e.uname, e.gname, e.mtime) for e in entries.values()} == {(0, 0, "", "", 0)}
    again = laid_out("sagemaker", files["classify saved_model"], tmp_path / "again", version=12345)
    first, second = ((each.paths[0] / "model.tar.gz").read_bytes() for each in (written, again))
    assert first == second


@needs_serving
@pytest.mark.parametrize("server", ["sagemaker", "vertex"])
def test_services_that_ask_the_default_signature_get_a_note_about_pixels(server, files, randomise, tmp_path) -> None:
    assert laid_out(server, files["classify saved_model"], tmp_path).notes == []
    old = laid_out(server, OLD / "classifier_saved_model", tmp_path, "pixels")
    assert "--default-signature jpeg" in old.notes[0]


@needs_serving
def test_vertex_finds_the_tag_and_the_signature_for_image_files(files, tmp_path) -> None:
    import tensorflow as tf

    version = laid_out("vertex", files["classify saved_model"], tmp_path).paths[0]
    graph = tf.saved_model.load(str(version), tags=["serve"])
    served = graph.signatures["serving_default"]
    assert {name: spec.dtype for name, spec in served.structured_input_signature[1].items()} == {
        "image_bytes": tf.string
    }
    predictor = load(files["classify saved_model"])
    answer = served(image_bytes=tf.constant(IMAGES))
    expected = [each["probabilities"] for each in predictor.predict(IMAGES)]
    np.testing.assert_allclose(answer["probabilities"].numpy(), expected, atol=0.01)  # one step of a pixel
    assert [row[0].decode() for row in answer["labels"].numpy()] == [NAMES[np.argmax(each)] for each in expected]


@needs_serving
def test_a_savedmodel_without_the_tag_is_refused(files, tmp_path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    from keras_resnet.export.integrity import seal

    folder = tmp_path / "saved_model"
    shutil.copytree(files["classify saved_model"], folder)
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    saved.meta_graphs[0].meta_info_def.tags[:] = ["train"]
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    seal(folder)
    with pytest.raises(ExportError):
        laid_out("tf-serving", folder, tmp_path / "models")
    assert list((tmp_path / "models").rglob("*")) in ([], [tmp_path / "models" / "flowers"])


# --- KServe -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("artifact", ["classify onnx", "classify saved_model"])
def test_kserves_models_read_the_manifest(artifact, files, tmp_path) -> None:
    yaml = pytest.importorskip("yaml")
    if artifact.endswith("saved_model"):
        pytest.importorskip("tensorflow_serving")
    written = laid_out("kserve", files[artifact], tmp_path)
    inner = "flowers/1" if artifact.endswith("saved_model") else "flowers/flowers/1"
    assert written.paths == [tmp_path / inner, tmp_path / "flowers.yaml"]
    manifest = yaml.safe_load(written.paths[1].read_text())
    model = manifest["spec"]["predictor"]["model"]
    assert model["storageUri"] == "s3://bucket/models/flowers"
    assert model["modelFormat"]["name"] == ("tensorflow" if "saved" in artifact else "onnx")
    if importlib.util.find_spec("kserve") is None:
        pytest.skip("kserve is not installed")
    from manifests import misfits

    assert list(misfits(manifest, "V1beta1InferenceService", "manifest")) == []
    model["storageURI"] = model.pop("storageUri")
    assert list(misfits(manifest, "V1beta1InferenceService", "manifest")) == [
        "manifest.spec.predictor.model.storageURI is unknown to V1beta1ModelSpec"
    ]


@pytest.mark.parametrize("name", ["Flowers", "1flowers", "flowers.v1", "flowers-", "f" * 64])
def test_a_name_that_is_no_host_name_is_refused(name, files, tmp_path) -> None:
    with pytest.raises(ArgumentError, match="the name of an InferenceService must begin"):
        laid_out("kserve", files["classify onnx"], tmp_path, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", [None, "bucket/models", 's3://bucket/"x', "s3://a b"])
def test_kserve_needs_an_address(address, files, tmp_path) -> None:
    with pytest.raises(ArgumentError, match="kserve needs --storage-uri"):
        laid_out("kserve", files["classify onnx"], tmp_path, storage_uri=address)


# --- OpenVINO Model Server ----------------------------------------------------------------------------------------


def test_openvino_model_server_gets_a_list_of_models(files, tmp_path) -> None:
    for kind in ("onnx", "openvino"):
        written = laid_out("ovms", files[f"classify {kind}"], tmp_path, kind)
    assert json.loads(written.paths[1].read_text()) == {
        "model_config_list": [
            {"config": {"name": name, "base_path": f"/models/{name}"}} for name in ("onnx", "openvino")
        ]
    }
    for kind, file in (("onnx", "model.onnx"), ("openvino", "model.xml")):
        [tensor] = openvino.Core().read_model(tmp_path / kind / "1" / file).inputs
        assert tensor.any_name == "image"


def test_a_file_for_red_green_blue_has_a_warning(files, randomise, tmp_path, monkeypatch) -> None:
    written = laid_out("ovms", files["classify onnx"], tmp_path)
    assert "export with --colour-order bgr" in written.notes[0]
    monkeypatch.setattr(pipeline, "verify", lambda path, row, reference: Report(row.name, (), 1, 0.0, 0.0, 100.0))
    model = randomise(small_classifier(classes=3), seed=4)
    made = export(model, tmp_path / "bgr", ["onnx"], options=Options(colour_order="BGR"))
    notes = laid_out("ovms", made.paths["onnx"], tmp_path, "blue").notes
    assert [("without a crop" in note, "--colour-order" in note) for note in notes] == [(True, False)]


# --- arguments, and what is left behind ---------------------------------------------------------------------------


@pytest.mark.parametrize("server", LAYOUTS)
def test_a_server_takes_only_some_kinds_of_artifacts(server, files, tmp_path) -> None:
    for kind in {"saved_model", "onnx", "openvino", "tflite"} - set(LAYOUTS[server].kinds):
        with pytest.raises(ArgumentError, match=rf"{server} takes .*Received: .*{files[f'classify {kind}'].name}"):
            laid_out(server, files[f"classify {kind}"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_verified_or_has_links_is_refused(files, tmp_path) -> None:
    unverified = tmp_path / "model.onnx.unverified"
    shutil.copy(files["classify onnx"], unverified)
    with pytest.raises(ArgumentError, match="is not verified"):
        laid_out("triton", unverified, tmp_path / "models")
    folder = tmp_path / "model_openvino"
    shutil.copytree(files["classify openvino"], folder)
    (folder / ".notes").symlink_to("/etc/hostname")
    with pytest.raises(ArgumentError, match=r"must be a folder without links. It has .*\.notes"):
        laid_out("triton", folder, tmp_path / "models")
    with pytest.raises(ArgumentError, match="--storage-uri is only for kserve"):
        laid_out("triton", files["classify onnx"], tmp_path / "models", storage_uri="s3://bucket")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_failed_copy_leaves_nothing(files, tmp_path, monkeypatch) -> None:
    def full(source: Any, target: Any) -> None:
        target.write_bytes(b"part")
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        laid_out("triton", files["classify onnx"], tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    laid_out("triton", files["classify onnx"], tmp_path)
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        laid_out("triton", files["classify onnx"], tmp_path, version=2)
    assert sorted(entry.name for entry in (tmp_path / "flowers").iterdir()) == ["1", "config.pbtxt", "labels.txt"]


def test_the_command(files, tmp_path) -> None:
    status, lines, errors = in_process("layout", "triton", f"flowers={files['classify onnx']}", "--out", tmp_path)
    assert (status, errors) == (0, [])
    assert lines == [f"written: {tmp_path}/flowers/1", f"to start it: tritonserver --model-repository={tmp_path}"]
    for wrong, told in (
        (["torchserve", files["classify onnx"]], "the server must be one of tf-serving, triton, ovms, kserve"),
        (["triton", f"a b={files['classify onnx']}"], "the name of an artifact must begin with a letter or digit"),
        (["triton", "../flowers=x.onnx"], "the name of an artifact must begin"),
        (["triton", "flowers=x.onnx"], "no such file"),
        (["triton", files["classify onnx"]], "exists already"),
    ):
        out = tmp_path if told == "exists already" else tmp_path / "none"
        if told == "exists already":
            wrong[1] = f"flowers={wrong[1]}"
        status, _, errors = in_process("layout", *wrong, "--out", out)
        assert (status, told in errors[0]) == (1, True), errors
    assert not (tmp_path / "none").exists()
    (tmp_path / "flowers" / "2").mkdir()
    shutil.copy(files["classify onnx"], tmp_path / "flowers" / "2" / "model.onnx")
    status, _, errors = in_process("layout", "triton", tmp_path / "flowers", "--out", tmp_path / "none")
    assert (status, "layout takes one artifact" in errors[0]) == (1, True)
