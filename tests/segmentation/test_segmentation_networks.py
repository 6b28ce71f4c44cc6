"""Segmentation networks: what they count, take and give, refuse, and leave in a file."""

import inspect
import math
import re
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from oracle.seeded import pixels

import keras_resnet
from keras_resnet.freezing import freeze
from keras_resnet.heads.logits import ends_in_logits
from keras_resnet.model_files import read_model_description, save_model
from keras_resnet.resize import ResizeLike
from keras_resnet.segmentation import ARCHITECTURE_BUILDERS, FCN, DeepLabV3, DeepLabV3Plus, UNet
from keras_resnet.variants import ARCHITECTURES, InputContract


@pytest.fixture(scope="module")
def networks(randomise) -> dict[str, keras.Model]:
    """One of each architecture, on ResNet-18, for seven classes."""
    return {name: randomise(builder("resnet18", 7), seed=3) for name, builder in ARCHITECTURE_BUILDERS.items()}


@pytest.mark.parametrize(
    ("builder", "backbone", "parameters"),
    [
        (FCN, "resnet50", 35_322_218),
        (FCN, "resnet101", 54_314_346),
        (DeepLabV3, "resnet50", 42_004_074),
        (DeepLabV3, "resnet101", 60_996_202),
    ],
)
def test_there_are_as_many_parameters_as_torchvision_publishes(builder, backbone, parameters):
    """Its `num_params` are those of the networks with 21 classes and an auxiliary head."""

    def count() -> int:
        with keras.StatelessScope(initialize_variables=False):  # shapes alone, without values
            model = builder(backbone, auxiliary_head=True)
        return sum(math.prod(variable.shape) for variable in model.trainable_variables)

    with ThreadPoolExecutor(1) as thread:  # Keras notes, for each thread, the variables without values
        assert thread.submit(count).result() == parameters


@pytest.mark.parametrize("name", ARCHITECTURE_BUILDERS)
def test_every_pixel_of_any_size_gets_probabilities(networks, name):
    model = networks[name]
    assert model.output_shape == (None, None, None, 7)
    for batch, size in ((1, (33, 70)), (3, (64, 32))):
        images = pixels(batch, *size)
        outputs = np.asarray(model(images, training=False))
        assert outputs.shape == (batch, *size, 7)
        np.testing.assert_allclose(outputs.sum(axis=-1), 1, rtol=1e-5)
        alone = np.asarray(model(images[-1:], training=False))
        np.testing.assert_allclose(alone, outputs[-1:], rtol=0, atol=1e-6)
        assert outputs.std(axis=(0, 1, 2)).min() > 1e-4


@pytest.mark.parametrize("name", ["deeplabv3plus", "unet"])
def test_a_graph_of_unknown_sizes_gives_the_same(networks, name):
    tf = pytest.importorskip("tensorflow")
    model = networks[name]
    graph = tf.function(
        lambda images: model(images, training=False), input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)]
    )
    for images in (pixels(2, 33, 70), pixels(1, 47, 32)):
        np.testing.assert_allclose(graph(images), model(images, training=False), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["deeplabv3plus", "unet"])
def test_a_fixed_size_gives_the_same(networks, name):
    fixed = ARCHITECTURE_BUILDERS[name]("resnet18", 7, input_shape=(33, 70, 3))
    fixed.set_weights(networks[name].get_weights())
    assert fixed.output_shape == (None, 33, 70, 7)
    images = pixels(2, 33, 70)
    np.testing.assert_allclose(fixed(images, training=False), networks[name](images, training=False), rtol=0, atol=1e-5)


def test_the_head_computes_in_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = DeepLabV3("resnet18", auxiliary_head=True)
    finally:
        keras.config.set_dtype_policy("float32")
    head = ("logits", "upsample", "probabilities", "auxiliary_logits", "auxiliary_upsample", "auxiliary_probabilities")
    assert [model.get_layer(name).compute_dtype for name in head] == ["float32"] * 6
    assert model.get_layer("decoder_conv").compute_dtype == "bfloat16"
    outputs = model(pixels(1, 32, 64), training=False)
    assert {name: output.dtype.name for name, output in outputs.items()} == {
        "probabilities": "float32",
        "auxiliary": "float32",
    }


def test_outputs_are_named_for_what_they_are():
    assert set(FCN("resnet18", auxiliary_head=True, classifier_activation=None).output) == {"logits", "auxiliary"}


def test_logits_are_told_from_probabilities(networks):
    assert not ends_in_logits(networks["unet"])
    assert ends_in_logits(UNet("resnet18", classifier_activation=None))
    assert not ends_in_logits(UNet("resnet18", classifier_activation="sigmoid"))


def test_the_layers_that_others_go_by_have_these_names(networks):
    for model in networks.values():
        names = [layer.name for layer in model.layers]
        assert names[-3:] == ["logits", "upsample", "probabilities"]
        assert names[:2] == ["image", "preprocessing"]
        assert not any(isinstance(layer, keras.Model) for layer in model.layers)


def test_the_backbone_dilates_as_torchvisions_does(networks):
    """The first convolution of a stage that does not stride dilates by what the stage before it did."""
    names = ("stage3_block1_1", "stage4_block1_1", "stage4_block1_2", "stage5_block1_1", "stage5_block1_2")
    assert [networks["fcn"].get_layer(f"{name}_conv").dilation_rate[0] for name in names] == [1, 1, 2, 2, 4]


def test_a_resize_is_the_identity_at_the_same_size_and_keeps_the_dtype():
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype("float32")
    np.testing.assert_array_equal(ResizeLike()([x, np.zeros((2, 5, 7, 1), "float32")]), x)
    half = ResizeLike(dtype="bfloat16")([x, np.zeros((2, 9, 8, 1), "float32")])
    assert (half.dtype.name, tuple(half.shape)) == ("bfloat16", (2, 9, 8, 3))


def test_keras_does_not_have_it_compiled_by_an_xla_that_resizes_otherwise():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("XLA in TensorFlow alone is at fault")
    x, reference = keras.Input((5, 7, 3)), keras.Input((65, 97, 1))
    model = keras.Model([x, reference], ResizeLike()([x, reference]))
    with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
        model.compile(jit_compile=True)
    arrays = [np.random.default_rng(0).normal(size=(2, *shape)) for shape in ((5, 7, 3), (65, 97, 1))]
    np.testing.assert_allclose(model.predict(arrays, verbose=0), model(arrays), rtol=0, atol=1e-5)
    model.compile(jit_compile="auto")
    assert not model.jit_compile


# --- what other parts do with them --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deeplabv3plus", "unet"])
def test_a_keras_file_gives_the_same_to_the_bit(networks, name, tmp_path):
    labels = [f"class {i}" for i in range(7)]
    save_model(networks[name], tmp_path / "model.keras", labels, InputContract(64, 64))
    loaded = keras.models.load_model(tmp_path / "model.keras")
    images = pixels(2, 47, 33)
    np.testing.assert_array_equal(loaded(images, training=False), networks[name](images, training=False))
    assert read_model_description(tmp_path / "model.keras").class_names == tuple(labels)


def test_a_network_with_an_auxiliary_head_keeps_both_outputs_in_a_file(randomise, tmp_path):
    model = randomise(FCN("resnet18", 7, auxiliary_head=True), seed=3)
    model.save(tmp_path / "model.keras")
    images = pixels(2, 47, 33)
    expected, loaded = model(images, training=False), keras.models.load_model(tmp_path / "model.keras")
    outputs = loaded(images, training=False)
    assert outputs.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(outputs[name], expected[name])


@pytest.mark.parametrize("name", ARCHITECTURE_BUILDERS)
def test_feature_maps_are_those_of_the_backbone(networks, name):
    maps = keras_resnet.feature_maps(networks[name])(pixels(1, 64, 96), training=False)
    strides = {"fcn": (4, 8, 8, 8), "deeplabv3": (4, 8, 8, 8), "deeplabv3plus": (4, 8, 16, 16), "unet": (4, 8, 16, 32)}
    assert {level: 64 // x.shape[1] for level, x in maps.items()} == dict(
        zip(("C2", "C3", "C4", "C5"), strides[name], strict=True)
    )


def test_freezing_leaves_decoder_and_head_to_be_trained():
    model = UNet("resnet18", 7)
    freeze(model, through="C5")
    left = {layer.name for layer in model.layers if layer.weights and layer.trainable}
    assert left == {layer.name for layer in model.layers if layer.weights and layer.name.startswith(("decoder", "log"))}


# --- arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("builder", "arguments", "message"),
    [
        (FCN, {"backbone": "resnet20"}, "a network for CIFAR has no C5. Received: backbone='resnet20'"),
        (FCN, {"backbone": "resnet51"}, "`backbone` must be one of ('resnet18', 'resnet34', 'resnet50',"),
        (FCN, {"output_stride": 16}, "must be one of (8,) for FCN. Received: output_stride=16"),
        (DeepLabV3, {"output_stride": 32}, "must be one of (8, 16) for DeepLabV3. Received: output_stride=32"),
        (UNet, {"output_stride": 16}, "must be one of (32,) for UNet"),
        (UNet, {"auxiliary_head": True}, "must be False for UNet; FCN and DeepLabV3 can have one"),
        (UNet, {"classes": 0}, "`classes` must be a positive integer. Received: classes=0"),
        (UNet, {"input_shape": (31, 64, 3)}, "at least 32 pixels, or None. Received: input_shape=(31, 64, 3)"),
        (UNet, {"classifier_activation": "softmux"}, "must name a Keras activation, or be None for logits"),
        (
            UNet,
            {"weights": "x.keras", "backbone_weights": "imagenet"},
            "`backbone_weights` must be None if `weights` are given",
        ),
    ],
)
def test_arguments_that_make_no_sense(builder, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        builder(**{"backbone": "resnet18", **arguments})


def test_every_architecture_has_a_builder_whose_help_names_its_arguments():
    assert ARCHITECTURE_BUILDERS.keys() == ARCHITECTURES.keys()
    for name, builder in ARCHITECTURE_BUILDERS.items():
        assert getattr(keras_resnet.segmentation, builder.__name__) is builder
        for argument in inspect.signature(builder).parameters:
            assert f"        {argument}: " in builder.__doc__, (name, argument)


def test_pixels_of_other_channels_and_without_normalisation():
    model = DeepLabV3Plus("resnet18", 3, input_shape=(None, None, 4), include_preprocessing=False, name="four")
    assert model.name == "four"
    assert model(np.zeros((1, 32, 40, 4), "float32"), training=False).shape == (1, 32, 40, 3)
    assert "preprocessing" not in [layer.name for layer in model.layers]
