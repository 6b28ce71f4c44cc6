"""Detectors against torchvision's, on seeded weights and two images of different sizes that are resized inside."""

import keras
import numpy as np
import pytest
from detectors import batch, build, check_detections, file_of, reference
from oracle.seeded_detectors import CASES, images

from keras_resnet.detection import FasterRCNN, head_on, pyramid_of
from keras_resnet.masks_in_boxes import paste_masks


def as_arrays(answers) -> dict[str, np.ndarray]:
    return {name: keras.ops.convert_to_numpy(value) for name, value in answers.items()}


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> keras.Model:
    return build("maskrcnn_v1", file_of("maskrcnn_v1", tmp_path_factory.mktemp("weights")))


@pytest.mark.parametrize("name", ["fasterrcnn_v1", "fasterrcnn_v2", "maskrcnn_v2"])
def test_detects_what_torchvision_detects(name, tmp_path):
    answers = as_arrays(build(name, file_of(name, tmp_path))(batch(CASES[name])))
    check_detections(answers, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("_full")])
def test_resnet50_detects_what_torchvision_detects(name, tmp_path):
    path = file_of(name, tmp_path)
    try:
        model = build(name, path)
    finally:
        path.unlink()  # up to 185 MB, which pytest would keep for three runs
    check_detections(as_arrays(model(batch(CASES[name]))), name)
    keras.backend.clear_session()


def test_in_a_file_and_pasted(network, tmp_path):
    case = CASES["maskrcnn_v1"]
    network.save(tmp_path / "detector.keras")
    loaded = keras.models.load_model(tmp_path / "detector.keras")
    answers = as_arrays(loaded(batch(case)))
    check_detections(answers, "maskrcnn_v1")
    for i, size in enumerate(case.sizes):
        expected = reference("maskrcnn_v1")[f"pasted/{i}"]
        pasted = paste_masks(answers["masks"][i][:2], answers["boxes"][i][:2], *size)
        # A box whose edge is within an error of a whole number would be cut elsewhere; none is here.
        np.testing.assert_allclose(pasted, expected, rtol=0, atol=2e-4)


def test_images_of_one_size_need_no_second_input(network, tmp_path):
    """The frame is then as large as the image needs, and one image has the detections of torchvision only in it."""
    height, width = CASES["maskrcnn_v1"].sizes[0]
    picture = images(CASES["maskrcnn_v1"].sizes)[0]
    model = build("maskrcnn_v1", None, input_shape=(height, width, 3), image_sizes=False)
    model.set_weights(network.get_weights())
    assert model.get_layer("frame").output[0].shape == (None, 96, 128, 3)  # 72 x 108, up to multiples of 32
    answers = as_arrays(model(np.stack([picture, picture[:, ::-1]])))
    assert answers["boxes"].shape == (2, 100, 4)
    assert answers["num_detections"].min() > 10
    assert (answers["boxes"][..., 2] <= width + 1e-3).all()
    assert (answers["boxes"][..., 3] <= height + 1e-3).all()
    assert np.abs(as_arrays(model(picture[None].astype("float32")))["boxes"] - answers["boxes"][:1]).max() < 1e-3


def test_the_parts_are_the_network(network):
    """Training computes the maps and the heads on boxes of its own choice, with the layers of the network."""
    inputs = batch(CASES["maskrcnn_v1"])
    parts = pyramid_of(network)(inputs)
    assert [tuple(x.shape[1:]) for x in parts["logits"]] == [(s, s, 3) for s in (32, 16, 8, 4, 2)]
    assert [tuple(x.shape[1:]) for x in parts["deltas"]] == [(s, s, 12) for s in (32, 16, 8, 4, 2)]
    assert [x.shape[-1] for x in parts["maps"]] == [16] * 4
    boxes = parts["boxes"][:, :5]
    answers = head_on(network, "box", parts["maps"], boxes)
    whole = keras.Model(network.inputs, network.get_layer("box_logits").output)(inputs)
    expected = keras.ops.reshape(whole, (2, -1, 8))[:, :5]
    np.testing.assert_allclose(answers["logits"], keras.ops.reshape(expected, (10, 8)), atol=1e-4)
    assert tuple(answers["deltas"].shape) == (10, 32)
    masks = head_on(network, "mask", parts["maps"], boxes)
    assert tuple(masks["logits"].shape) == (10, 28, 28, 8)


def test_no_detection_is_zeros_without_a_label(network):
    model = build("maskrcnn_v1", None, score_threshold=1.0)
    model.set_weights(network.get_weights())
    answers = as_arrays(model(batch(CASES["maskrcnn_v1"])))
    assert answers["num_detections"].tolist() == [0, 0]
    assert (answers["labels"] == -1).all()
    assert not any(answers[key].any() for key in ("boxes", "scores", "masks"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"version": "v3"}, "`version` must be one of ('v1', 'v2') for FasterRCNN. Received: version='v3'"),
        ({"backbone": "resnet20"}, "a network for CIFAR has no C5. Received: backbone='resnet20'"),
        ({"input_shape": (None, None, 3)}, "`input_shape` of a detector must have a fixed height and width"),
        ({"anchor_sizes": (8, 16)}, "`anchor_sizes` must be 5 sides in pixels, one for each map of the pyramid"),
        ({"classes": 0}, "`classes` must be a positive integer. Received: classes=0"),
        ({"min_size": 0}, "`min_size` must be a positive integer. Received: min_size=0"),
        (
            {"min_size": 90, "max_size": 80},
            "`max_size` must be at least `min_size`. Received: min_size=90, max_size=80",
        ),
        ({"score_threshold": 50}, "`score_threshold` must be from 0 to 1. Received: score_threshold=50"),
        ({"iou_threshold": -1}, "`iou_threshold` must be from 0 to 1. Received: iou_threshold=-1"),
        ({"proposals": 0}, "`proposals` must be a positive integer. Received: proposals=0"),
        ({"max_detections": 0}, "`max_detections` must be a positive integer. Received: max_detections=0"),
    ],
)
def test_an_argument_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match="Received") as refused:
        FasterRCNN(**{"backbone": "resnet18", **arguments})
    assert message in str(refused.value)
