"""Grad-CAM against gradients by TensorFlow, and the command that draws it."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from command_line import in_process
from PIL import Image
from small_classifier import small_classifier

from keras_resnet.cli.explain import class_named
from keras_resnet.cli.explained import beside
from keras_resnet.compress import quantize_aware
from keras_resnet.errors import ArgumentError
from keras_resnet.explain import grad_cam
from keras_resnet.export.images import synthetic_images
from keras_resnet.labels import imagenet_labels
from keras_resnet.model_files import save_model
from keras_resnet.models import ResNet18
from keras_resnet.preprocessing import load_image
from keras_resnet.variants import InputContract

PIXELS = np.random.default_rng(2).integers(0, 256, (2, 96, 64, 3), dtype=np.uint8)


def true_grad_cam(model, pixels, classes):
    """Definition: gradient of the logit by C5, averaged over positions; ReLU of the weighted sum; scaled to 0..1."""
    network = keras.Model(model.input, [model.get_layer("pool").input, model.get_layer("logits").output])
    with tf.GradientTape() as tape:
        maps, logits = network(pixels, training=False)
        # The tape differentiates by an intermediate tensor as well.
        chosen = tf.reduce_sum(tf.gather(logits, classes, batch_dims=1))
    gradient = tape.gradient(chosen, maps).numpy()
    weights = gradient.mean(axis=(1, 2))
    heat = np.maximum((maps.numpy() * weights[:, None, None]).sum(axis=3), 0)
    heat = tf.image.resize(heat[..., None], pixels.shape[1:3]).numpy()[..., 0]
    return heat / heat.max(axis=(1, 2), keepdims=True)


@pytest.fixture(scope="module")
def model(randomise):
    return randomise(ResNet18(input_shape=(None, None, 3), classes=7), seed=1)


@pytest.fixture(scope="module")
def best(model):
    return model(PIXELS, training=False).numpy().argmax(axis=1)


def test_it_is_grad_cam_by_gradients(model, best):
    heat = grad_cam(model, PIXELS)
    assert (heat.shape, heat.dtype) == ((2, 96, 64), np.float32)
    np.testing.assert_allclose(heat, true_grad_cam(model, PIXELS, best), atol=1e-5)
    np.testing.assert_allclose(grad_cam(model, PIXELS[1:]), heat[1:], atol=1e-5)
    assert heat.min() >= 0
    np.testing.assert_array_equal(heat.max(axis=(1, 2)), [1, 1])
    assert heat.std(axis=(1, 2)).min() > 0.05  # neither is flat


@pytest.mark.parametrize("class_index", [3, [5, 0], np.array([2, 2])])
def test_another_class(model, best, class_index):
    classes = np.broadcast_to(class_index, 2)
    expected = true_grad_cam(model, PIXELS, classes)
    np.testing.assert_allclose(grad_cam(model, PIXELS, class_index), expected, atol=1e-5)
    assert np.abs(expected - true_grad_cam(model, PIXELS, best)).max() > 0.1


def test_a_model_that_ends_in_logits_gives_the_same(model):
    logits = keras.Model(model.input, model.get_layer("logits").output)
    np.testing.assert_allclose(grad_cam(logits, PIXELS), grad_cam(model, PIXELS), atol=1e-6)


def test_nothing_speaks_for_the_class(model):
    against = keras.models.clone_model(model)
    against.set_weights(model.get_weights())
    kernel = against.get_layer("logits").kernel
    kernel.assign(-np.abs(kernel.numpy()))
    np.testing.assert_array_equal(grad_cam(against, PIXELS), np.zeros((2, 96, 64)))


@pytest.mark.parametrize(
    ("pixels", "class_index", "message"),
    [
        (PIXELS[0], None, r"`pixels` must be an array \[N, H, W, C\]. Received: shape \[96, 64, 3\]"),
        (PIXELS[:0], None, r"Received: shape \[0, 96, 64, 3\]"),
        (PIXELS, 7, r"`class_index` must lie in 0\.\.6. Received: class_index=7"),
        (PIXELS, [0, -1], r"must lie in 0\.\.6"),
        (PIXELS, [1, 2, 3], "an integer for each of the 2 images"),
        (PIXELS, 1.0, "must be an integer"),
    ],
)
def test_wrong_arguments_are_refused(model, pixels, class_index, message):
    with pytest.raises(ArgumentError, match=message):
        grad_cam(model, pixels, class_index)


def test_other_models_are_refused(randomise):
    models = [
        ResNet18(include_top=False, pooling="avg"),
        keras.Sequential(
            [
                keras.layers.Input((8, 8, 3)),
                keras.layers.Rescaling(1 / 255),
                keras.layers.Flatten(),
                keras.layers.Dense(2, name="logits"),
            ]
        ),
        quantize_aware(randomise(small_classifier())),
    ]
    for model in models:
        with pytest.raises(ArgumentError, match="`model` must be a classifier whose last feature map is averaged"):
            grad_cam(model, np.zeros((1, 64, 64, 3)))


BACKEND_JOB = """
import sys, keras, numpy as np
from keras_resnet.explain import grad_cam
model = keras.models.load_model(sys.argv[1])
np.save(sys.argv[2], grad_cam(model, np.random.default_rng(2).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)))
"""


@pytest.mark.parametrize("backend", [pytest.param("jax", marks=pytest.mark.slow), "torch"])
def test_other_backends_agree(backend, model_file, tmp_path):
    pytest.importorskip(backend)
    pixels = np.random.default_rng(2).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    job = [sys.executable, "-c", BACKEND_JOB, str(model_file), str(tmp_path / "heat.npy")]
    subprocess.run(job, check=True, timeout=300, env={**os.environ, "KERAS_BACKEND": backend})
    expected = grad_cam(keras.models.load_model(model_file), pixels)
    np.testing.assert_allclose(np.load(tmp_path / "heat.npy"), expected, atol=1e-5)


# --- the command --------------------------------------------------------------------------------------------------

CONTRACT = InputContract(size=32, resize=37)
NAMES = ["고양이", "dog", "3", *(f"thing {index}" for index in range(3, 10))]


@pytest.fixture(scope="module")
def user(model_file, tmp_path_factory):
    """Folder with a model that names its classes, and three images of which two have the same name."""
    root = tmp_path_factory.mktemp("user")
    save_model(keras.models.load_model(model_file), root / "model.keras", NAMES, CONTRACT)
    names = ("a/one.png", "b/One.png", "b/two.png")
    for name, pixels in zip(names, synthetic_images((40, 50, 3), count=3, seed=1), strict=True):
        (root / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / name)
    return root


def drawn(path):
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("wanted", [None, "고양이", "3", "5"])
def test_each_image_is_drawn_beside_its_heatmap(user, tmp_path, wanted):
    options = [] if wanted is None else ["--class", wanted]
    model, out = user / "model.keras", tmp_path / "out"
    status, lines, errors = in_process("explain", user / "a", user / "b", "--model", model, "--out", out, *options)
    assert (status, errors) == (0, [])
    network = keras.models.load_model(user / "model.keras")
    names = ("one-explained.png", "One-2-explained.png", "two-explained.png")
    assert {path.name for path in out.iterdir()} == set(names)
    for name, line, file in zip(names, lines, ("a/one.png", "b/One.png", "b/two.png"), strict=True):
        pixels = load_image(user / file, CONTRACT)
        [answer] = network.predict_on_batch(pixels[None])
        index = int(answer.argmax()) if wanted is None else {"고양이": 0, "3": 2, "5": 5}[wanted]
        assert line == f"{out / name}: {NAMES[index]}  {100 * answer[index]:.2f} %"
        picture = drawn(out / name)
        assert picture.shape == (224 + 4 + 2 * 18, 224 + 8 + 224, 3)
        np.testing.assert_array_equal(picture[:224, :224], np.kron(pixels, np.ones((7, 7, 1), "uint8")))
        [heat] = grad_cam(network, pixels[None], index)
        right = picture[:224:7, 232::7].astype(int)
        np.testing.assert_array_equal(right[heat == 0], pixels[heat == 0])
        hottest = np.unravel_index(heat.argmax(), heat.shape)
        if heat[hottest] == 1:  # inferno ends in (252, 255, 164)
            np.testing.assert_allclose(
                right[hottest], 0.35 * pixels[hottest] + 0.65 * np.array([252, 255, 164]), atol=2
            )
        assert (picture[228:] < 128).any()  # the caption


def test_the_overlay_of_a_large_image_keeps_its_size():
    pixels = np.random.default_rng(0).integers(0, 256, (300, 224, 3), "uint8")
    pair = beside(pixels, np.zeros((300, 224), "float32"))
    assert (pair.shape, pair.dtype) == ((300, 224 + 8 + 224, 3), np.uint8)
    np.testing.assert_array_equal(pair[:, :224], pixels)
    np.testing.assert_array_equal(pair[:, 232:], pixels)


def test_unreadable_images_are_named_and_the_rest_go_on(user, tmp_path):
    broken, absent = tmp_path / "broken.png", tmp_path / "absent.png"
    broken.write_bytes(b"")
    command = ["explain", broken, absent, user / "b" / "two.png", "--model", user / "model.keras"]
    status, lines, errors = in_process(*command, "--out", tmp_path / "out")
    assert (status, len(lines)) == (1, 1)
    assert errors == [
        f"{absent}: no such file or folder, and no file matches this glob",
        f"{broken}: the file is empty",
    ]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["two-explained.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--class", "dgo"],
            "--class must be the name of a class, or an index in 0..9. Received: dgo (did you mean dog?)",
        ),
        (["--class", "10"], "or an index in 0..9. Received: 10"),
        (["--class", "-1"], "Received: -1"),
        (["--model", "vgg"], "--model must be one of resnet18"),
    ],
)
def test_wrong_options_are_one_line(user, tmp_path, options, message):
    command = ["explain", user / "a", "--model", user / "model.keras", "--out", tmp_path / "out", *options]
    status, lines, errors = in_process(*command)
    assert (status, lines, len(errors)) == (1, [], 1)
    assert errors[0].startswith("error: ")
    assert message in errors[0]


def test_the_artifact_of_a_classifier_is_refused(user, tmp_path, small_exports):
    file = small_exports.paths["tflite"]
    status, lines, errors = in_process("explain", user / "a", "--model", file, "--out", tmp_path)
    assert (status, lines, len(errors)) == (1, [], 1)
    assert "--model must be a network's name or a .keras file, not an artifact" in errors[0]
    assert errors[0].endswith(f"Received: {file}")


def test_a_model_of_another_kind_is_an_error(tmp_path, user):
    image = keras.Input((32, 32, 3))
    keras.Model(
        image, keras.layers.Dense(3, "softmax")(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image)))
    ).save(tmp_path / "flat.keras")
    command = ["explain", user / "a", "--model", tmp_path / "flat.keras", "--out", tmp_path / "out"]
    status, lines, errors = in_process(*command)
    assert (status, lines, len(errors)) == (1, [], 1)
    assert "`model` must be a classifier whose last feature map is averaged" in errors[0]


def test_classes_of_imagenet_by_name_and_identifier():
    names = [name for _, name in imagenet_labels()]
    assert class_named("n01440764", names) == class_named("tench", names) == class_named("0", names) == 0
    with pytest.raises(ArgumentError, match=r"give an index: 134, 517\. Received: crane"):
        class_named("crane", names)
    with pytest.raises(ArgumentError, match="Received: n01440764"):
        class_named("n01440764", NAMES)


@pytest.mark.parametrize(
    ("file", "left", "top", "right", "bottom"),
    [
        ("852_n04409515.jpg", 100, 145, 165, 210),  # the tennis ball before the dog
        ("600_n03532672.jpg", 90, 90, 165, 224),  # the hook
    ],
)
def test_the_heat_lies_on_the_object(shared_data, unpacked_weights, file, left, top, right, bottom):
    """ResNet-18 with real weights; the box was drawn by hand on the crop of 224x224."""
    [weights] = unpacked_weights.glob("resnet18*.safetensors")
    network = ResNet18(weights=weights)
    pixels = load_image(shared_data / "imagenet_500" / "images" / file)
    [heat] = grad_cam(network, pixels[None], int(file[:3]))
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert top <= row < bottom
    assert left <= column < right
    share = heat[top:bottom, left:right].sum() / heat.sum()
    area = (bottom - top) * (right - left) / heat.size
    assert share > 2 * area  # measured: 2.8 and more
