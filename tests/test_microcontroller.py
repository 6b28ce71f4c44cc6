"""TensorFlow Lite Micro as a runtime of integer TFLite files: numbers, the arena, and what a device can't run."""

import re
import sys

import numpy as np
import pytest
from command_line import in_process
from small_classifier import small_classifier

from keras_resnet import contained
from keras_resnet.errors import ExportError, MissingDependencyError
from keras_resnet.export import export, microcontroller
from keras_resnet.export.artifact import open_artifact
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.inner_tensors import open_inner
from keras_resnet.export.microcontroller import LARGEST_ARENA_BYTES, open_micro, smallest_arena_bytes
from keras_resnet.export.pipeline import examine_artifact
from keras_resnet.export.running import MICRO, Running
from keras_resnet.export.runtimes import open_runtime
from keras_resnet.quiet import quiet_stderr
from keras_resnet.tasks import contract_of

litert = pytest.importorskip("ai_edge_litert.interpreter")
pytest.importorskip("tflite_micro", reason="tflite-micro has wheels only for Linux on x86-64")

IN_MICRO = Running("tflite-micro")
IMAGES = synthetic_images((32, 32, 3), count=20, seed=5)
CALIBRATION = synthetic_images((32, 32, 3), count=40, seed=8)


@pytest.fixture(scope="module")
def model(randomise):
    return randomise(small_classifier(), seed=4)


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("micro")
    return export(model, folder, ["tflite-int8"], calibration=CALIBRATION).paths["tflite-int8"]


def examined(path, model):
    return examine_artifact(path, model, images=CALIBRATION, contract=contract_of(model), running=IN_MICRO)


# --- numbers ------------------------------------------------------------------------------------------------------


def test_answers_are_litert_s_within_a_step(path):
    """LiteRT's reference kernels compute as a microcontroller's do; its fast ones round more often otherwise."""
    received = open_artifact(path, running=IN_MICRO).predict(IMAGES)["probabilities"]
    reference = litert.Interpreter(
        str(path), experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF
    ).get_signature_runner("serving_default")
    expected = np.concatenate([reference(image=image[None])["probabilities"] for image in IMAGES])
    steps = np.abs(np.round(received * 256) - expected)
    assert steps.max() <= 1
    assert (steps == 0).mean() > 0.95
    fast = open_artifact(path).predict(IMAGES)["probabilities"]
    assert np.abs(received - fast).max() <= 3 / 256
    assert np.ptp(expected.astype(int), axis=0).max() > 20  # the images get different answers


def test_all_inner_tensors_are_litert_s(path):
    expected, received = (open_inner(path, runtime)(IMAGES[:2]) for runtime in ("LiteRT", MICRO))
    assert set(expected) <= set(received)
    assert len(expected) > 10
    for name, values in expected.items():
        steps = np.unique(np.abs(np.diff(np.unique(values))))[:1] if np.ptp(values) else np.ones(1)
        assert np.abs(received[name] - values).max() <= 1.01 * steps[0], name


def test_a_file_is_verified_with_all_layers(path, model):
    report = examined(path, model)
    found = {check.name: check for check in report.checks}
    assert report.failures == []
    assert {"layer noise", "channel noise", "boundary error", "top-1 agreement"} <= set(found)
    assert found["second batch size"].measured.startswith("only batch size 1")
    assert found["smallest arena"].required == f"at most {LARGEST_ARENA_BYTES:,} bytes"
    assert found["smallest arena"].measured == f"{smallest_arena_bytes(path.read_bytes()):,} bytes"


def test_another_model_is_refused(path, randomise):
    report = examined(path, randomise(small_classifier(), seed=7))
    assert {"unexplained variance", "layer noise"} <= {check.name for check in report.failures}


# --- the arena ----------------------------------------------------------------------------------------------------


def test_the_smallest_arena_is_what_the_runtime_records(path):
    content = path.read_bytes()
    smallest = smallest_arena_bytes(content)
    interpreter = open_micro(content)
    with quiet_stderr() as said:
        interpreter.print_allocations()
        said.seek(0)
        [recorded] = re.findall(rb"Arena allocation total (\d+) bytes", said.read())
    assert smallest == int(recorded)
    # Three maps of 16 x 16 x 8 and one of 8 x 8 x 16 would fit, and the image, which is read first, is larger.
    assert 32 * 32 * 3 < smallest < 40_000
    open_micro(content, smallest)
    with pytest.raises(ExportError, match="need an arena of more than"):
        open_micro(content, smallest - 16)


def test_an_arena_that_no_device_has_is_an_error(path, monkeypatch):
    monkeypatch.setattr(microcontroller.open_micro, "__defaults__", (4096,))
    with pytest.raises(ExportError, match=r"tflite: .* need an arena of more than 4,096 bytes, and hardly a micro"):
        open_runtime(path, IN_MICRO.of(FORMATS["tflite-int8"]))


# --- what a device can't run ---------------------------------------------------------------------------------------


def test_an_operator_that_it_lacks_is_named():
    import tensorflow as tf

    function = tf.function(
        lambda x: tf.reverse_sequence(x, tf.constant([2], tf.int32), seq_axis=1),
        input_signature=[tf.TensorSpec((1, 4, 3), tf.float32)],
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    with quiet_stderr():
        content = converter.convert()
    with pytest.raises(ExportError, match="has no operator REVERSE_SEQUENCE, which this file needs"):
        open_micro(content)


@pytest.mark.parametrize(
    ("name", "numbers"), [("tflite", "float32"), ("tflite-float16", "float16"), ("onnx-int8", "int8")]
)
def test_other_formats_are_refused(name, numbers):
    with pytest.raises(ExportError, match=rf"is for tflite-int8 files: .* Received: {name}, with {numbers} in it"):
        IN_MICRO.of(FORMATS[name])


def test_it_is_first_opened_in_a_process_of_its_own(path, monkeypatch, tmp_path):
    monkeypatch.setattr(contained, "_expendable", False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    row = IN_MICRO.of(FORMATS["tflite-int8"])
    monkeypatch.setattr(contained, "LARGEST_BYTES", 1_000_000)
    with pytest.raises(ExportError, match=r"takes more than 0\.0 GB of memory"):
        open_runtime(path, row)
    monkeypatch.setattr(contained, "LARGEST_BYTES", 16_000_000_000)
    assert open_runtime(path, row).run(IMAGES[:1])["probabilities"].shape == (1, 10)


def test_the_extra_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tflite_micro", None)
    with pytest.raises(MissingDependencyError, match=r"'tflite_micro'.*pip install 'keras-resnet-kit\[micro\]'"):
        open_artifact(path, running=IN_MICRO)


# --- the commands -------------------------------------------------------------------------------------------------


def test_the_commands(path, model_file, image_folder):
    options = ("--model", model_file, "--images", image_folder, "--runtime", "tflite-micro")
    status, printed, _ = in_process("verify", path, *options)
    assert status == 0, printed
    shown = f"{smallest_arena_bytes(path.read_bytes()):,} bytes"
    assert any("smallest arena" in line and shown in line for line in printed)
    status, printed, _ = in_process("predict", image_folder / "03.png", "--model", path, "--runtime", "tflite-micro")
    assert (status, len(printed)) == (0, 6)
