"""Prepared model -> ONNX."""

from pathlib import Path

import keras

from keras_resnet.export.to_savedmodel import serving_function
from keras_resnet.optional import require

# 18 and later turn the global average pool into ReduceMean with a second Transpose (tf2onnx 1.17).
OPSET = 17


def to_onnx(model: keras.Model, path: Path) -> None:
    """Prepared model -> ONNX file, any batch, NHWC: image float32 -> probabilities float32."""
    onnx = require("onnx", "onnx")
    tf2onnx = require("tf2onnx", "onnx")
    function = serving_function(model, batch_size=None)
    proto, _ = tf2onnx.convert.from_function(function, input_signature=function.input_signature, opset=OPSET)
    for tensor in (*proto.graph.input, *proto.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, str(path))
