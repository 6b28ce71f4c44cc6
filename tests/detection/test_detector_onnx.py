"""Detectors as ONNX files: RoIAlign is exact; in float16 and integers, which numbers each part holds."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
import tf2onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from small_detector import small_detector

from keras_resnet.detection_layers.roi_align import RoIAlign
from keras_resnet.export import export
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.onnx_float16 import to_float16
from keras_resnet.export.onnx_graph import remove_unused_constants

FLOAT, FLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16
WEIGHTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def small_graph():
    """-> `relu(image x kernel + bias)` as `hidden`; `total` is its sum with `image`; a resize doubles the sum."""
    draw = np.random.default_rng(0)
    tensor = helper.make_tensor_value_info
    nodes = [
        helper.make_node("MatMul", ["image", "kernel"], ["product"], name="product"),
        helper.make_node("Add", ["product", "bias"], ["sum"], name="sum"),
        helper.make_node("Relu", ["sum"], ["hidden"], name="hidden"),
        helper.make_node("Add", ["image", "hidden"], ["total"], name="total"),
        helper.make_node("Resize", ["total", "", "", "sizes"], ["large"], name="large", mode="nearest"),
        helper.make_node("Mul", ["large", "factor"], ["scaled"], name="scaled"),
    ]
    constants = {
        "kernel": draw.normal(size=(4, 4)).astype("float32"),
        "bias": draw.normal(size=4).astype("float32"),
        "sizes": np.array([1, 1, 8, 8], "int64"),
        "factor": np.array(1 + 2**-20, "float32"),  # is 1 in float16
    }
    graph = helper.make_graph(
        nodes,
        "small",
        [tensor("image", FLOAT, [1, 1, 4, 4])],
        [tensor("hidden", FLOAT, [1, 1, 4, 4]), tensor("scaled", FLOAT, [1, 1, 8, 8])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), constants


def test_named_nodes_stay_float32():
    proto, constants = small_graph()
    image = np.random.default_rng(1).normal(size=(1, 1, 4, 4)).astype("float32")
    to_float16(proto, {"total", "scaled"})
    remove_unused_constants(proto.graph)
    onnx.checker.check_model(proto, full_check=True)
    hidden, scaled = ReferenceEvaluator(proto).run(None, {"image": image})

    np.testing.assert_array_equal(hidden, half(hidden))
    expected = np.maximum(half(image) @ half(constants["kernel"]) + half(constants["bias"]), 0)
    np.testing.assert_allclose(hidden, expected, rtol=2e-3, atol=2e-3)
    total = (image + hidden).repeat(2, axis=2).repeat(2, axis=3)
    np.testing.assert_array_equal(scaled, half(total) * constants["factor"])
    types = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    assert {name for name, kind in types.items() if kind == FLOAT16} == {"kernel_float16", "bias_float16"}
    assert types["factor"] == FLOAT
    casts = [(node.input[0], node.output[0]) for node in proto.graph.node if node.op_type == "Cast"]
    assert casts == [
        ("image", "image_float16"),
        ("hidden_float16", "hidden"),
        ("total", "total_float16"),
        ("large_float16", "large"),
    ]


def half(values):
    """-> float32 values, rounded to float16."""
    return values.astype("float16").astype("float32")


@pytest.mark.parametrize("size", [7, 14])
def test_roi_align_is_exact_in_onnx_runtime(size):
    """Samples of random values show a place that is off by one rounding: the error is then above 1e-5."""
    draw = np.random.default_rng(0)
    maps = [draw.normal(size=(2, 320 // stride, 320 // stride, 4)).astype("float32") for stride in (4, 8, 16, 32)]
    corner, sides = draw.uniform(0, 200, (2, 200, 2)), np.exp(draw.uniform(1, 5.5, (2, 200, 2)))
    boxes = np.concatenate([corner, corner + sides], axis=-1).astype("float32")
    arrays = {f"input{place}": array for place, array in enumerate([*maps, boxes])}
    align = RoIAlign(size)
    expected = np.asarray(align(list(arrays.values())))  # equal to torchvision's, see test_boxes
    function = tf.function(
        lambda *inputs: align(list(inputs)),
        input_signature=[tf.TensorSpec((None, *array.shape[1:]), name=name) for name, array in arrays.items()],
        autograph=False,
    )
    np.testing.assert_allclose(function(*arrays.values()), expected, rtol=0, atol=1e-6)
    proto, _ = tf2onnx.convert.from_function(function, input_signature=function.input_signature, opset=17)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, arrays)[0], expected, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def network():
    return small_detector(3, masks=True)


@pytest.fixture(scope="module")
def made(network, tmp_path_factory):
    images = synthetic_images((96, 96, 3), count=32, seed=3)
    return export(network, tmp_path_factory.mktemp("out"), ["onnx-float16", "onnx-int8"], calibration=images)


@pytest.mark.slow
def test_the_files_are_verified(made, network):
    parameters = network.count_params()
    for name, bytes_per_parameter, matched_percent, score_error in (
        ("onnx-float16", 2, 97, 2e-3),
        ("onnx-int8", 1, 90, 0.15),
    ):
        report = made.reports[name]
        assert report.passed
        assert made.paths[name].stat().st_size < 1.1 * bytes_per_parameter * parameters
        assert report.top1_agreement_percent >= matched_percent
        assert 0 < report.max_difference < score_error


@pytest.mark.slow
def test_weights_are_float16_and_boxes_float32(made):
    graph = onnx.load(str(made.paths["onnx-float16"])).graph
    constants = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in WEIGHTS:
            assert constants.get(node.input[1], FLOAT16) == FLOAT16, node.name
        if node.op_type in ("TopK", "Softmax", "Exp", "Sigmoid"):
            assert not any(name.endswith("_float16") for name in (*node.input, *node.output)), node.name
    assert "Cast" in {node.op_type for node in graph.node}


@pytest.mark.slow
def test_convolutions_and_dense_layers_are_integers_and_boxes_are_not(made):
    graph = onnx.load(str(made.paths["onnx-int8"])).graph
    makers = {output: node for node in graph.node for output in node.output}
    rounded: Counter[str] = Counter()
    unrounded: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type in WEIGHTS:
            rounds = node.input[1] in makers and makers[node.input[1]].op_type == "DequantizeLinear"
            (rounded if rounds else unrounded)[node.op_type] += 1
        if node.op_type in ("TopK", "Softmax", "Exp", "Sigmoid"):
            assert makers[node.input[0]].op_type != "DequantizeLinear", node.name
    # The logits and deltas of five maps, the logits of the masks, and their transposed convolution.
    assert unrounded == {"Conv": 11, "ConvTranspose": 1}
    # ResNet-18 has 20 convolutions; four pairs of the pyramid, one for the proposals of each map, four for masks.
    assert rounded == {"Conv": 20 + 8 + 5 + 4, "Gemm": 4}
