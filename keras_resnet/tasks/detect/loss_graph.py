"""Detector -> network from pixels and objects to losses, which `fit` trains."""

import keras

from keras_resnet import layer_names
from keras_resnet.detection import head_on, pyramid_of
from keras_resnet.tasks.detect.losses import (
    AnchorLosses,
    BoxesWithObjects,
    BoxLosses,
    ForEachImage,
    MaskLoss,
    SampledBoxes,
    TakenApart,
)
from keras_resnet.tasks.detect.sampling import OF_ANCHORS, SHARE_OF_PROPOSALS, Sampling
from keras_resnet.tasks.detect.target import objects_of

OBJECTS = "objects"  # input of the targets, beside the pixels
PARTS = ("rpn_objectness", "rpn_box", "box_class", "box", "mask")  # outputs; the last only of a Mask R-CNN


def with_losses(detector: keras.Model, most_objects: int, has_masks: bool, box_samples: int, seed: int) -> keras.Model:
    """Detector on pixels that its frame does not resize -> model from `{"image": pixels, "objects": targets}` to its
    losses by name, each `[N]`, whose sum is to be minimised.

    The model is flat, and has the detector's layers.

    Args:
        most_objects: Number of rows of a target.
        has_masks: Whether the targets have instance maps.
        box_samples: Number of boxes of each image that the heads learn from.
        seed: Of the random choice of anchors and boxes.
    """
    (pixels,) = detector.inputs
    sides = pixels.shape[1:3]
    targets = keras.Input(objects_of(most_objects, has_masks).shape(*sides), dtype="float32", name=OBJECTS)
    boxes, classes, states, *instances = TakenApart(most_objects, sides, name="objects_taken_apart")(targets)
    parts = pyramid_of(detector).output
    propose = detector.get_layer(layer_names.RPN_PROPOSALS)
    of_anchors = AnchorLosses(propose.anchor_sizes, propose.frame_sides, OF_ANCHORS, seed, name="rpn_losses")
    losses = [*of_anchors([*parts["logits"], *parts["deltas"], boxes, states])]

    draw = SampledBoxes(Sampling(box_samples, SHARE_OF_PROPOSALS), seed + 1, name="sampled_boxes")
    drawn = draw([parts["boxes"], parts["scores"], boxes, classes, states])
    found = head_on(detector, "box", parts["maps"], drawn["boxes"])
    known = [drawn[key] for key in ("boxes", "labels", "targets", "taught")]
    losses += BoxLosses(name="box_losses")([found["logits"], found["deltas"], *known])
    if layer_names.MASK_LOGITS in {layer.name for layer in detector.layers}:
        count = int(box_samples * SHARE_OF_PROPOSALS)
        shown = BoxesWithObjects(count, name="boxes_with_objects")([drawn[k] for k in ("boxes", "labels", "objects")])
        masks = head_on(detector, "mask", parts["maps"], shown[0])
        losses.append(MaskLoss(name="mask_losses")([masks["logits"], *shown, *instances, parts["sizes"]]))
    # Keras writes an output's name before `_loss` in its logs.
    outputs = {name: ForEachImage(name=name)([x, targets]) for name, x in zip(PARTS, losses, strict=False)}
    return keras.Model({layer_names.IMAGE: pixels, OBJECTS: targets}, outputs, name=detector.name)
