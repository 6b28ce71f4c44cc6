"""Encoded images -> a detector's boxes in pixels of each image, inside the graph of a SavedModel."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.answers import BOX_SCORES, BOXES, LABELS, MASKS, NUM_DETECTIONS, Answer
from keras_resnet.detection_layers.detections import NO_LABEL
from keras_resnet.export.encoded_images import BYTES_SPEC, area_of, fit
from keras_resnet.variants import WholeImage


def objects_function(model: keras.Model, contract: WholeImage) -> Any:
    """-> `tf.function`: encoded images, strings `[N]` -> the detector's outputs, with boxes in pixels of each image."""
    pixels_and_size = (
        tf.TensorSpec((contract.height, contract.width, 3), tf.float32),
        tf.TensorSpec((2,), tf.int32),
    )

    def serve(image_bytes: Any) -> dict[str, Any]:
        pixels, sizes = tf.map_fn(
            lambda encoded: fit(encoded, contract), image_bytes, fn_output_signature=pixels_and_size
        )
        return _in_image(model(pixels, training=False), sizes, contract)

    return tf.function(serve, input_signature=[BYTES_SPEC])


def in_rows(found: Sequence[Answer], answer: Answer) -> Answer:
    """Detections of each image as prediction gives them, answer of the network -> rows, as `serve_jpeg` gives them."""
    rows = {name: np.full_like(values, NO_LABEL if name == LABELS else 0) for name, values in answer.items()}
    for place, each in enumerate(found):
        count = rows[NUM_DETECTIONS][place] = len(each[BOXES])
        for name, values in each.items():
            rows[name][place, :count] = values
    return rows


def _in_image(answer: dict[str, Any], sizes: Any, contract: WholeImage) -> dict[str, Any]:
    """Answer of the network, heights and widths of the images `[N, 2]` -> answer in pixels of the images.

    As `tasks.detect.view` does it: boxes are cut off at the image's edges, and those beside the image are left out.
    """
    sides = tf.cast(sizes, tf.float32)
    scale = tf.tile((sides / area_of(sizes, contract))[:, ::-1], (1, 2))[:, None]  # across, down, across, down
    whole = answer[BOXES] * scale
    boxes = tf.clip_by_value(whole, 0.0, tf.tile(sides[:, ::-1], (1, 2))[:, None])
    places = tf.range(tf.shape(boxes)[1])
    there = tf.reduce_all(boxes[..., 2:] > boxes[..., :2], axis=-1) & (places < answer[NUM_DETECTIONS][:, None])
    order = tf.argsort(tf.cast(there, tf.int32), direction="DESCENDING", stable=True)
    found = tf.gather(there, order, batch_dims=1)

    def kept(values: Any, nothing: Any) -> Any:
        rows = tf.reshape(found, tf.concat([tf.shape(found), tf.ones(tf.rank(values) - 2, tf.int32)], 0))
        return tf.where(rows, tf.gather(values, order, batch_dims=1), nothing)

    outputs = {
        BOXES: kept(boxes, 0.0),
        BOX_SCORES: kept(answer[BOX_SCORES], 0.0),
        LABELS: kept(answer[LABELS], NO_LABEL),
        NUM_DETECTIONS: tf.reduce_sum(tf.cast(there, tf.int32), axis=1),
    }
    if MASKS in answer:
        outputs[MASKS] = kept(_masks_of_parts(answer[MASKS], whole, boxes), 0.0)
    return outputs


def _masks_of_parts(masks: Any, boxes: Any, parts: Any) -> Any:
    """`[N, D, h, w]` probabilities in boxes `[N, D, 4]`, parts of the boxes -> in the parts; see `masks_in_boxes`."""
    begin, end = boxes[..., :2], boxes[..., 2:]
    sides = tf.where(end > begin, end - begin, 1.0)  # rows without a box are left out later
    first, last = (parts[..., :2] - begin) / sides, (parts[..., 2:] - begin) / sides
    columns, rows = (_tents(first[..., axis], last[..., axis], masks.shape[3 - axis]) for axis in (0, 1))
    resized = tf.matmul(tf.matmul(rows, masks), columns, transpose_b=True)
    is_whole = tf.reduce_all(boxes == parts, axis=-1)[..., None, None]
    return tf.where(is_whole, masks, resized)


def _tents(first: Any, last: Any, side: int) -> Any:
    """Begin and end of parts as shares of a side `[N, D]`, number of positions -> weights `[N, D, side, side]`."""
    centres = (tf.range(side, dtype=tf.float32) + 0.5) / side
    places = first[..., None] + centres * (last - first)[..., None]
    at = tf.clip_by_value(places * side - 0.5, 0.0, side - 1.0)
    return tf.maximum(0.0, 1.0 - tf.abs(at[..., None] - tf.range(side, dtype=tf.float32)))
