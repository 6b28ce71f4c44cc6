"""Graphs of ONNX: simpler, and the same function by ONNX's reference implementation."""

import platform

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from keras_resnet.export.onnx_graph import remove_unused_constants, simplify, state_sizes

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


def conv(given, made, kernel, **settings):
    return helper.make_node("Conv", [given, f"{made}_kernel"], [made], kernel_shape=[kernel, kernel], **settings)


def blocks(dilation, pads):
    """Two blocks of 16 channels, for images `[N, 3, H, W]` of any size; the second kernel of each is dilated."""
    nodes, constants, x = (
        [conv("x", "stem", 3, strides=[2, 2], pads=[1, 1, 1, 1])],
        {"stem_kernel": (16, 3, 3, 3)},
        "stem",
    )
    for name in ("one", "two"):
        nodes += [
            conv(x, f"{name}_a", 1, auto_pad="SAME_UPPER"),
            conv(f"{name}_a", f"{name}_b", 3, dilations=[dilation, dilation], pads=pads),
            helper.make_node("Add", [x, f"{name}_b"], [f"{name}_sum"]),
            helper.make_node("Relu", [f"{name}_sum"], [name if name == "one" else "y"]),
        ]
        constants |= {f"{name}_a_kernel": (16, 16, 1, 1), f"{name}_b_kernel": (16, 16, 3, 3)}
        x = name
    graph = graph_of(nodes, {name: GENERATOR.normal(size=shape).astype("f") for name, shape in constants.items()})
    for tensor, shape in ((graph.input[0], ["n", 3, "h", "w"]), (graph.output[0], ["n", 16, None, None])):
        tensor.CopyFrom(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, shape))
    return graph


def sizes_of(graph):
    return {
        value.name: tuple(side.dim_param for side in value.type.tensor_type.shape.dim[2:]) for value in graph.value_info
    }


def test_sizes_are_those_of_an_earlier_map_and_are_true():
    graph = blocks(dilation=2, pads=[2, 2, 2, 2])
    graph.node.append(conv("one", "half", 3, strides=[2, 1], dilations=[1, 3], pads=[1, 2, 1, 4]))
    graph.node.append(helper.make_node("MaxPool", ["half"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]))
    graph.initializer.append(numpy_helper.from_array(np.ones((8, 16, 3, 3), "f"), "half_kernel"))
    state_sizes(graph)
    stated = sizes_of(graph)
    of_stem = ("height of stem / 1", "width of stem / 1")
    assert {stated[name] for name in ("stem", "one_a", "one_b", "one_sum", "one", "two_b", "two_sum")} == {of_stem}
    assert stated["half"] == ("height of stem / 2", "width of stem / 1")
    assert stated["pooled"] == ("height of pooled / 1", "width of pooled / 1")  # it drops an odd last row
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    for height, width in ((17, 24), (30, 13)):
        for name, sides in stated.items():
            found = ReferenceEvaluator(model).run([name], {"x": np.ones((2, 3, height, width), "f")})[0].shape[2:]
            stem = (-(-height // 2), -(-width // 2))
            expected = [-(-side // int(text.split(" / ")[1])) for side, text in zip(stem, sides, strict=True)]
            assert name == "pooled" or list(found) == expected, name


def test_padding_that_changes_the_size_is_a_new_size():
    graph = blocks(dilation=2, pads=[1, 2, 1, 2])
    state_sizes(graph)
    stated = sizes_of(graph)
    assert stated["one_b"] == ("height of one_b / 1", "width of stem / 1")
    assert "one_sum" not in stated


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="this layout of ONNX Runtime is for x86")
def test_onnx_runtime_computes_additions_within_dilated_convolutions(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    x, kinds, found = GENERATOR.normal(size=(2, 3, 18, 31)).astype("f"), [], []
    for stated in (False, True):
        graph = blocks(dilation=2, pads=[2, 2, 2, 2])
        for tensor in graph.initializer:  # equal kernels in both graphs
            values = np.random.default_rng(len(tensor.name)).normal(0, 0.2, tuple(tensor.dims)).astype("f")
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        if stated:
            state_sizes(graph)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found.append(session.run(None, {"x": x})[0])
        kinds.append([node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node])
    assert (kinds[0].count("Add"), kinds[1].count("Add"), kinds[1].count("Relu")) == (2, 0, 0)
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)
    np.testing.assert_allclose(found[1], answers(graph, x), atol=1e-4)


@pytest.mark.parametrize(
    ("move", "attributes", "constants"),
    [
        ("Reshape", {}, {"to": np.array([2, 1, 1, 5])}),
        ("Transpose", {"perm": [0, 2, 3, 1]}, {}),
    ],
)
def test_relu_stands_before_a_move(move, attributes, constants):
    nodes = [
        helper.make_node("Add", ["x", "b"], ["sum"]),
        helper.make_node(move, ["sum", *constants], ["moved"], **attributes),
        helper.make_node("Relu", ["moved"], ["y"]),
    ]
    terms = {"b": GENERATOR.normal(size=(5, 1, 1)).astype("f"), **constants}
    given = GENERATOR.normal(size=(2, 5, 1, 1) if constants else (2, 5, 4, 3)).astype("f")
    before, after, kinds = before_and_after(graph_of(nodes, terms), given)
    assert kinds == ["Add", "Relu", move]
    np.testing.assert_array_equal(after, before)
    assert (before == 0).any()
    assert (before > 0).any()
