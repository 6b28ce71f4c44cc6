"""BatchNorm as one operation on TensorFlow, against Keras' own layer and PyTorch's, and the files that hold it."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_resnet import ResNet20, graph
from keras_resnet.freezing import freeze_batch_norm
from keras_resnet.fused_batch_norm import fuse_batch_norm

CHANNELS = 5
SHAPES = [(2, 7, 6, CHANNELS), (9, 4, 3, CHANNELS)]  # two batch sizes
ROUNDING = {"bfloat16": 2**-8, "float16": 2**-11}  # half of the step between two numbers, relative
Arrays = dict[str, np.ndarray]


def pair(shape: tuple[int, ...], **arguments: Any) -> tuple[Any, Any]:
    """-> fused layer, Keras' own, with equal random weights."""
    rng = np.random.default_rng(3)
    both = [layers.BatchNormalization(momentum=0.9, epsilon=1e-5, **arguments) for _ in range(2)]
    for layer in both:
        layer.build((None, *shape[1:]))
    values = [rng.uniform(0.5, 1.5, weight.shape) for weight in both[0].weights]
    for layer in both:
        layer.set_weights(values)
    image = keras.Input(shape[1:], dtype=both[0].compute_dtype)
    fuse_batch_norm(keras.Model(image, both[0](image)))
    return both[0], both[1]


def data(shape: tuple[int, ...], dtype: str = "float32") -> tuple[Any, Any]:
    """-> input whose channels have means and deviations of their own, gradient of the output."""
    rng = np.random.default_rng(shape[0])
    means, deviations = rng.normal(0, 4, shape[-1]), rng.uniform(0.1, 3, shape[-1])
    x = means + deviations * rng.normal(size=shape) ** 3
    return tf.cast(x, dtype), tf.cast(rng.normal(size=shape) + 0.3, dtype)


def step(layer: Any, x: Any, gradient: Any, **arguments: Any) -> Arrays:
    """-> output, gradients and moving statistics of a step of training."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True, **arguments)
    trained = [variable.value for variable in layer.trainable_variables]
    gradients = tape.gradient(y, [x, *trained], gradient)
    found = {"y": y, "dx": gradients[0]}
    found |= {f"d{v.name}": value for v, value in zip(layer.trainable_variables, gradients[1:], strict=True)}
    found |= {v.name: v.value for v in layer.non_trainable_variables}
    return {name: np.array(tf.cast(value, "float64")) for name, value in found.items()}


def assert_near(found: Arrays, wanted: Arrays, tolerance: float) -> None:
    """The largest difference is at most `tolerance` of the largest value."""
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        assert value.shape == wanted[name].shape
        error = np.abs(value - wanted[name]).max() / np.abs(wanted[name]).max()
        assert error <= tolerance, (name, error)


def operations(function: Any, *arguments: Any) -> list[str]:
    """-> types of the operations that TensorFlow traces."""
    return [op.type for op in tf.function(function).get_concrete_function(*arguments).graph.get_operations()]


def casts_of_maps(function: Any, x: Any) -> list[str]:
    """-> conversions of feature maps to another type."""
    graph = tf.function(function).get_concrete_function(x).graph
    return [op.name for op in graph.get_operations() if op.type == "Cast" and len(op.inputs[0].shape) == 4]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("arguments", [{}, {"scale": False}, {"center": False}, {"axis": 3}])
def test_a_step_equals_that_of_keras(shape: tuple[int, ...], arguments: dict[str, Any]) -> None:
    fused, own = pair(shape, **arguments)
    x, gradient = data(shape)
    assert_near(step(fused, x, gradient), step(own, x, gradient), 3e-6)
    again = x[:, ::-1] * 1.5 + 1  # the moving statistics have moved
    assert_near(step(fused, again, gradient), step(own, again, gradient), 3e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_equals_that_of_pytorch(shape: tuple[int, ...], dtype: str) -> None:
    torch = pytest.importorskip("torch")
    fused, _ = pair(shape, dtype="mixed_bfloat16" if dtype == "bfloat16" else dtype)
    gamma, beta, mean, variance = fused.get_weights()
    x, gradient = data(shape, dtype)
    found = step(fused, x, gradient)

    norm = torch.nn.BatchNorm2d(CHANNELS, eps=1e-5, momentum=0.1, dtype=torch.float64)
    weights = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance}
    norm.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()}, strict=False)
    given = torch.from_numpy(np.array(tf.cast(x, "float64"))).permute(0, 3, 1, 2).requires_grad_()
    y = norm(given)
    y.backward(torch.from_numpy(np.array(tf.cast(gradient, "float64"))).permute(0, 3, 1, 2))
    unbiased = np.prod(shape[:3])
    moved = 0.9 * variance + (norm.running_var.numpy() - 0.9 * variance) * (unbiased - 1) / unbiased
    wanted = {
        "y": y.detach().permute(0, 2, 3, 1).numpy(),
        "dx": given.grad.permute(0, 2, 3, 1).numpy(),
        "dgamma": norm.weight.grad.numpy(),
        "dbeta": norm.bias.grad.numpy(),
        "moving_mean": norm.running_mean.numpy(),
        "moving_variance": moved,
    }
    rounded = ["y", "dx"]  # in 16 bits; the others are float32 under each policy
    assert_near({k: found[k] for k in rounded}, {k: wanted[k] for k in rounded}, ROUNDING.get(dtype, 3e-6))
    assert_near({k: v for k, v in found.items() if k not in rounded}, _without(wanted, rounded), 3e-6)


def _without(values: Arrays, names: list[str]) -> Arrays:
    return {name: value for name, value in values.items() if name not in names}


@pytest.mark.parametrize("dtype", ROUNDING)
def test_16_bits_go_in_and_out(dtype: str) -> None:
    fused, own = pair(SHAPES[0], dtype=f"mixed_{dtype}")
    x, gradient = data(SHAPES[0], dtype)
    y = fused(x, training=True)
    assert y.dtype == dtype
    assert {variable.dtype for variable in fused.variables} == {"float32"}
    assert not casts_of_maps(lambda x: fused(x, training=True), x)
    assert casts_of_maps(lambda x: own(x, training=True), x)
    own.set_weights(fused.get_weights())
    assert_near(step(fused, x, gradient), step(own, x, gradient), 2 * ROUNDING[dtype])


def test_a_mean_far_from_zero_keeps_its_variance() -> None:
    fused, own = pair(SHAPES[0])
    x, gradient = data(SHAPES[0])
    assert_near(step(fused, x + 1000, gradient), step(own, x + 1000, gradient), 1e-3)
    np.testing.assert_allclose(fused.moving_variance, own.moving_variance, rtol=1e-5)


def test_one_value_has_no_variance() -> None:
    fused, own = pair((1, 1, 1, CHANNELS))
    x, _ = data((1, 1, 1, CHANNELS))
    np.testing.assert_allclose(fused(x, training=True)[0, 0, 0], fused.beta, rtol=1e-6)
    own(x, training=True)
    np.testing.assert_allclose(fused.moving_variance, own.moving_variance, rtol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_inference_and_frozen_layers_are_unchanged_to_the_bit(policy: str) -> None:
    fused, own = pair(SHAPES[0], dtype=policy)
    x, gradient = data(SHAPES[0])
    np.testing.assert_array_equal(tf.cast(fused(x), "float32"), tf.cast(own(x), "float32"))
    for layer in (fused, own):
        layer.trainable = False
    before = fused.get_weights()
    found, wanted = step(fused, x, gradient), step(own, x, gradient)
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])
    for now, then in zip(fused.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(
    ("shape", "arguments", "call"),
    [
        ((3, 4, 5, CHANNELS), {"renorm": True}, {}),
        ((3, 4, 5, CHANNELS), {"synchronized": True}, {}),
        ((3, 4, 5, CHANNELS), {"axis": 1}, {}),
        ((3, 4, 5, CHANNELS), {"dtype": "float64"}, {}),
        ((3, 4, 5, CHANNELS), {}, {"mask": np.random.default_rng(0).random((3, 4, 5)) < 0.7}),
        ((8, CHANNELS), {}, {}),
        ((3, 2, 4, 5, CHANNELS), {}, {}),
    ],
)
def test_what_the_operation_lacks_is_left_to_keras(
    shape: tuple[int, ...], arguments: dict[str, Any], call: dict[str, Any]
) -> None:
    fused, own = pair(shape, **arguments)
    x, gradient = data(shape, arguments.get("dtype", "float32"))
    assert "FusedBatchNormV3" not in operations(lambda x: fused(x, training=True, **call), x)
    assert_near(step(fused, x, gradient, **call), step(own, x, gradient, **call), 1e-6)


def small() -> keras.Model:
    return ResNet20(classes=4, classifier_activation=None, input_shape=(32, 32, 3))


def test_networks_and_their_copies_train_by_one_operation_a_layer() -> None:
    model = small()
    count = sum(isinstance(layer, layers.BatchNormalization) for layer in model.layers)
    x = np.zeros((2, 32, 32, 3), "float32")
    for fused in (model, graph.rebuild(model)):
        assert operations(lambda x, fused=fused: fused(x, training=True), x).count("FusedBatchNormV3") == count > 0
        assert "FusedBatchNormV3" not in operations(lambda x, fused=fused: fused(x, training=False), x)
    freeze_batch_norm(model)
    assert "FusedBatchNormV3" not in operations(lambda x: model(x, training=True), x)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_network_trains_as_with_keras_layers(compiled: bool, policy: str) -> None:
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, strides=2, use_bias=False, dtype=policy)(image)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=policy)(x)
    x = layers.Conv2D(5, 1, use_bias=False, dtype=policy)(layers.ReLU(dtype=policy)(x))
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=policy)(x)
    model = keras.Model(image, layers.Flatten(dtype="float32")(x))
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    fuse_batch_norm(model)
    for network in (model, other):
        network.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse", jit_compile=compiled)
    rng = np.random.default_rng(1)
    losses = []
    for count in (4, 4, 6):  # the last batch is larger
        x, y = rng.normal(2, 3, (count, 8, 8, 3)).astype("float32"), rng.normal(size=(count, *model.output.shape[1:]))
        losses.append([network.train_on_batch(x, y) for network in (model, other)])
    assert losses[-1][0] < 0.95 * losses[0][0]
    tolerance = 1e-5 if policy == "float32" else 2e-3
    np.testing.assert_allclose([ours for ours, _ in losses], [of_keras for _, of_keras in losses], rtol=tolerance)
    for fused, own in zip(model.weights, other.weights, strict=True):
        assert_near({"weight": fused.numpy()}, {"weight": own.numpy()}, 10 * tolerance)


# Two CPUs that TensorFlow takes for two devices.
TWO_DEVICES = """
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras
from keras import layers
from keras_resnet.fused_batch_norm import fuse_batch_norm

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
pixels, wanted = rng.normal(2, 3, (8, 5, 6, 3)).astype("float32"), rng.normal(size=(8, 4)).astype("float32")
found = []
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    image = keras.Input((5, 6, 3))
    x = layers.BatchNormalization(momentum=0.9)(layers.Conv2D(4, 3, use_bias=False)(image))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(layers.ReLU()(x)))
    beginning = model.get_weights()
    for network in (model, fuse_batch_norm(keras.models.clone_model(model))):
        network.set_weights(beginning)
        network.compile(keras.optimizers.SGD(0.1), "mse")
        network.fit(pixels, wanted, batch_size=8, epochs=3, shuffle=False, verbose=0)
        found.append(network.get_weights())
for own, fused, old in zip(*found, beginning):
    assert np.abs(own - old).max() > 1e-3
    np.testing.assert_allclose(fused, own, rtol=1e-5, atol=1e-6)
"""


def test_two_devices_train_as_with_keras_layers() -> None:
    job = subprocess.run([sys.executable, "-c", TWO_DEVICES], capture_output=True, text=True, timeout=300, check=False)
    assert job.returncode == 0, job.stderr[-3000:]


def test_a_file_holds_layers_of_keras_and_opens_without_this_package(tmp_path: Path) -> None:
    model = small()
    path = tmp_path / "model.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    assert "keras_resnet" not in json.dumps(config)
    kinds = {(layer["module"], layer["class_name"], layer["registered_name"]) for layer in config["config"]["layers"]}
    assert ("keras.layers", "BatchNormalization", None) in kinds
    opened = keras.saving.load_model(path)
    x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(opened(x), model(x))
    assert [v.path for v in opened.variables] == [v.path for v in model.variables]
