"""Segmentation networks against an independent PyTorch forward, at sizes that no stride divides."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from networks import TOLERANCE, backbone_file, relative_error
from oracle.seeded import pixels, segmentation_state_dict, state_dict
from safetensors.numpy import save_file

from keras_resnet.segmentation import ARCHITECTURE_BUILDERS, DeepLabV3Plus, UNet

pytest.importorskip("torch", reason="the oracle needs torch")
from oracle.segmentation_forward import deeplabv3plus_forward, torchvision_forward, unet_forward

# In batches of two images and of one. The second is wide, so that the pyramid's largest rate, 36 positions of C5 at
# output stride 8, reaches more than the padding.
SIZES = ((65, 97), (32, 320))


@pytest.mark.parametrize(
    ("architecture", "backbone", "output_stride"),
    [
        ("fcn", "resnet50", 8),
        ("deeplabv3", "resnet50", 8),
        ("deeplabv3", "resnet18", 16),
    ],
)
def test_torchvisions_networks(architecture, backbone, output_stride, tmp_path):
    state, path = segmentation_state_dict(architecture, backbone), tmp_path / "seeded.safetensors"
    save_file(state, path)
    try:
        model = ARCHITECTURE_BUILDERS[architecture](
            backbone, weights=path, output_stride=output_stride, classifier_activation=None, auxiliary_head=True
        )
    finally:
        path.unlink()  # up to 170 MB, which pytest would keep for three runs
    for batch, size in zip((2, 1), SIZES, strict=True):
        images = pixels(batch, *size)
        outputs, expected = model(images, training=False), torchvision_forward(state, images, output_stride)
        assert outputs.keys() == expected.keys()
        for name in expected:
            assert relative_error(outputs[name], expected[name]) <= TOLERANCE, (name, size)
    keras.backend.clear_session()


def with_random_decoder(model: keras.Model, randomise) -> tuple[keras.Model, dict[str, np.ndarray]]:
    """Model -> the same, and its decoder's and head's arrays, drawn anew."""
    layers = [layer for layer in model.layers if layer.name.startswith(("aspp", "decoder", "logits"))]
    randomise(SimpleNamespace(layers=layers), seed=5)
    return model, {
        f"{layer.name}/{variable.name}": np.array(variable) for layer in layers for variable in layer.weights
    }


@pytest.mark.parametrize("output_stride", [16, 8])
def test_deeplabv3plus(output_stride, randomise, tmp_path):
    file = backbone_file(tmp_path, "resnet18")
    model, decoder = with_random_decoder(
        DeepLabV3Plus("resnet18", 5, backbone_weights=file, output_stride=output_stride, classifier_activation=None),
        randomise,
    )
    for batch, size in zip((2, 1), SIZES, strict=True):
        images = pixels(batch, *size)
        expected = deeplabv3plus_forward(state_dict("resnet18", 10), decoder, images, output_stride)
        assert relative_error(model(images, training=False), expected) <= TOLERANCE


def test_unet(randomise, tmp_path):
    file = backbone_file(tmp_path, "resnet18")
    model, decoder = with_random_decoder(
        UNet("resnet18", 5, backbone_weights=file, classifier_activation=None), randomise
    )
    for batch, size in zip((2, 1), SIZES, strict=True):
        images = pixels(batch, *size)
        expected = unet_forward(state_dict("resnet18", 10), decoder, images)
        assert relative_error(model(images, training=False), expected) <= TOLERANCE
