"""A detector that is small enough for tests of commands, with random weights."""

import keras
import numpy as np

import keras_resnet


def small_detector(classes=2, masks=False, size=96, seed=3):
    """-> network of 96 x 96 pixels whose scores differ, with at most 20 detections of 0.05 or more."""
    keras.utils.set_random_seed(seed)
    build = keras_resnet.detection.MaskRCNN if masks else keras_resnet.detection.FasterRCNN
    model = build(
        "resnet18", classes, input_shape=(size, size, 3), min_size=size, max_size=size, channels=16, units=32,
        proposals=40, max_detections=20, score_threshold=0.0, anchor_sizes=(8, 16, 24, 32, 64),
    )  # fmt: skip
    draw = np.random.default_rng(seed)
    for name, spread in (("box_logits", 1.0), ("box_deltas", 0.3)):
        layer = model.get_layer(name)
        layer.set_weights([draw.normal(0, spread, weight.shape) for weight in layer.get_weights()])
    return model
