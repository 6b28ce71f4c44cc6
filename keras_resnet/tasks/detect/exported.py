"""A detector as its files hold it: with the post-processing that the export's options ask for, or without any."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_resnet import layer_names
from keras_resnet.detection import pyramid_of
from keras_resnet.detection_layers.anchors import ASPECT_RATIOS
from keras_resnet.detection_layers.detections import Detections
from keras_resnet.detection_layers.frame import resized_sides
from keras_resnet.errors import ExportError
from keras_resnet.facts import carry, facts_of, state
from keras_resnet.graph import copy, rebuild
from keras_resnet.tasks.detect.described import BOUNDS, wrong_setting
from keras_resnet.tasks.detect.outputs import ANCHOR_MAPS, MAPS, deltas_on, logits_on


def for_export(model: keras.Model, options: Any) -> keras.Model:
    """Detector, `export.formats.Options` -> the network of its files, whose facts are what their description states.

    Raises:
        ExportError: A setting is out of its bounds, or is given for a network without post-processing.
    """
    given = {name: value for name in BOUNDS if (value := getattr(options, name)) is not None}
    if not options.raw_heads:
        return _with_settings(model, given)
    if given:
        raise ExportError(
            f"`{next(iter(given))}` must be left out with `raw_heads` (--raw-heads), whose files have no "
            f"post-processing. Received: {next(iter(given))}={next(iter(given.values()))!r}"
        )
    return _raw_heads_of(model)


def _with_settings(model: keras.Model, given: Mapping[str, Any]) -> keras.Model:
    layer = model.get_layer(layer_names.BOX_DETECTIONS)
    own = {name: getattr(layer, name) for name in BOUNDS}
    wanted = {**own, **given}
    if wrong := wrong_setting(wanted):
        raise ExportError(wrong)

    def exchange(each: Any) -> Any:
        return Detections.from_config({**each.get_config(), **wanted}) if each is layer else copy(each)

    changed = keras.Model(model.input, model.output, name=model.name) if wanted == own else rebuild(model, exchange)
    return _stated(model, changed, wanted)


def _raw_heads_of(model: keras.Model) -> keras.Model:
    """Detector -> its part before the proposals, by the names of `outputs.RAW_HEADS`."""
    values = pyramid_of(model).output
    outputs = dict(zip(MAPS, values["maps"], strict=True))
    for kind, name_on in (("logits", logits_on), ("deltas", deltas_on)):
        outputs |= {name_on(level): x for level, x in zip(ANCHOR_MAPS, values[kind], strict=True)}
    frame, propose = model.get_layer(layer_names.FRAME), model.get_layer(layer_names.RPN_PROPOSALS)
    height, width = model.inputs[0].shape[1:3]
    geometry = {
        "classes": model.get_layer(layer_names.BOX_LOGITS).output.shape[-1] - 1,
        "anchor_sizes": [*propose.anchor_sizes],
        "aspect_ratios": [*ASPECT_RATIOS],
        "frame_sides": [*propose.frame_sides],
        "image_sides_in_frame": [*resized_sides(height, width, frame.min_size, frame.max_size)],
    }
    return _stated(model, keras.Model(model.input, outputs, name=model.name), geometry)


def _stated(model: keras.Model, changed: keras.Model, facts: Mapping[str, Any]) -> keras.Model:
    """Detector, its form for export, what its description states -> that form, with all facts."""
    carry(model, changed)
    state(changed, weights_origin=facts_of(model).weights_origin, task_facts=dict(facts))
    return changed
