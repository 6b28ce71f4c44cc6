"""Folded model -> TFLite, batch 1: float32, 16-bit or 8-bit weights, or only integers."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.errors import ExportError
from keras_resnet.export.dilated import in_parts
from keras_resnet.export.job import Job
from keras_resnet.export.tflite_graph import for_xnnpack
from keras_resnet.export.to_savedmodel import write_savedmodel

# XNNPACK multiplies padding like pixels. So parts pay off even if few of the products read padding.
LARGEST_SHARE = 0.9


def to_tflite(job: Job, path: Path) -> None:
    """Folded model -> file in float32."""
    _write(job, in_parts(job.model, LARGEST_SHARE), path, lambda converter: None)


def to_tflite_float16(job: Job, path: Path) -> None:
    """Folded model -> file with float16 weights; a CPU computes in float32, a GPU in float16."""

    def set_up(converter: tf.lite.TFLiteConverter) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]

    _write(job, in_parts(job.model, LARGEST_SHARE), path, set_up)


def to_tflite_dynamic(job: Job, path: Path) -> None:
    """Folded model -> file with int8 weights, whose activations are rounded at run time (dynamic range)."""

    def set_up(converter: tf.lite.TFLiteConverter) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]

    _write(job, job.model, path, set_up)


def to_tflite_int8(job: Job, path: Path) -> None:
    """Quantized model -> file with only integers: pixels uint8 -> probabilities uint8, unless options say otherwise.

    Weights have a scale for each channel, activations for each tensor. The input has scale 1 and zero point 0, so that
    the bytes of a picture are the input.
    """

    def set_up(converter: tf.lite.TFLiteConverter) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]  # the converter takes the ranges of the fake quantization
        converter.inference_input_type = tf.dtypes.as_dtype(job.row.input_dtype)
        if not job.row.output.decides:  # classes have a fixed type
            converter.inference_output_type = tf.dtypes.as_dtype(job.row.output_dtype)

    _write(job, job.quantized().simulate(), path, set_up)


def to_tflite_int16x8(job: Job, path: Path) -> None:
    """Rounded kernels, calibration images -> file with int8 weights, int16 activations, float32 input and output."""
    images: np.ndarray = job.calibration  # type: ignore[assignment]  # the pipeline has checked it

    def set_up(converter: tf.lite.TFLiteConverter) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None].astype("float32")] for image in images)
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]

    _write(job, job.quantized().model, path, set_up)


def _write(job: Job, model: keras.Model, path: Path, set_up: Callable[[tf.lite.TFLiteConverter], None]) -> None:
    """Converts through a SavedModel of raw variables, which keeps the weights and gives the file a signature."""
    with tempfile.TemporaryDirectory(dir=job.scratch) as folder:
        write_savedmodel(job.finished(for_xnnpack(model)), Path(folder), 1, job.row.output.name)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # a missing kernel is an error, not Flex
        set_up(converter)
        content = converter.convert()
    several = len(job.row.outputs) > 1  # a detector's, whose boxes stay in float
    content = _without_flips(content) if job.row.keep_float or (several and job.row.calibrated) else content
    path.write_bytes(_in_order(content, job) if several else content)


def _in_order(content: bytes, job: Job) -> bytes:
    """TFLite file of several outputs -> file whose outputs have the order of its description.

    The converter orders them by the alphabet. Its metadata, and programs that know no signatures, go by their order.
    """
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    [signature] = model.signatureDefs
    tensors = {each.name.decode(): each.tensorIndex for each in signature.outputs}
    model.subgraphs[0].outputs = np.array([tensors[output.name] for output in job.row.outputs], "int32")
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _without_flips(content: bytes) -> bytes:
    """TFLite file -> file without the flips along no axis that kept values in float, on which LiteRT crashes."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    kinds = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    graph, *of_loops = model.subgraphs
    before: dict[int, int] = {}  # output of a flip -> its input
    left = []
    for operator in graph.operators:
        operator.inputs = np.array([before.get(tensor, tensor) for tensor in operator.inputs], "int32")
        if kinds[operator.opcodeIndex] == schema.BuiltinOperator.REVERSE_V2:
            if graph.tensors[operator.outputs[0]].type != schema.TensorType.FLOAT32:
                raise ExportError("the TFLite converter quantized what shall stay float: leave `keep_float` out")
            before[operator.outputs[0]] = operator.inputs[0]
        else:
            left.append(operator)
    graph.operators = left
    graph.outputs = np.array([before.get(tensor, tensor) for tensor in graph.outputs], "int32")
    for output in model.signatureDefs[0].outputs:
        output.tensorIndex = before.get(output.tensorIndex, output.tensorIndex)
    every = [operator for each in (graph, *of_loops) for operator in each.operators]
    used = sorted({operator.opcodeIndex for operator in every})
    for operator in every:
        operator.opcodeIndex = used.index(operator.opcodeIndex)
    model.operatorCodes = [model.operatorCodes[index] for index in used]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
