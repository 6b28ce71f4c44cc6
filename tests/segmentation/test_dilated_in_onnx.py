"""Dilated convolutions in ONNX files: plain ones where the size is free, parts where it is fixed."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")


@pytest.mark.parametrize(("sides", "kinds"), [((None, None), {"Conv"}), ((9, 7), {"Conv", "Slice", "Pad", "Add"})])
def test_the_answer_is_kerass(sides, kinds, randomise):
    from keras_resnet.answers import Output
    from keras_resnet.export.dilated import in_parts
    from keras_resnet.export.to_onnx import _proto

    image = keras.Input((*sides, 3), name="image")
    x = keras.layers.Conv2D(16, 3, padding="same", name="near")(image)
    x = keras.layers.ReLU()(x)
    model = randomise(keras.Model(image, keras.layers.Conv2D(5, 3, padding="same", dilation_rate=4, name="far")(x)))
    output = Output("features", "features")
    row = SimpleNamespace(layout="NHWC", colour_order="RGB", output=output, outputs=(output,))
    job = SimpleNamespace(row=row, options=SimpleNamespace(opset=None), finished=lambda made: made)
    proto = _proto(in_parts(model, 1), job)
    onnx.checker.check_model(proto, full_check=True)
    assert {node.op_type for node in proto.graph.node} - {"Transpose", "Relu"} == kinds

    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        pixels = np.random.default_rng(count).normal(size=(count, 9, 7, 3)).astype("float32")
        [answer], expected = session.run(None, {"image": pixels}), np.asarray(model(pixels))
        assert np.abs(answer - expected).max() <= 1e-5 * np.abs(expected).max()
