"""Keras model of any make -> flat model whose task and output kind are stated.

All commands and functions that take a Keras model read it here, so that each of them reads it alike.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_resnet.errors import ArgumentError
from keras_resnet.facts import carry, facts_of, state
from keras_resnet.graph import flatten, keeps_logits, output_activation, rebuild
from keras_resnet.normalisation import check_normalises, doubt_about_scale
from keras_resnet.printable import printable
from keras_resnet.tasks import task_named
from keras_resnet.tasks.outputs import Reading, classes_of, loss_of, read_output

EXAMPLE_SIDES = (64, 96)  # height and width of an example image for a network of any size


def interpret(
    model: Any, task: str | None = None, output_kind: str | None = None, name: str | None = None
) -> keras.Model:
    """Keras model, from this package or not -> equal flat model for prediction, with task and output kind stated.

    Models inside it become part of its graph. A classifier of one output, which is the probability or the logit of the
    second of two classes, becomes a classifier of two outputs.

    Args:
        task: A name in `keras_resnet.tasks.TASKS`. Default: the stated task, or the task that the model's last layers
            and its loss show.
        output_kind: "probabilities", "logits", "values" or "features". Default: as for `task`.
        name: Name of the model in messages. Default: its own name.

    Raises:
        ArgumentError: The model is not functional, has several inputs or outputs, lacks its normalisation, does not fit
            what is stated about it, or can be read in several ways.
    """
    if name is None:
        name = f"`model` {model.name!r}" if isinstance(model, keras.Model) else "`model`"
    known = facts_of(model).task if isinstance(model, keras.Model) else None
    if known is not None and task_named(known).built_here_alone:
        _check_as_stated(name, known, task, output_kind)
        state(model, interpreted=True)
        return model
    check_functional(model, name)
    facts = facts_of(model)
    if facts.interpreted and task in (None, facts.task) and output_kind in (None, facts.output_kind):
        return model
    flat = flatten(model)
    reading = read(model, flat, task, output_kind, name)
    check_normalises(flat, name)
    if classes_of(reading.task, flat.outputs[0].shape[-1]) != flat.outputs[0].shape[-1]:
        flat = _with_two_classes(flat, reading.kind)
    read_as = None
    if flat is model:  # what was read is no fact about the user's own object, which may be compiled with a loss later
        flat = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
        carry(model, flat)
    if reading.why is not None:
        words = f"task {reading.task}, {flat.outputs[0].shape[-1]} {reading.kind}, {reading.why}"
        read_as = "\n".join(printable(f"{name}: {each}") for each in (words, doubt_about_scale(flat)) if each)
    state(flat, task=reading.task, output_kind=reading.kind, interpreted=True, read_as=read_as)
    state(flat, weights_origin=facts.weights_origin)  # they are the weights of the given model
    return flat


def _check_as_stated(name: str, known: str, task: str | None, output_kind: str | None) -> None:
    """Raises `ArgumentError` if another task, or a kind of output, is asked for than the model has."""
    if task not in (None, known) or output_kind is not None:
        given = f"task {task}" if task not in (None, known) else f"output kind {output_kind}"
        raise ArgumentError(
            f"{name}: is a network for the task {known}, as its file states. Leave out `task` (--task) and "
            f"`output_kind` (--output-kind). Received: {given}"
        )


def check_functional(model: Any, name: str) -> None:
    """Raises `ArgumentError` unless the model is functional, with one input and one output."""
    if not isinstance(model, keras.Model):
        raise ArgumentError(f"{name} must be a built functional Keras model. Received: {model!r}")
    if not getattr(model, "inputs", None):
        raise ArgumentError(
            f"{name} must be a built functional Keras model. Received: {model!r}. A class with a `call` of its own "
            "becomes functional in two lines: image = keras.Input((height, width, 3)); "
            "model = keras.Model(image, model.call(image))"
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        inputs, outputs = (
            ", ".join(tensor._keras_history.operation.name for tensor in tensors)
            for tensors in (model.inputs, model.outputs)
        )
        raise ArgumentError(
            f"{name} must have one input and one output. Its inputs are {inputs}; its outputs are {outputs}. For one "
            "of its outputs: keras.Model(model.input, model.outputs[0])"
        )


def read(model: Any, flat: keras.Model, task: str | None, output_kind: str | None, name: str) -> Reading:
    """Model, its flat form, task and output kind asked for -> its task and output kind.

    Raises:
        ArgumentError: See `interpret`.
    """
    facts = facts_of(model)
    activation, last = output_activation(flat)
    return read_output(
        name,
        tuple(flat.inputs[0].shape),
        _answer_shape(flat, name),
        activation,
        last=last.name,
        loss=facts.loss or loss_of(model),
        task=task or facts.task,
        kind=output_kind or (None if task else facts.output_kind),
    )


def _answer_shape(model: keras.Model, name: str) -> tuple[int | None, ...]:
    """-> shape of the output; its height and width are free if they follow the height and width of the image.

    Raises:
        ArgumentError: The output is for places of the image, but not for every pixel.
    """
    shape, answer = tuple(model.inputs[0].shape), tuple(model.outputs[0].shape)
    if len(shape) != 4 or len(answer) != 4:
        return answer
    if None in shape[1:3]:
        sides = tuple(side or example for side, example in zip(shape[1:3], EXAMPLE_SIDES, strict=True))
        shape, computed = (1, *sides, shape[3]), tuple(model.compute_output_shape((1, *sides, shape[3])))
    else:
        computed = answer
    if computed[1:3] != shape[1:3]:
        raise ArgumentError(
            f"{name}: must answer for the whole image, [N, classes], or for every pixel of it, "
            f"[N, {shape[1]}, {shape[2]}, classes]. Its output is {list(answer)}. For features, end in "
            'GlobalAveragePooling2D, or build with include_top=False, pooling="avg"'
        )
    return answer


def _with_two_classes(model: keras.Model, kind: str) -> keras.Model:
    """Flat model of one output, the probability or logit z of the second class -> model of two outputs.

    sigmoid(z) is the second value of softmax([-z / 2, z / 2]), so that the last kernel is written twice.
    """
    activation, last = output_activation(model)
    passing = [last] if activation == "linear" else []  # from the output's activation back to the last kernel
    head = last
    while activation == "sigmoid" and (head is last or keeps_logits(head)):
        passing.append(head)
        head = keras.tree.flatten(head.input)[0]._keras_history.operation
    if not isinstance(head, (layers.Dense, layers.Conv2D)) or head.activation is not keras.activations.linear:
        scores = model.outputs[0] if kind == "probabilities" else ops.sigmoid(model.outputs[0])
        both = layers.Concatenate(name="both_classes", dtype="float32")([1 - scores, scores])
        return keras.Model(model.inputs[0], both, name=model.name)
    weights = {head.name: [np.concatenate([-values / 2, values / 2], axis=-1) for values in head.get_weights()]}
    for layer in passing:  # the range of quantization-aware training
        if layer is not head and getattr(layer, "weights", None):
            half = max(abs(float(value)) for value in layer.get_weights()) / 2
            weights[layer.name] = [np.asarray(-half), np.asarray(half)]

    def exchange(layer: Any) -> Any:
        if layer is last and activation == "sigmoid":
            return layers.Activation("softmax", name=layer.name, dtype="float32")
        config = layer.get_config()
        if layer is head:
            config["filters" if "filters" in config else "units"] = 2
        return layer.__class__.from_config(config)

    return rebuild(model, exchange, weights=weights)
