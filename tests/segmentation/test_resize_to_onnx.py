"""A resize to a size that is known is that size in ONNX, whatever float32 makes of the scale."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_resnet.resize import ResizeLike

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")


@pytest.mark.parametrize("sides", [(65, 97), (None, None)])
def test_the_answer_is_kerass(sides):
    from keras_resnet.answers import Output
    from keras_resnet.export.to_onnx import _proto

    image = keras.Input((*sides, 3), name="image")
    x = keras.layers.Conv2D(4, 3, strides=8, padding="same")(image)  # 9x13 of 65x97
    model = keras.Model(image, ResizeLike(name="upsample")([x, image]))
    output = Output("features", "features")
    row = SimpleNamespace(layout="NHWC", colour_order="RGB", output=output, outputs=(output,))
    job = SimpleNamespace(row=row, options=SimpleNamespace(opset=None), finished=lambda made: made)
    proto = _proto(model, job)
    onnx.checker.check_model(proto, full_check=True)  # as the export does; it refuses a size that disagrees
    [resize] = [node for node in proto.graph.node if node.op_type == "Resize"]
    attributes = {attribute.name: attribute for attribute in resize.attribute}
    assert attributes["coordinate_transformation_mode"].s == b"half_pixel"
    assert attributes["mode"].s == b"linear"

    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 65, 97, 3)).astype("float32")
    [answer], expected = session.run(None, {"image": pixels}), np.asarray(model(pixels))
    assert answer.shape == expected.shape
    assert np.abs(answer - expected).max() / np.abs(expected).max() <= 1e-5
