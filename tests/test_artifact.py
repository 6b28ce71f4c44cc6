"""Artifacts on their own: what they say about themselves, run on image files, measured on labelled ones."""

import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from keras_resnet.cli.main import app
from keras_resnet.errors import AccuracyError
from keras_resnet.export import LabelledImages, export, runtimes
from keras_resnet.export.artifact import open_artifact
from keras_resnet.export.formats import format_named
from keras_resnet.export.images import synthetic_images

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")

IMAGES = synthetic_images((32, 32, 3), count=40, seed=8)


@pytest.fixture(scope="module")
def exported(small_exports):
    return small_exports


@pytest.fixture(scope="module")
def model(exported):
    return exported.model


@pytest.fixture(scope="module")
def pictures(model, tmp_path_factory):
    """Folder of class folders, named by label; the class of each is the model's own answer."""
    folder = tmp_path_factory.mktemp("pictures")
    for index, answer in enumerate(np.asarray(model(IMAGES[:12], training=False)).argmax(axis=1)):
        path = folder / str(answer) / f"{index:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.pad(IMAGES[index], ((2, 3), (2, 3), (0, 0)))).save(path)  # 37 pixels: the crop is the image
    return folder


@pytest.mark.parametrize("name", ["saved_model", "tflite", "onnx-int8"])
def test_an_artifact_carries_all_that_it_takes_to_run_it(name, exported, model):
    artifact = open_artifact(exported.paths[name])
    assert (artifact.class_names, artifact.classes) == (exported.class_names, 10)
    assert (artifact.contract.size, artifact.contract.resize) == (32, 37)
    expected = np.asarray(model(IMAGES[:5], training=False))
    np.testing.assert_allclose(
        artifact.predict(IMAGES[:5])["probabilities"], expected, atol=0.1 if name == "onnx-int8" else 1e-5
    )
    result = CliRunner().invoke(app, ["info", str(exported.paths[name]), "--json"])
    assert json.loads(result.stdout)["format"] == name


@pytest.mark.parametrize("name", ["tflite", "onnx-int8"])
def test_a_file_is_hashed_and_its_description_read_once(name, exported, monkeypatch):
    calls = []
    for function in ("check_whole", "read_description"):
        whole = getattr(runtimes, function)
        monkeypatch.setattr(runtimes, function, lambda path, f=whole, n=function: calls.append(n) or f(path))
    assert open_artifact(exported.paths[name]).class_names == exported.class_names
    assert calls == ["check_whole", "read_description"]


def test_tflite_metadata_is_packed_as_standard_tools_read_it(exported):
    with zipfile.ZipFile(exported.paths["tflite"]) as archive:
        assert archive.read("labels.txt").decode().splitlines() == exported.class_names
    assert b"M001" in exported.paths["tflite"].read_bytes()


def test_info_and_predict_import_no_tensorflow(exported, pictures):
    code = """if True:
        import sys
        from keras_resnet.cli.main import app
        app(sys.argv[1:], standalone_mode=False)
        assert "tensorflow" not in sys.modules and "keras" not in sys.modules
    """
    for arguments in (["info"], ["predict", str(pictures), "--model"]):
        command = [sys.executable, "-c", code, *arguments, str(exported.paths["tflite"])]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert "thing" in result.stdout


def test_evaluate_counts_and_names_what_it_cannot_read(exported, pictures, tmp_path):
    result = CliRunner().invoke(app, ["evaluate", str(exported.paths["tflite"]), str(pictures), "--split", "all"])
    assert result.exit_code == 0
    assert result.stdout.split()[:8] == ["images", "12", "top-1", "%", "100.00", "top-5", "%", "100.00"]
    table = tmp_path / "labels.csv"
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    first = next(pictures.rglob("*.png"))
    for name in ("first.png", "second.png"):
        (tmp_path / name).write_bytes(first.read_bytes())
    other = (int(first.parent.name) + 1) % 10
    table.write_text(f"file,index\nfirst.png,{first.parent.name}\nsecond.png,{other}\nbroken.png,0\n")
    result = CliRunner().invoke(app, ["evaluate", str(exported.paths["tflite"]), str(table), "--split", "all"])
    assert result.exit_code == 1
    assert result.output.split()[:5] == ["images", "2", "top-1", "%", "50.00"]
    assert "broken.png: not an image" in result.output


def test_a_drop_of_accuracy_is_refused(model, tmp_path, monkeypatch):
    """The artifact answers as its model does; the labels say that the model was right, and the artifact is not."""
    from keras_resnet.export import pipeline

    classes = np.asarray(model(IMAGES, training=False)).argmax(axis=1)
    report = export(model, tmp_path / "good", ["tflite"], data=(IMAGES, classes))
    assert report.accuracy["tflite"].as_dict() == {
        "images": 40,
        "top1_percent": 100.0,
        "top5_percent": 100.0,
        "drop_points": 0.0,
        "agreement_percent": 100.0,
    }
    genuine = pipeline.predict

    def rolled(*rest):
        return {name: np.roll(values, 1, axis=1) for name, values in genuine(*rest).items()}

    monkeypatch.setattr(pipeline, "predict", rolled)
    with pytest.raises(AccuracyError, match=r"100\.00 points below its model; allowed: 0\.5"):
        export(model, tmp_path / "bad", ["tflite"], data=(IMAGES, classes))
    assert not (tmp_path / "bad" / "model.tflite").exists()
    allowed = export(
        model, tmp_path / "bad", ["tflite"], data=LabelledImages((IMAGES, classes), max_drop_points=100), overwrite=True
    )
    assert allowed.accuracy["tflite"].drop_points == 100


def test_the_saved_model_serves_encoded_images_features_and_bytes(exported, model, tmp_path):
    import io

    import tensorflow as tf

    module = tf.saved_model.load(str(exported.paths["saved_model"]))
    assert set(module.signatures) == {"serving_default", "serve_jpeg", "features"}
    np.testing.assert_allclose(
        module.serve(tf.constant(IMAGES[:3]))["probabilities"], np.asarray(model(IMAGES[:3], training=False)), atol=1e-5
    )
    features = module.signatures["features"](image=tf.constant(IMAGES[:2].astype("float32")))
    for name, layer in (("C2", "stage2_block1_out"), ("embedding", "pool")):
        expected = np.asarray(keras.Model(model.input, model.get_layer(layer).output)(IMAGES[:2], training=False))
        np.testing.assert_allclose(features[name], expected, rtol=1e-3, atol=1e-4)
    buffer = io.BytesIO()
    Image.fromarray(np.pad(IMAGES[0], ((2, 3), (2, 3), (0, 0)))).save(buffer, "PNG")
    serve = module.signatures["serve_jpeg"]
    served = serve(image_bytes=tf.constant([buffer.getvalue()]))
    expected = np.asarray(model(IMAGES[:1], training=False))
    np.testing.assert_allclose(served["probabilities"], expected, atol=1e-5)
    assert served["labels"].numpy()[0, 0].decode() == exported.class_names[expected.argmax()]
    with pytest.raises(tf.errors.InvalidArgumentError, match="must hold complete JPEG or PNG files"):
        serve(image_bytes=tf.constant([b"not a picture"]))


def test_a_tflite_file_that_can_not_be_resized_still_runs_one_image(exported, monkeypatch):
    """XNNPACK can't resize some graphs with 8-bit kernels and float activations."""
    runtime = runtimes.open_runtime(exported.paths["tflite"], format_named("tflite"))
    expected = runtime.run(IMAGES[:1])

    class Interpreter:
        def __init__(self, real):
            self.real = real

        def __getattr__(self, name):
            return getattr(self.real, name)

        def allocate_tensors(self):
            raise RuntimeError("failed to reshape")

    with monkeypatch.context() as patched:
        patched.setattr(runtime, "_interpreter", Interpreter(runtime._interpreter))
        with pytest.raises(RuntimeError):
            runtime.run(IMAGES[:3])
    np.testing.assert_array_equal(*(answer["probabilities"] for answer in (runtime.run(IMAGES[:1]), expected)))
