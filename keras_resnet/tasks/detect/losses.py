"""Answers of a detector and the objects of its images -> losses, by layers of the network that is trained.

They are torchvision's losses (Ren et al. 2015, arXiv 1506.01497; He et al. 2017, arXiv 1703.06870), in float32 under
every dtype policy. Sums over candidates are divided by the number of candidates of the whole batch.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet import boxes as box
from keras_resnet.detection_layers import detections, proposals
from keras_resnet.detection_layers.anchors import anchors_of
from keras_resnet.detection_layers.base import BoxLayer
from keras_resnet.tasks.detect.matching import ANCHOR_RULE, PROPOSAL_RULE, Matches, match
from keras_resnet.tasks.detect.sampling import Sampling, sample
from keras_resnet.tasks.detect.target import OBJECT, taken_apart

QUADRATIC_BELOW = 1 / 9  # smaller differences of a delta have a quadratic loss
NO_OBJECT = 0  # label of a sampled box without an object, which is the background's output


class TakenApart(BoxLayer):
    """Targets `[N, L]` -> boxes `[N, G, 4]`, classes `[N, G]`, states `[N, G]`, maybe instance maps `[N, H, W]`."""

    def __init__(self, most_objects: int, sides: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.most_objects, self.sides = most_objects, tuple(sides)

    def call(self, targets: Any) -> Any:
        return [part for part in taken_apart(targets, self.most_objects, *self.sides) if part is not None]


class AnchorLosses(BoxLayer):
    """`[logits of each map [N, h, w, 3], ..., deltas of each [N, h, w, 12], ..., boxes [N, G, 4], states [N, G]]` ->
    loss of the logits `[]`, loss of the deltas `[]`: how well the anchors find objects."""

    def __init__(
        self, anchor_sizes: Sequence[float], frame_sides: Sequence[int], sampling: Sampling, seed: int, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.anchor_sizes, self.frame_sides, self.sampling = tuple(anchor_sizes), tuple(frame_sides), sampling
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any) -> Any:
        *answers, boxes, states = inputs
        maps = len(self.anchor_sizes)
        levels = zip(self.anchor_sizes, answers[:maps], strict=True)
        anchors = np.concatenate([anchors_of(size, x.shape[1:3], self.frame_sides) for size, x in levels])
        logits = ops.concatenate([ops.reshape(x, (-1, math.prod(x.shape[1:]))) for x in answers[:maps]], axis=1)
        deltas = ops.concatenate([ops.reshape(x, (-1, math.prod(x.shape[1:]) // 4, 4)) for x in answers[maps:]], axis=1)

        matches = match(ops.convert_to_tensor(anchors), boxes, states, ANCHOR_RULE)
        draws = keras.random.uniform(ops.shape(logits), seed=self.generator)
        indices, foreground, taught = sample(matches, self.sampling, draws)
        logits = ops.take_along_axis(logits, indices, axis=1)
        deltas = ops.take_along_axis(deltas, indices[..., None], axis=1)
        objects = ops.take_along_axis(matches.objects, indices, axis=1)
        boxes = ops.take_along_axis(boxes, objects[..., None], axis=1)

        number = _number(taught)
        # log(1 + e^x) - x y is the cross entropy of the logit x and the answer y.
        cross_entropy = ops.softplus(logits) - ops.where(foreground, logits, 0.0)
        objectness = ops.sum(ops.where(taught, cross_entropy, 0.0)) / number
        targets = box.encode(boxes, ops.take(anchors, indices, axis=0), proposals.CODER_WEIGHTS)
        return objectness, _sum_of_foreground(deltas, targets, foreground) / number

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor((), "float32"), keras.KerasTensor((), "float32")


class SampledBoxes(BoxLayer):
    """`[proposals [N, R, 4], scores [N, R], boxes [N, G, 4], classes [N, G], states [N, G]]` -> boxes for the heads.

    The heads learn from these boxes. They are drawn from the proposals and from the objects' own boxes. Boxes that show
    an object come first. The outputs are:

    "boxes": `[N, K, 4]`.
    "labels": int32 `[N, K]`, 1 + the class; `NO_OBJECT` for background.
    "objects": int32 `[N, K]`, row of the object that a box shows.
    "targets": `[N, K, 4]`, box of this object.
    "taught": bool `[N, K]`, False for the last boxes, where there are fewer candidates.
    """

    def __init__(self, sampling: Sampling, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.sampling, self.generator = sampling, keras.random.SeedGenerator(seed)

    def call(self, inputs: Any) -> Any:
        proposed, scores, boxes, classes, states = inputs
        is_object = states == OBJECT
        candidates = ops.concatenate([proposed, boxes], axis=1)
        exists = ops.concatenate([scores >= 0.0, is_object], axis=1)
        objects, foreground, background = match(candidates, boxes, states, PROPOSAL_RULE)
        matches = Matches(objects, ops.logical_and(exists, foreground), ops.logical_and(exists, background))
        draws = keras.random.uniform(ops.shape(exists), seed=self.generator)
        indices, foreground, taught = sample(matches, self.sampling, draws)
        drawn = ops.take_along_axis(candidates, indices[..., None], axis=1)
        objects = ops.take_along_axis(objects, indices, axis=1)
        labels = 1 + ops.cast(ops.take_along_axis(classes, objects, axis=1), "int32")
        return {
            "boxes": drawn,
            "labels": ops.where(foreground, labels, NO_OBJECT),
            "objects": objects,
            "targets": ops.take_along_axis(boxes, objects[..., None], axis=1),
            "taught": taught,
        }

    def compute_output_spec(self, inputs: Any) -> Any:
        images = inputs[0].shape[0]
        count = min(self.sampling.number, inputs[0].shape[1] + inputs[2].shape[1])
        shapes = {"boxes": ((4,), "float32"), "labels": ((), "int32"), "objects": ((), "int32")}
        shapes |= {"targets": ((4,), "float32"), "taught": ((), "bool")}
        return {name: keras.KerasTensor((images, count, *end), dtype) for name, (end, dtype) in shapes.items()}


class BoxLosses(BoxLayer):
    """`[logits [N * K, 1 + classes], deltas [N * K, 4 * (1 + classes)], boxes, labels, targets, taught]` -> loss of the
    classes `[]`, loss of the deltas `[]`; the last four are of `SampledBoxes`."""

    def call(self, inputs: Any) -> Any:
        logits, deltas, boxes, labels, targets, taught = inputs
        number, outputs = _number(taught), logits.shape[-1]
        one_hot = ops.one_hot(ops.reshape(labels, (-1,)), outputs, dtype="float32")
        cross_entropy = -ops.sum(one_hot * ops.log_softmax(logits, axis=-1), axis=-1)
        classes = ops.sum(ops.where(ops.reshape(taught, (-1,)), cross_entropy, 0.0)) / number
        # Each class has deltas of its own.
        own = ops.sum(one_hot[..., None] * ops.reshape(deltas, (-1, outputs, 4)), axis=1)
        own = ops.reshape(own, (-1, boxes.shape[1], 4))
        targets = box.encode(targets, boxes, detections.CODER_WEIGHTS)
        return classes, _sum_of_foreground(own, targets, labels != NO_OBJECT) / number

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor((), "float32"), keras.KerasTensor((), "float32")


class BoxesWithObjects(BoxLayer):
    """`[boxes [N, K, 4], labels [N, K], objects [N, K]]` of `SampledBoxes` -> the three for `count` boxes.

    These are the first boxes. A box without an object is exchanged for one of the image's boxes with an object, and
    keeps the label `NO_OBJECT`: BatchNorm in the mask head must see no background, which is not there in prediction.
    """

    def __init__(self, count: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.count = count

    def call(self, inputs: Any) -> Any:
        boxes, labels, objects = (x[:, : self.count] for x in inputs)
        number = ops.sum(ops.cast(labels != NO_OBJECT, "int32"), axis=1, keepdims=True)
        places = ops.arange(self.count, dtype="int32")[None, :] % ops.maximum(number, 1)
        repeated = ops.take_along_axis(boxes, places[..., None], axis=1)
        return repeated, labels, ops.take_along_axis(objects, places, axis=1)


class MaskLoss(BoxLayer):
    """`[logits [N * P, 28, 28, 1 + classes], boxes [N, P, 4], labels [N, P], objects [N, P], instance maps [N, H, W],
    sizes of the images [N, 2]]` -> loss of the masks `[]`."""

    def call(self, inputs: Any) -> Any:
        logits, boxes, labels, objects, instances, sizes = inputs
        size, outputs = logits.shape[1], logits.shape[-1]
        targets = mask_targets(instances, objects, boxes, sizes, size)
        one_hot = ops.one_hot(ops.reshape(labels, (-1,)), outputs, dtype="float32")
        own = ops.sum(logits * one_hot[:, None, None, :], axis=-1)
        cross_entropy = ops.softplus(own) - own * ops.reshape(targets, (-1, size, size))
        has_object = ops.reshape(labels != NO_OBJECT, (-1, 1, 1))
        return ops.sum(ops.where(has_object, cross_entropy, 0.0)) / (_number(has_object) * size**2)

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor((), "float32")


class ForEachImage(BoxLayer):
    """`[loss of a batch [], targets [N, L]]` -> `[N]`, the loss for each image: Keras wants outputs of a batch."""

    def call(self, inputs: Any) -> Any:
        loss, targets = inputs
        return ops.broadcast_to(loss, ops.shape(targets)[:1])

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor(inputs[1].shape[:1], "float32")


def mask_targets(instances: Any, objects: Any, boxes: Any, sizes: Any, size: int) -> Any:
    """Instance maps `[N, H, W]`, rows of objects `[N, P]`, boxes `[N, P, 4]`, sizes `[N, 2]` -> `[N, P, size, size]`.

    A target is torchvision's `roi_align` of the object's mask, 0 or 1, with `sampling_ratio=-1`: as many samples in a
    bin as the box is bins large. The mean of bilinear samples on a grid is a weighted sum over the rows and over the
    columns of the mask, so that two products of matrices yield it at any number of samples.
    """
    rows = _weights(boxes[..., 1], boxes[..., 3], sizes[:, :1], instances.shape[1], size)
    columns = _weights(boxes[..., 0], boxes[..., 2], sizes[:, 1:], instances.shape[2], size)

    def of_one(image: Any) -> Any:  # by image: the masks of all images at once would take too much memory
        instances, objects, rows, columns = image
        masks = ops.cast(instances[None] == ops.cast(objects + 1, "float32")[:, None, None], "float32")  # [P, H, W]
        return ops.matmul(ops.matmul(rows, masks), ops.transpose(columns, (0, 2, 1)))

    return ops.stop_gradient(ops.map(of_one, (instances, objects, rows, columns)))


def _weights(begin: Any, end: Any, sides: Any, side: int, bins: int) -> Any:
    """Edges of boxes along one axis `[N, P]`, sides of the images `[N, 1]`, side of the map, number of bins -> weights
    `[N, P, bins, side]` of the pixels in each bin."""
    length = ops.maximum(end - begin, 1.0)
    # Number of samples in a bin; a small box has fewer than the loop below goes through.
    samples = ops.ceil(length / bins)[..., None]
    bin_side, last = (length / bins)[..., None], sides[..., None] - 1.0
    pixels = ops.arange(side, dtype="float32")
    weights: Any = 0.0
    for index in range(math.ceil(side / bins)):
        place = begin[..., None] + ops.arange(bins, dtype="float32") * bin_side + (index + 0.5) * bin_side / samples
        inside = ops.logical_and(place >= -1.0, place <= last + 1.0)
        counts = ops.cast(ops.logical_and(inside, index < samples), "float32")[..., None]
        place = ops.minimum(ops.maximum(place, 0.0), last)[..., None]
        weights = weights + counts * ops.maximum(1.0 - ops.abs(place - pixels), 0.0)
    return weights / samples[..., None]


def _number(taught: Any) -> Any:
    return ops.maximum(ops.sum(ops.cast(taught, "float32")), 1.0)


def _sum_of_foreground(deltas: Any, targets: Any, foreground: Any) -> Any:
    """Deltas, targets `[N, K, 4]`, bool `[N, K]` -> smooth L1 loss (Girshick 2015, arXiv 1504.08083), summed."""
    # The targets of other boxes may be infinite, so that no gradient may pass through them.
    difference = ops.abs(ops.where(foreground[..., None], deltas - targets, 0.0))
    linear = difference - 0.5 * QUADRATIC_BELOW
    return ops.sum(ops.where(difference < QUADRATIC_BELOW, 0.5 / QUADRATIC_BELOW * ops.square(difference), linear))
