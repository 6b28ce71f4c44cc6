"""Boxes, anchors, suppression, RoIAlign and pasted masks against what torchvision makes of them."""

import keras
import numpy as np
import pytest
from detectors import reference
from keras import ops

from keras_resnet import boxes as box
from keras_resnet.detection_layers.anchors import anchors_of
from keras_resnet.detection_layers.frame import Frame, resized_sides
from keras_resnet.detection_layers.roi_align import RoIAlign, roi_align_in_xla
from keras_resnet.masks_in_boxes import paste_masks

BOX_CODER = (10.0, 10.0, 5.0, 5.0)


@pytest.fixture(scope="module")
def stored() -> dict[str, np.ndarray]:
    return reference("boxes")


def kept(stored, threshold, groups=None, valid=None) -> np.ndarray:
    """-> indices of the boxes that suppression keeps, in the order of their scores, for each way to compute it."""
    order = np.argsort(-stored["scores"], kind="stable")
    valid = np.ones(len(order), bool) if valid is None else valid
    # In another image, among the others, no box is valid.
    images = [ops.convert_to_tensor(np.stack([array[order], array[order]])) for array in (stored["boxes"], valid)]
    images[1] = ops.concatenate([images[1][:1], ops.zeros_like(images[1][1:])])
    groups = None if groups is None else ops.convert_to_tensor(np.stack([groups[order], groups[order]]))
    found = ops.convert_to_numpy(box.not_suppressed(*images, threshold, groups))
    with box.suppression_in_one_operation():
        np.testing.assert_array_equal(ops.convert_to_numpy(box.not_suppressed(*images, threshold, groups)), found)
    assert not found[1].any()
    return order[found[0]]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_suppression_keeps_what_torchvision_keeps(stored, threshold):
    """Among the boxes are ties, empty boxes, and overlaps of just 0.3, 0.5 and 0.7."""
    expected = stored[f"nms/{threshold}"]
    np.testing.assert_array_equal(kept(stored, threshold), expected)
    one_group = np.zeros_like(stored["groups"])
    np.testing.assert_array_equal(kept(stored, threshold, one_group), expected)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_only_boxes_of_one_group_suppress_each_other(stored, threshold):
    np.testing.assert_array_equal(
        np.sort(kept(stored, threshold, stored["groups"])), stored[f"grouped_nms/{threshold}"]
    )


@pytest.mark.parametrize("groups", [None, np.zeros(240, int)])
def test_a_box_that_is_not_valid_is_not_kept_and_suppresses_none(stored, groups):
    valid = np.ones(240, bool)
    valid[stored["nms/0.5"][::2]] = False
    rest = {key: stored[key][valid] for key in ("boxes", "scores")}
    expected = np.flatnonzero(valid)[kept(rest, 0.5)]
    np.testing.assert_array_equal(kept(stored, 0.5, groups, valid), expected)


def test_overlap_clipping_and_coder(stored):
    def equal(result, key):
        np.testing.assert_allclose(ops.convert_to_numpy(result), stored[key], rtol=2e-6, atol=2e-5)

    boxes = ops.convert_to_tensor(stored["boxes"])
    equal(box.iou(boxes[:40], boxes[150:180]), "iou")
    equal(box.clip(boxes[None] - 20, ops.convert_to_tensor([[40, 55]]))[0], "clipped")
    equal(box.decode(ops.convert_to_tensor(stored["deltas"]), boxes, BOX_CODER), "decoded")
    with_area = boxes + np.array([0, 0, 1, 1], np.float32)
    deltas = box.encode(with_area, ops.flip(with_area, axis=0), BOX_CODER)
    equal(deltas, "encoded")
    back = box.decode(deltas, ops.flip(with_area, axis=0), BOX_CODER)
    np.testing.assert_allclose(back, with_area, rtol=0, atol=1e-4)


def test_roi_align(stored):
    """On asymmetric maps, with boxes of all levels, outside of the image, and without width."""
    rois = stored["rois"]
    maps = [ops.convert_to_tensor(stored[f"map{i}"]) for i in range(4)]
    pooled = RoIAlign(7)([*maps, ops.convert_to_tensor(np.stack([rois, rois]))])
    pooled = ops.convert_to_numpy(pooled).reshape(2, len(rois), 7, 7, 3)
    image = np.arange(len(rois)) % 2  # the image that torchvision read each box from
    np.testing.assert_allclose(pooled[image, np.arange(len(rois))], stored["pooled"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [7, 14])
def test_roi_align_in_xla_is_exact(size):
    """In an image of 320 pixels, where a place that is rounded in another way gives an error above 1e-5."""
    import tensorflow as tf

    draw = np.random.default_rng(0)
    maps = [draw.normal(size=(2, 320 // stride, 320 // stride, 4)).astype("float32") for stride in (4, 8, 16, 32)]
    corner, sides = draw.uniform(0, 200, (2, 200, 2)), np.exp(draw.uniform(1, 5.5, (2, 200, 2)))
    arrays = [*maps, np.concatenate([corner, corner + sides], axis=-1).astype("float32")]
    align = RoIAlign(size)
    function = tf.function(lambda *inputs: align(list(inputs)), autograph=False)
    with roi_align_in_xla():
        traced = function.get_concrete_function(*arrays)
    assert "_XlaMustCompile" in str(traced.graph.as_graph_def())
    np.testing.assert_allclose(traced(*map(tf.constant, arrays)), align(arrays), rtol=0, atol=1e-6)


def test_roi_align_passes_gradients_to_the_maps(stored):
    import tensorflow as tf

    features = tf.constant(stored["map0"])
    with tf.GradientTape() as tape:
        tape.watch(features)
        total = tf.reduce_sum(RoIAlign(7)([features, tf.constant([[[4.0, 8, 40, 36]]] * 2)]))
    gradient = tape.gradient(total, features).numpy()
    np.testing.assert_allclose(gradient.sum(), 2 * 7 * 7 * 3, rtol=1e-5)  # the weights of a bin sum to one
    assert not gradient[:, 15:].any()


def test_pasted_masks(stored):
    """Boxes within the image, across its edges, smaller than a pixel, and outside."""
    pasted = paste_masks(stored["masks"], stored["places"], 40, 60)
    np.testing.assert_allclose(pasted, stored["pasted"], rtol=0, atol=1e-5)
    assert pasted[1].any()
    assert not pasted[4].any()
    assert paste_masks(stored["masks"][:0], stored["places"][:0], 40, 60).shape == (0, 40, 60)


def test_anchors_are_in_the_order_of_rows_columns_and_ratios():
    anchors = anchors_of(32, (13, 25), (800, 800))
    assert anchors.shape == (13 * 25 * 3, 4)
    np.testing.assert_array_equal(anchors[:3], [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]])
    np.testing.assert_array_equal(anchors[4], [16, -16, 48, 16])  # the second column: the stride is 800 // 25
    np.testing.assert_array_equal(anchors[25 * 3 + 1], [-16, 45, 16, 77])  # the second row: 800 // 13
    np.testing.assert_array_equal(anchors_of(101, (1, 1), (32, 32))[1], [-50, -50, 50, 50])  # 50.5, half to even


@pytest.mark.parametrize(
    ("size", "resized"),
    [((480, 640), (800, 1066)), ((640, 480), (1066, 800)), ((300, 1000), (399, 1333)), ((97, 97), (799, 799))],
)
def test_sides_in_the_frame(size, resized):
    """The last one is 799 and not 800 in torchvision too, since 800 / 97 * 97 is less than 800 in double precision."""
    assert resized_sides(*size, 800, 1333) == resized


def test_an_image_of_its_own_size_in_the_frame():
    """A gradient stays one, edges included, the sizes are right, and the rest has the mean colour."""
    pixels = np.full((1, 60, 97, 3), 255, np.uint8)
    rows, columns = np.mgrid[:40, :97]
    pixels[0, :40] = (rows + columns)[..., None]
    frame, in_frame, sizes = Frame(80, 150)([pixels, np.array([[40, 97]], np.int32)])
    assert tuple(frame.shape) == (1, 160, 160, 3)
    np.testing.assert_array_equal(in_frame, [resized_sides(40, 97, 80, 150)])
    np.testing.assert_array_equal(sizes, [[40, 97]])
    height, width = resized_sides(40, 97, 80, 150)
    place = [np.clip((np.arange(n) + 0.5) * side / n - 0.5, 0, side - 1) for n, side in ((height, 40), (width, 97))]
    np.testing.assert_allclose(frame[0, :height, :width, 0], place[0][:, None] + place[1], atol=1e-4)
    mean = 255 * np.array([0.485, 0.456, 0.406])
    np.testing.assert_allclose(frame[0, height:], np.broadcast_to(mean, (160 - height, 160, 3)), rtol=1e-6)
    np.testing.assert_allclose(frame[0, :, width:], np.broadcast_to(mean, (160, 160 - width, 3)), rtol=1e-6)


def test_the_sizes_in_the_frame_are_those_of_whole_images():
    sizes = np.array([[97, 97], [60, 97], [97, 33], [1, 97]], np.int32)
    frame = Frame(800, 1333)
    pixels = np.zeros((len(sizes), 97, 97, 3), np.uint8)
    symbolic = frame([keras.KerasTensor((None, 97, 97, 3), "uint8"), keras.KerasTensor((None, 2), "int32")])
    assert [x.shape for x in symbolic] == [(None, 1344, 1344, 3), (None, 2), (None, 2)]
    _, in_frame, _ = Frame(80, 133)([pixels, sizes])
    np.testing.assert_array_equal(in_frame, [resized_sides(*size, 80, 133) for size in sizes.tolist()])
