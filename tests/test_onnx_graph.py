"""Graphs of ONNX: simpler, and the same function by ONNX's reference implementation."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from keras_resnet.export.onnx_graph import remove_unused_constants, simplify

GENERATOR = np.random.default_rng(0)


def graph_of(nodes, constants, output="y"):
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    made = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return helper.make_graph(nodes, "graph", [given], [made], tensors)


def answers(graph, x):
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return ReferenceEvaluator(model).run(None, {"x": x})[0]


def before_and_after(graph, x):
    copy = onnx.GraphProto()
    copy.CopyFrom(graph)
    simplify(copy)
    return answers(graph, x), answers(copy, x), [node.op_type for node in copy.node]


@pytest.mark.parametrize("bias_first", [False, True])
def test_product_and_bias_are_a_gemm(bias_first):
    terms = ["b", "p"] if bias_first else ["p", "b"]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", terms, ["y"])]
    constants = {"w": GENERATOR.normal(size=(7, 5)).astype("f"), "b": GENERATOR.normal(size=5).astype("f")}
    before, after, kinds = before_and_after(graph_of(nodes, constants), GENERATOR.normal(size=(3, 7)).astype("f"))
    assert kinds == ["Gemm"]
    np.testing.assert_allclose(after, before, rtol=1e-6)


def test_a_product_that_something_else_reads_stays():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["s"]),
        helper.make_node("Mul", ["s", "p"], ["y"]),
    ]
    constants = {"w": GENERATOR.normal(size=(7, 5)).astype("f"), "b": GENERATOR.normal(size=5).astype("f")}
    _, _, kinds = before_and_after(graph_of(nodes, constants), GENERATOR.normal(size=(3, 7)).astype("f"))
    assert kinds == ["MatMul", "Add", "Mul"]


def pooled(before="Relu", value=0.0, amounts=(0, 0, 1, 2, 0, 0, 2, 1)):
    nodes = [
        helper.make_node(before, ["x"], ["r"]),
        helper.make_node("Pad", ["r", "amounts", "value"], ["p"]),
        helper.make_node("MaxPool", ["p"], ["y"], kernel_shape=[3, 3], strides=[2, 2]),
    ]
    return graph_of(nodes, {"amounts": np.array(amounts), "value": np.float32(value)})


def test_padding_after_a_relu_moves_into_the_pooling():
    before, after, kinds = before_and_after(pooled(), GENERATOR.normal(size=(2, 3, 9, 11)).astype("f"))
    assert kinds == ["Relu", "MaxPool"]
    np.testing.assert_array_equal(after, before)
    assert after.shape == (2, 3, 5, 6)


@pytest.mark.parametrize(
    "change",
    [{"before": "Neg"}, {"value": 1.0}, {"amounts": (0, 1, 1, 1, 0, 1, 1, 1)}],
    ids=["below zero", "another value", "channels too"],
)
def test_padding_that_pooling_does_not_do_stays(change):
    before, after, kinds = before_and_after(pooled(**change), GENERATOR.normal(size=(2, 3, 9, 11)).astype("f"))
    assert kinds[1:] == ["Pad", "MaxPool"]
    np.testing.assert_array_equal(after, before)


def test_constants_that_nothing_reads_are_removed_and_an_output_stays():
    graph = pooled()
    graph.initializer.append(numpy_helper.from_array(np.float32([1, 2]), "given"))
    graph.output.append(helper.make_tensor_value_info("given", TensorProto.FLOAT, [2]))
    simplify(graph)
    remove_unused_constants(graph)
    assert [tensor.name for tensor in graph.initializer] == ["given"]
    x = GENERATOR.normal(size=(2, 3, 9, 11)).astype("f")
    np.testing.assert_array_equal(answers(graph, x), answers(pooled(), x))


def per_pixel(axis, order):
    nodes = [
        helper.make_node("Softmax", ["x"], ["s"], axis=axis),
        helper.make_node("Transpose", ["s"], ["y"], perm=order),
    ]
    return graph_of(nodes, {})


@pytest.mark.parametrize("axis", [1, -3])
def test_a_softmax_runs_over_the_last_axis_if_a_transpose_follows(axis):
    before, after, kinds = before_and_after(per_pixel(axis, [0, 2, 3, 1]), GENERATOR.normal(size=(2, 5, 3, 4)))
    assert kinds == ["Transpose", "Softmax"]
    np.testing.assert_allclose(after, before, rtol=1e-12)


@pytest.mark.parametrize(("axis", "order"), [(2, [0, 2, 3, 1]), (3, [0, 1, 2, 3]), (1, [0, 3, 1, 2])])
def test_a_softmax_of_another_axis_stays(axis, order):
    before, after, kinds = before_and_after(per_pixel(axis, order), GENERATOR.normal(size=(2, 5, 3, 4)))
    assert kinds == ["Softmax", "Transpose"]
    np.testing.assert_array_equal(after, before)
