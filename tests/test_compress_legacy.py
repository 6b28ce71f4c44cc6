"""Pruning and clustering through a twin in tf_keras: what comes back, and what must not leak out."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from shallow import shallow_builder
from small_classifier import small_classifier

import keras_resnet
from keras_resnet.compress import cluster, prune
from keras_resnet.errors import MissingDependencyError, WeightsError
from keras_resnet.export import export
from keras_resnet.facts import facts_of, state

pytest.importorskip("tf_keras")
pytest.importorskip("tensorflow_model_optimization")

from keras_resnet.compress.legacy import carry_back, legacy_packages, legacy_twin, weights_by_name

GENERATOR = np.random.default_rng(7)
IMAGES = GENERATOR.integers(0, 256, (96, 32, 32, 3)).astype("uint8")
LABELS = GENERATOR.integers(0, 10, 96)


def kernels(model) -> dict[str, np.ndarray]:
    """Model -> its convolution and dense kernels by layer."""
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    return {layer.name: layer.get_weights()[0] for layer in model.layers if isinstance(layer, kinds)}


def relative_error(answers, expected) -> float:
    assert answers.shape == expected.shape
    return float(np.abs(answers - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def model(randomise):
    return randomise(small_classifier())


@pytest.fixture(scope="module")
def pruned(model):
    return prune(model, (IMAGES, LABELS), epochs=4, learning_rate=1e-3)


# The twin.


@pytest.mark.parametrize(
    "build",
    [
        lambda: small_classifier(None, size=None),
        lambda: shallow_builder("resnet18")(
            include_top=False, pooling="max", input_shape=(None, None, 1), output_stride=8
        ),
        lambda: shallow_builder("resnet50")(input_shape=(32, 32, 3), classes=10, include_preprocessing=False),
    ],
    ids=["logits", "dilated and pooled", "bottleneck"],
)
def test_the_twin_gives_the_models_answers_and_carries_its_weights_back(build, randomise):
    model = randomise(build())
    changed = randomise(keras.models.clone_model(model), seed=1)
    scale = 255 if model.layers[1].name == "preprocessing" else 1
    images = scale * np.random.default_rng(3).random((3, 32, 32, model.inputs[0].shape[-1]), "float32")
    twin = legacy_twin(model)
    # Measured at most 7e-7.
    assert relative_error(np.asarray(twin(images)), np.asarray(model(images))) < 4e-6
    for layer in twin.layers:
        layer.set_weights(changed.get_layer(layer.name).get_weights())
    carried = carry_back(twin, model)
    assert relative_error(np.asarray(carried(images)), np.asarray(changed(images))) < 1e-6
    assert [layer.name for layer in carried.layers] == [layer.name for layer in model.layers]
    for kind, values in weights_by_name(changed.get_layer("stem_bn")).items():
        np.testing.assert_array_equal(weights_by_name(carried.get_layer("stem_bn"))[kind], values)


def test_a_part_of_a_model_has_a_twin(model):
    part = keras.Model(model.get_layer("preprocessing").output, model.get_layer("pool").output)
    values = np.random.default_rng(3).normal(0, 1, (2, 32, 32, 3)).astype("float32")
    assert relative_error(np.asarray(legacy_twin(part)(values)), np.asarray(part(values))) < 4e-6


def test_the_input_contract_travels_along(model):
    published = keras.models.clone_model(model)
    contract = keras_resnet.variants.InputContract.for_size(32)
    state(published, contract=contract)
    assert facts_of(carry_back(legacy_twin(published), published)).contract == contract


def test_a_twin_of_other_weights_is_refused(model, randomise):
    twin = legacy_twin(model)
    with pytest.raises(WeightsError, match=r"lacks \['stage3_.* has \['stage2_block1_1_bn'"):
        carry_back(twin, randomise(_renamed(model, "stage2", "stage3")))
    wider = keras.models.clone_model(model, clone_function=lambda layer: _with_classes(layer, 12))
    with pytest.raises(WeightsError, match=r"layer 'logits' must have .*\(16, 12\).*Received: .*\(16, 10\)"):
        carry_back(twin, wider)


def _renamed(model, old, new):
    def renamed(layer):
        config = layer.get_config()
        return layer.__class__.from_config({**config, "name": config["name"].replace(old, new)})

    return keras.models.clone_model(model, clone_function=renamed)


def _with_classes(layer, classes):
    config = layer.get_config()
    return layer.__class__.from_config({**config, "units": classes} if layer.name == "logits" else config)


def test_models_that_have_no_twin_are_refused():
    image = keras.Input((32, 32, 3))
    normalise = keras.layers.LayerNormalization(name="norm")
    twice = keras.layers.ReLU(name="twice")
    for output, message in (
        (normalise(image), "Received: 'norm', a LayerNormalization"),
        (keras.ops.sqrt(image), "a Sqrt"),
        (small_classifier()(image), "Received: 'small', a Functional"),
        (twice(twice(image)), "use each layer once. Received: 'twice'"),
    ):
        with pytest.raises(ValueError, match=message):
            legacy_twin(keras.Model(image, output))
    with pytest.raises(ValueError, match=r"`model` must be a built functional Keras model. Received: 7"):
        legacy_twin(7)


# Pruning.


def test_pruning_leaves_the_asked_share_of_zeros_in_each_kernel(model, pruned):
    assert kernels(pruned).keys() == kernels(model).keys()
    for name, kernel in kernels(pruned).items():
        assert abs(np.mean(kernel == 0) - 0.8) <= 1 / kernel.size, name
    assert not any(np.any(kernel == 0) for kernel in kernels(model).values())


def test_pruning_trains_all_weights_and_brings_them_back(model, pruned):
    assert type(pruned) is type(model)
    assert [layer.name for layer in pruned.layers] == [layer.name for layer in model.layers]
    for name, kind in (("stem_bn", "moving_mean"), ("stem_bn", "gamma"), ("logits", "bias")):
        before, after = (weights_by_name(m.get_layer(name))[kind] for m in (model, pruned))
        assert 1e-4 < np.abs(after - before).max() < 10, (name, kind)


def test_the_largest_weights_stay(model):
    barely_trained = prune(model, (IMAGES, LABELS), sparsity=0.5, epochs=1, learning_rate=1e-7)
    for name, kernel in kernels(barely_trained).items():
        before = kernels(model)[name]
        assert np.abs(before[kernel == 0]).max() < np.abs(before[kernel != 0]).min() + 1e-5
        np.testing.assert_allclose(kernel[kernel != 0], before[kernel != 0], atol=1e-5)


def test_two_of_four_neighbours_along_the_input_channels_are_zero(model):
    """Groups along another axis hold up to four."""
    pruned = prune(model, _dataset(), pattern="2:4", epochs=1, learning_rate=1e-3)
    for name, kernel in kernels(pruned).items():
        fill = -kernel.shape[-2] % 4
        padded = np.pad(kernel, [*[(0, 0)] * (kernel.ndim - 2), (0, fill), (0, 0)])
        groups = padded.reshape(*kernel.shape[:-2], -1, 4, kernel.shape[-1])
        assert np.all(np.count_nonzero(groups, axis=-2) == 2), name
    kernel = kernels(pruned)["stage2_block1_2_conv"]
    assert np.count_nonzero(kernel.reshape(3, 3, 16, 4, 4), axis=-1).max() == 4


def test_a_pruned_model_keeps_its_zeros_in_an_artifact(pruned, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    path = export(pruned, tmp_path, ["tflite"]).paths["tflite"]
    interpreter = Interpreter(str(path))
    tensors = [d for d in interpreter.get_tensor_details() if tuple(d["shape"]) == (16, 3, 3, 16)]
    assert len(tensors) == 1
    assert np.mean(interpreter.get_tensor(tensors[0]["index"]) == 0) == pytest.approx(0.8, abs=1e-3)


# Clustering.


def test_each_kernel_has_as_many_values_as_asked(model):
    clustered = cluster(model, (IMAGES, LABELS), clusters=7, epochs=1, learning_rate=1e-3)
    for name, kernel in kernels(clustered).items():
        assert len(np.unique(kernel)) == 7, name
        # Seven values of k-means: measured at most 6 % of the kernel's variance is lost.
        before = kernels(model)[name]
        assert np.mean((kernel - before) ** 2) / np.var(before) < 0.1, name
    moving_mean = clustered.get_layer("stem_bn").get_weights()[2]
    assert np.abs(moving_mean - model.get_layer("stem_bn").get_weights()[2]).max() > 1e-3


# Arguments.


def _dataset():
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(48)


@pytest.mark.parametrize(
    ("function", "change", "message"),
    [
        (prune, dict(sparsity=1.0), r"`sparsity` must be between 0 and 1. Received: sparsity=1.0"),
        (prune, dict(sparsity=0.5, pattern="2:4"), "`sparsity` must be left out with pattern '2:4'"),
        (prune, dict(pattern="1:2"), r"`pattern` must be None or '2:4'. Received: pattern='1:2'"),
        (prune, dict(epochs=0), r"`epochs` must be at least 1. Received: epochs=0"),
        (prune, dict(data=(IMAGES, LABELS[:9])), "a label for each image. Received: 96 and 9"),
        (cluster, dict(clusters=1), r"`clusters` must be at least 2. Received: clusters=1"),
        (cluster, dict(data=lambda: _dataset().repeat()), "a dataset that knows its number of batches"),
        (cluster, dict(learning_rate=1e38, epochs=1), "the loss must stay finite: lower `learning_rate`"),
    ],
)
def test_wrong_arguments_name_the_rule_and_the_value(function, change, message, model):
    arguments = {"model": model, "data": (IMAGES, LABELS), **change}
    if callable(arguments["data"]):
        arguments["data"] = arguments["data"]()
    with pytest.raises(ValueError, match=message):
        function(**arguments)


# Nothing leaks.

PROBE = """
import os, subprocess, sys
{first}
from keras_resnet.compress.legacy import legacy_packages
legacy = legacy_packages()
import keras, tensorflow
assert legacy.keras.__version__.startswith("2."), legacy.keras.__version__
assert legacy.tfmot.sparsity.keras.prune_low_magnitude
assert keras.__version__.startswith("3."), keras.__version__
tf = tensorflow
for kind in (tf.keras.Model, tf.losses.Loss, tf.optimizers.Adam, tf.metrics.Mean, tf.initializers.Zeros):
    assert kind.__module__.split(".")[0] == {expected!r}, kind
print(repr(os.environ.get("TF_USE_LEGACY_KERAS")))
"""


@pytest.mark.parametrize(
    ("first", "variable", "expected"),
    [
        ("", None, "keras"),
        ("import tf_keras", None, "keras"),
        ("import keras", "1", "tf_keras"),  # a wish of the user's own, which stays
    ],
    ids=["nothing before", "tf_keras before", "asked for by the user"],
)
def test_the_old_keras_leaks_into_nothing(first, variable, expected):
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    if variable is not None:
        environment["TF_USE_LEGACY_KERAS"] = variable
    code = PROBE.format(first=first, expected=expected)
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.strip() == repr(variable)


def test_an_absent_package_names_its_extra_and_leaves_nothing_behind(monkeypatch):
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow_model_optimization", None)
    with pytest.raises(MissingDependencyError, match=r"'tensorflow_model_optimization'.*keras-resnet-kit\[qat\]"):
        legacy_packages()
    assert "TF_USE_LEGACY_KERAS" not in os.environ


def test_the_functions_are_not_hidden_by_their_modules():
    import keras_resnet.compress.clustering
    import keras_resnet.compress.pruning

    assert callable(keras_resnet.compress.prune)
    assert callable(keras_resnet.compress.cluster)
