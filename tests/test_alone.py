"""Artifacts without this package: each in its bare runtime, in a process that can import neither it nor Keras."""

import io
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from small_classifier import small_classifier

from keras_resnet.export import export
from keras_resnet.export.images import synthetic_images

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")

LABELS = [f"thing {index}" for index in range(10)]
IMAGES = synthetic_images((32, 32, 3), count=40, seed=8)
FORMATS = ["saved_model", "tflite", "tflite-int8", "onnx", "onnx-int8"]

# TensorFlow looks where Keras lies when it is imported itself, so that looking is allowed, and importing is not.
BLOCK = """
import sys
from importlib.machinery import ModuleSpec

class Blocked:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self, origin="blocked", is_package=True) if name.partition(".")[0] in BLOCKED else None

    def create_module(self, spec):
        raise ImportError(f"{spec.name} is blocked")

    def exec_module(self, module):
        pass

BLOCKED = sys.argv.pop(1).split(",")
sys.meta_path.insert(0, Blocked())
folder = sys.argv[1]
import numpy as np
images = np.load(folder + "/images.npy")
"""


@pytest.fixture(scope="module")
def model(randomise):
    return randomise(small_classifier(), seed=4)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """Folder of artifacts, with images.npy, and picture.png from which `serve_jpeg` takes the first of them."""
    root = tmp_path_factory.mktemp("alone")
    export(model, root, FORMATS, calibration=IMAGES, class_names=LABELS)
    np.save(root / "images.npy", IMAGES)
    Image.fromarray(np.pad(IMAGES[0], ((2, 3), (2, 3), (0, 0)))).save(root / "picture.png")
    return root


@pytest.fixture(scope="module")
def expected(model):
    return np.asarray(model(IMAGES, training=False))


def run_alone(folder, blocked, code):
    """Runs code that may import none of the blocked packages -> what it prints, as JSON."""
    command = [sys.executable, "-c", BLOCK + code, ",".join(blocked), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_block_blocks(folder):
    for package in ("keras_resnet", "keras"):
        command = [sys.executable, "-c", BLOCK + f"import {package}", package, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert f"ImportError: {package} is blocked" in done.stderr


def test_a_saved_model_serves_with_tensorflow_alone(folder, model, expected):
    code = """
import json
import tensorflow as tf

module = tf.saved_model.load(folder + "/saved_model")
serve, features, encoded = (module.signatures[name] for name in ("serving_default", "features", "serve_jpeg"))
maps = features(image=tf.constant(images[:3], tf.float32))
served = encoded(image_bytes=tf.constant([open(folder + "/picture.png", "rb").read()] * 2))
print(json.dumps({
    "five": serve(image=tf.constant(images[:5], tf.float32))["probabilities"].numpy().tolist(),
    "uint8": module.serve(tf.constant(images[:2]))["probabilities"].numpy().tolist(),
    "maps": {name: value.numpy().tolist() for name, value in maps.items()},
    "encoded": served["probabilities"].numpy().tolist(),
    "indices": served["indices"].numpy().tolist(),
    "labels": [[label.decode() for label in row] for row in served["labels"].numpy()],
    "imported": sorted({"keras", "keras_resnet"} & set(sys.modules)),
}))
"""
    answer = run_alone(folder, ["keras", "keras_resnet", "tf_keras"], code)
    assert answer["imported"] == []
    np.testing.assert_allclose(answer["five"], expected[:5], atol=1e-6)
    np.testing.assert_allclose(answer["uint8"], expected[:2], atol=1e-6)
    assert set(answer["maps"]) == {"C2", "embedding"}
    for name, layer in (("C2", "stage2_block1_out"), ("embedding", "pool")):
        true = np.asarray(keras.Model(model.input, model.get_layer(layer).output)(IMAGES[:3], training=False))
        np.testing.assert_allclose(answer["maps"][name], true, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answer["encoded"], expected[[0, 0]], atol=1e-6)
    best = np.argsort(-expected[0])[:5]
    assert answer["indices"] == [best.tolist()] * 2
    assert answer["labels"] == [[LABELS[index] for index in best]] * 2


def test_saved_model_cli_shows_and_runs_it(folder, expected, tmp_path):
    tool = Path(sys.executable).with_name("saved_model_cli")
    if not tool.exists():
        pytest.skip(f"no saved_model_cli beside {sys.executable}")
    np.save(tmp_path / "pixels.npy", IMAGES[:3].astype("float32"))

    def saved_model_cli(command, *options):
        arguments = [tool, command, "--dir", folder / "saved_model", *options]
        done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = saved_model_cli("show", "--all")
    for name in ("serving_default", "serve_jpeg", "features"):
        assert f"signature_def['{name}']" in shown
    assert "inputs['image'] tensor_info:\n        dtype: DT_FLOAT\n        shape: (-1, 32, 32, 3)" in shown
    assert "outputs['probabilities'] tensor_info:\n        dtype: DT_FLOAT\n        shape: (-1, 10)" in shown
    assert "inputs['image_bytes'] tensor_info:\n        dtype: DT_STRING\n        shape: (-1)" in shown
    saved_model_cli(
        *("run", "--tag_set", "serve", "--signature_def", "serving_default", "--outdir", tmp_path),
        *("--inputs", f"image={tmp_path / 'pixels.npy'}"),
    )
    np.testing.assert_allclose(np.load(tmp_path / "probabilities.npy"), expected[:3], atol=1e-6)


def test_tflite_files_run_with_litert_alone(folder, expected):
    code = """
import json, zipfile
from ai_edge_litert.interpreter import Interpreter

answers = {}
for name in ("model", "model-int8"):
    path = f"{folder}/{name}.tflite"
    interpreter = Interpreter(path)
    assert list(interpreter.get_signature_list()) == ["serving_default"]
    run = interpreter.get_signature_runner("serving_default")
    [(key, given)], [(out, answer)] = run.get_input_details().items(), run.get_output_details().items()
    assert (key, out) == ("image", "probabilities")
    stored = np.concatenate([run(image=image[None].astype(given["dtype"]))["probabilities"] for image in images[:6]])
    scale, zero_point = answer["quantization"]
    answers[name] = (stored.tolist() if not scale else ((stored.astype(float) - zero_point) * scale).tolist())
    answers[name + " labels"] = zipfile.ZipFile(path).read("labels.txt").decode().splitlines()
print(json.dumps(answers))
"""
    answers = run_alone(folder, ["tensorflow", "keras", "keras_resnet"], code)
    np.testing.assert_allclose(answers["model"], expected[:6], atol=1e-6)
    np.testing.assert_allclose(answers["model-int8"], expected[:6], atol=0.06)
    assert np.argmax(answers["model-int8"], axis=1).tolist() == expected[:6].argmax(axis=1).tolist()
    assert answers["model labels"] == answers["model-int8 labels"] == LABELS


def test_onnx_files_run_with_onnx_runtime_alone(folder, expected):
    code = """
import json
import onnxruntime

answers = {}
for name in ("model", "model-int8"):
    session = onnxruntime.InferenceSession(f"{folder}/{name}.onnx", providers=["CPUExecutionProvider"])
    properties = session.get_modelmeta().custom_metadata_map
    [probabilities] = session.run(["probabilities"], {"image": images[:6].astype("float32")})
    answers[name] = probabilities.tolist()
    answers[name + " labels"] = json.loads(properties["labels"])
    answers[name + " network"] = properties["network"]
print(json.dumps(answers))
"""
    answers = run_alone(folder, ["tensorflow", "keras", "keras_resnet", "onnx", "tf2onnx"], code)
    np.testing.assert_allclose(answers["model"], expected[:6], atol=1e-6)
    np.testing.assert_allclose(answers["model-int8"], expected[:6], atol=0.06)
    assert answers["model labels"] == answers["model-int8 labels"] == LABELS
    assert answers["model network"] == answers["model-int8 network"] == "small"


# Encoded images, in the SavedModel.


def encoded(kind, seed):
    """Kind of file -> bytes of a picture of a size of its own: smooth fields of colour under noise."""
    height, width = {
        "jpeg": (61, 45),
        "grey jpeg": (40, 83),
        "png": (38, 38),
        "rgba png": (52, 90),
        "grey png": (33, 70),
    }[kind]
    pixels = synthetic_images((height, width, 4 if "rgba" in kind else 3), count=1, seed=seed)[0]
    picture = Image.fromarray(pixels[..., 0] if "grey" in kind else pixels)
    stream = io.BytesIO()
    picture.save(stream, "JPEG" if "jpeg" in kind else "PNG", **({"quality": 90} if "jpeg" in kind else {}))
    return stream.getvalue()


KINDS = ["jpeg", "rgba png", "grey jpeg", "png", "grey png"]


@pytest.fixture(scope="module")
def serve_encoded(folder):
    import tensorflow as tf

    module = tf.saved_model.load(str(folder / "saved_model"))
    serve = module.signatures["serve_jpeg"]

    def run(files):
        answer = serve(image_bytes=tf.constant(files))
        return {name: value.numpy() for name, value in answer.items()}

    run.module = module  # keeps its variables alive
    return run


def test_a_batch_of_mixed_files_is_served_as_the_package_reads_them(serve_encoded, model):
    from keras_resnet.preprocessing import load_image
    from keras_resnet.tasks import contract_of

    files = [encoded(kind, seed) for seed, kind in enumerate(KINDS)]
    pixels = np.stack([load_image(file, contract_of(model)) for file in files])
    expected = np.asarray(model(pixels, training=False))
    answer = serve_encoded(files)
    difference = np.abs(answer["probabilities"] - expected).max(axis=1)
    # Measured: 0.0013; the two resizes differ by a few grey levels.
    assert difference.max() < 0.005
    assert answer["indices"][:, 0].tolist() == expected.argmax(axis=1).tolist()
    alone = np.concatenate([serve_encoded([file])["probabilities"] for file in files])
    np.testing.assert_allclose(answer["probabilities"], alone, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must hold complete JPEG or PNG files"),
        (b"not a picture", "must hold complete JPEG or PNG files"),
        (b"\xff\xd8\xff\xe0 no JPEG after this", "Invalid JPEG data"),
        (b"\x89PNG\r\n\x1a\n no PNG after this", "Invalid PNG"),
        (encoded("jpeg", 1)[:-400], "Invalid JPEG data"),
        (encoded("png", 1)[:-400], "Invalid PNG data"),
        (encoded("jpeg", 1)[:20], "Invalid JPEG data"),
    ],
    ids=["empty", "text", "false jpeg", "false png", "cut jpeg", "cut png", "short jpeg"],
)
def test_broken_files_are_refused(content, message, serve_encoded):
    import tensorflow as tf

    good = encoded("png", 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        serve_encoded([good, content])
    assert len(serve_encoded([good])["labels"][0]) == 5
