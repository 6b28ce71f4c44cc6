"""Options of the export: each is looked up in the written file, and the file gives its model's answers."""

import itertools

import numpy as np
import pytest
from read_files import OnnxGraph, counted, run, tflite_operators
from small_classifier import small_classifier

from keras_resnet.errors import ExportError
from keras_resnet.export import Options, export
from keras_resnet.export.description import read_description
from keras_resnet.export.formats import all_formats, format_named
from keras_resnet.export.images import synthetic_images

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")

CALIBRATION = synthetic_images((32, 32, 3), count=40, seed=8)
IMAGES = synthetic_images((32, 32, 3), count=24, seed=99)  # that no export has seen

# What an export of the small classifier must come to: four convolutions; a join, and the mean on the border of the
# image; three paddings, one of which TFLite does in rows.
TFLITE = {
    "CONV_2D": 4,
    "ADD": 2,
    "PAD": 3,
    "RESHAPE": 2,
    "MAX_POOL_2D": 1,
    "MEAN": 1,
    "FULLY_CONNECTED": 1,
    "SOFTMAX": 1,
}
# Of integers: the pooling's padding is in rows too, and the stem reads blocks of four pixels.
TFLITE_INTEGERS = {**TFLITE, "RESHAPE": 4, "SPACE_TO_DEPTH": 1}
ONNX = {
    "Conv": 4,
    "Add": 2,
    "Relu": 3,
    "Pad": 1,  # the other is in the pooling
    "MaxPool": 1,
    "GlobalAveragePool": 1,
    "Squeeze": 1,
    "Gemm": 1,
    "Softmax": 1,
}
KERNELS = {(8, 3, 3, 3), (16, 8, 1, 1), (16, 8, 3, 3), (16, 16, 3, 3)}  # [out, in, h, w]


@pytest.fixture(scope="module")
def model(small_exports):
    return small_exports.model


@pytest.fixture(scope="module")
def exported(model, small_exports, tmp_path_factory):
    """exported("onnx", opset=13) -> path; what takes the same options is written in one go."""
    reports = {(): small_exports}

    def get(name, **options):
        key = tuple(sorted(options.items()))
        if key not in reports:
            formats = [row.name for row in map(format_named, all_formats()) if set(options) <= set(row.options)]
            formats = [other for other in formats if other != "onnx-int8" or options.get("opset", 13) >= 13]
            folder = tmp_path_factory.mktemp("options")
            reports[key] = export(model, folder, formats, calibration=CALIBRATION, options=Options(**options))
        return reports[key].paths[name]

    return get


def assert_same_answers(path, model, unexplained=0.006):
    expected, answers = np.asarray(model(IMAGES, training=False)), run(path, IMAGES)
    error = np.abs(answers - expected).max()
    if "int8" in path.name:
        # Measured: 0.039 and 0.003 at most.
        assert error < 0.08
        assert np.square(answers - expected).sum() < unexplained * np.square(expected - expected.mean(axis=0)).sum()
    else:
        assert error / expected.max() < (2e-3 if "float16" in path.name else 1e-5)


def assert_rounded(kernel, exact, scales):
    """Kernels `[out, ...]`: to one of the steps around, since a value makes up for what others before it lost."""
    steps = np.abs(kernel - exact) / scales.reshape(-1, 1, 1, 1)
    assert steps.max() < 3  # measured: 1.8
    assert np.median(steps) < 0.5


# ONNX.


@pytest.mark.parametrize(
    ("name", "opset"),
    [
        *itertools.product(["onnx", "onnx-float16"], [None, 11, 13, 18]),
        *itertools.product(["onnx-int8"], [None, 13, 18]),  # 11 is refused, below
    ],
)
def test_opset(name, opset, exported, model):
    path = exported(name, **({"opset": opset} if opset else {}))
    assert OnnxGraph(path).opset == (opset or 17)
    assert_same_answers(path, model)


@pytest.mark.parametrize("name", ["onnx", "onnx-float16", "onnx-int8"])
def test_nhwc_has_one_transpose_before_the_first_convolution(name, exported):
    graph = OnnxGraph(exported(name))
    assert graph.input_shape == ["batch", 32, 32, 3]
    [transpose] = graph.of_kind("Transpose")
    before = graph.nodes[: graph.nodes.index(transpose)]
    assert not {node.op_type for node in before} - {"Cast", "Pad", "Add", "QuantizeLinear", "DequantizeLinear"}
    assert read_description(exported(name))["input"]["layout"] == "NHWC"


@pytest.mark.parametrize("name", ["onnx", "onnx-float16", "onnx-int8"])
def test_nchw_has_no_transpose(name, exported, model):
    path = exported(name, layout="NCHW")
    graph = OnnxGraph(path)
    assert graph.input_shape == ["batch", 3, 32, 32]
    assert graph.of_kind("Transpose") == []
    assert read_description(path)["input"]["layout"] == "NCHW"
    assert_same_answers(path, model)


def test_operators_of_onnx(exported):
    """BatchNorm is folded; where a ReLU follows, ONNX Runtime fuses it, or the range of the integers cuts at zero."""
    transpose = {"Transpose": 1}
    assert counted(OnnxGraph(exported("onnx")).nodes) == {**ONNX, **transpose}
    assert counted(OnnxGraph(exported("onnx-float16")).nodes) == {**ONNX, **transpose, "Cast": 2}
    operators = counted(OnnxGraph(exported("onnx-int8")).nodes)
    assert operators.pop("QuantizeLinear") > 0
    assert operators.pop("DequantizeLinear") > 0
    assert operators == {**ONNX, **transpose, "Relu": 0} or operators == {
        kind: count for kind, count in {**ONNX, **transpose}.items() if kind != "Relu"
    }


@pytest.mark.parametrize("weights", ["int8", "uint8", "int7"])
def test_weights_of_onnx_int8(weights, exported, model):
    """Each convolution has uint8 activations, and a kernel of 8 or 7 bits per channel, next to the float kernel."""
    path = exported("onnx-int8", int_weights=weights)
    graph, exact = OnnxGraph(path), OnnxGraph(exported("onnx"))
    kernels = {node.input[1]: exact.constants[node.input[1]] for node in exact.of_kind("Conv")}
    by_shape = {kernel.shape: kernel for kernel in kernels.values()}
    assert set(by_shape) == KERNELS
    low, high, zero = {"int8": (-127, 127, 0), "uint8": (1, 255, 128), "int7": (-63, 63, 0)}[weights]
    for node in graph.of_kind("Conv"):
        assert graph.makers[node.input[0]].op_type == "DequantizeLinear"
        assert graph.constants[graph.makers[node.input[0]].input[2]].dtype == np.uint8
        integers, scales, zero_points = graph.stored(node.input[1])
        assert integers.dtype == (np.uint8 if weights == "uint8" else np.int8)
        assert low <= integers.min() <= integers.max() <= high
        # Per channel: each has its own scale, and uses all of its range on one side at least.
        assert len(np.unique(scales)) == len(integers)
        steps = np.abs(integers.astype(int) - zero).reshape(len(integers), -1).max(axis=1)
        np.testing.assert_array_equal(steps, high - zero)
        assert (zero_points == zero).all()
        real = (integers.astype("float64") - zero) * scales.reshape(-1, 1, 1, 1)
        assert_rounded(real, by_shape.pop(integers.shape), scales)
        assert graph.constants[graph.makers[node.input[2]].input[0]].dtype == np.int32
    assert not by_shape
    assert {graph.constants[node.input[2]].dtype for node in graph.of_kind("QuantizeLinear")} == {np.dtype("uint8")}
    # Without VNNI, products of int8 saturate: 0.015 was measured.
    assert_same_answers(path, model, 0.03 if weights == "int8" else 0.006)


# TFLite.


@pytest.mark.parametrize("output_dtype", ["uint8", "int8", "float32"])
@pytest.mark.parametrize("input_dtype", ["uint8", "float32"])
def test_types_of_tflite_int8(input_dtype, output_dtype, exported, model):
    """Integers alone: what converts stands at the two ends, once at most."""
    chosen = {"input_dtype": input_dtype, "output_dtype": output_dtype}
    path = exported("tflite-int8", **{key: value for key, value in chosen.items() if value != "uint8"})
    operators = tflite_operators(path)
    first, last = operators[0], operators[-1]
    assert first.name == "QUANTIZE"
    [given], [pixels] = first.inputs, first.outputs
    assert (given.dtype, given.shape) == (input_dtype, (1, 32, 32, 3))
    assert (pixels.dtype, *pixels.scales, *pixels.zero_points) == ("int8", 1.0, -128)  # a byte of a picture less 128
    if input_dtype == "uint8":
        assert (*given.scales, *given.zero_points) == (1.0, 0)
    assert last.outputs[0].dtype == output_dtype
    if output_dtype != "float32":
        zero_point = {"uint8": 0, "int8": -128}[output_dtype]
        assert (*last.outputs[0].scales, *last.outputs[0].zero_points) == (1 / 256, zero_point)
    ends = {"uint8": ["QUANTIZE"], "int8": [], "float32": ["DEQUANTIZE"]}[output_dtype]
    assert [operator.name for operator in operators[1:] if "QUANTIZE" in operator.name] == ends
    inner = operators[1 : len(operators) - len(ends)]
    assert counted(inner) == TFLITE_INTEGERS
    for operator in inner:
        assert {tensor.dtype for tensor in operator.inputs + operator.outputs} <= {"int8", "int32"}, operator.name
    assert_same_answers(path, model)


def test_kernels_of_tflite_int8_are_rounded_per_channel(exported):
    """Next to the kernels of the float file, by each channel's own scale."""
    exact = [o for o in tflite_operators(exported("tflite")) if o.name == "CONV_2D"]
    convolutions = [o for o in tflite_operators(exported("tflite-int8")) if o.name == "CONV_2D"]
    assert len(exact) == len(convolutions) == 4
    for true, operator in zip(exact, convolutions, strict=True):
        kernel, bias = operator.inputs[1:]
        assert (kernel.dtype, kernel.axis, bias.dtype) == ("int8", 0, "int32")
        assert len(np.unique(kernel.scales)) == kernel.shape[0]  # [out, h, w, in]
        assert not kernel.zero_points.any()
        np.testing.assert_array_equal(np.abs(kernel.values.astype(int)).max(axis=(1, 2, 3)), 127)
        assert_rounded(of_pixels(kernel.real_values()), true.inputs[1].values, kernel.scales)


def of_pixels(kernel):
    """Kernel `[out, h, w, in]`, of the stem of blocks of 2 x 2 pixels -> the same on pixels."""
    out, height, width, channels = kernel.shape
    if channels != 4 * 3:
        return kernel
    blocks = kernel.reshape(out, height, width, 2, 2, 3)
    pixels = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(out, 2 * height, 2 * width, 3)
    assert not pixels[:, -1].any()
    assert not pixels[:, :, -1].any()
    return pixels[:, :-1, :-1]


@pytest.mark.parametrize(
    ("name", "converting"),
    [
        ("tflite", {}),
        ("tflite-float16", {"DEQUANTIZE": 11}),  # a kernel and a bias for each product, and the border of the image
        ("tflite-dynamic", {}),
        ("tflite-int8", {"QUANTIZE": 2}),
        ("tflite-int16x8", {"QUANTIZE": 1, "DEQUANTIZE": 1}),
    ],
)
def test_tflite_has_built_in_operators_and_every_relu_is_fused(name, converting, exported):
    operators = tflite_operators(exported(name))  # which refuses custom and Flex operators
    assert counted(operators) == {**(TFLITE_INTEGERS if name == "tflite-int8" else TFLITE), **converting}
    assert sum(operator.activation == "RELU" for operator in operators) == 3
    assert {operator.activation for operator in operators} <= {None, "NONE", "RELU"}


# Free height and width.


@pytest.mark.parametrize("name", ["saved_model", "onnx", "onnx-float16"])
def test_any_size(name, exported, model):
    path = exported(name, any_size=True)
    assert read_description(path)["input"]["size"] == [None, None, 3]
    free = small_classifier(size=None)
    free.set_weights(model.get_weights())
    for height, width, count in ((48, 72, 2), (97, 41, 5)):
        images = synthetic_images((height, width, 3), count=count, seed=height)
        expected = np.asarray(free(images, training=False))
        error = np.abs(run(path, images) - expected).max() / expected.max()
        assert error < (2e-3 if "float16" in name else 1e-5)
    assert_same_answers(path, model)


def test_any_size_and_layout_go_together(exported, model):
    path = exported("onnx", any_size=True, layout="NCHW")
    graph = OnnxGraph(path)
    assert (graph.input_shape[1], graph.of_kind("Transpose")) == (3, [])
    assert_same_answers(path, model)


# Both integer formats.


def tflite_ranges(path):
    """-> (least, greatest) of each activation, in order."""
    inner = [operator for operator in tflite_operators(path) if operator.name not in ("QUANTIZE", "SOFTMAX")]
    return np.array([operator.outputs[0].limits() for operator in inner])


def onnx_ranges(path):
    graph = OnnxGraph(path)
    pairs = [
        (graph.constants[node.input[1]], graph.constants[node.input[2]]) for node in graph.of_kind("QuantizeLinear")
    ]
    return np.array([((0 - float(zero)) * scale, (255 - float(zero)) * scale) for scale, zero in pairs])


@pytest.mark.parametrize(("name", "read"), [("tflite-int8", tflite_ranges), ("onnx-int8", onnx_ranges)])
def test_least_squares_ranges_lie_within_the_extremes(name, read, exported, model):
    extremes, clipped = (exported(name, ranges=method) for method in ("minmax", "mse"))
    whole, part = read(extremes), read(clipped)
    assert whole.shape == part.shape
    step = (whole[:, 1] - whole[:, 0]) / 255  # the zero point is rounded to a whole step
    assert (part[:, 0] >= whole[:, 0] - step).all()
    assert (part[:, 1] <= whole[:, 1] + step).all()
    widths = (part[:, 1] - part[:, 0]) / (whole[:, 1] - whole[:, 0])
    assert 0.3 < widths.min() < 0.97
    assert [read_description(path)["quantization"]["ranges"] for path in (extremes, clipped)] == ["minmax", "mse"]
    assert_same_answers(clipped, model)


@pytest.mark.parametrize(
    ("layer", "kind", "activation", "shape"),
    [
        ("stem_conv", "CONV_2D", "RELU", (8, 3, 3, 3)),
        ("stage2_block1_1_conv", "CONV_2D", "RELU", (16, 3, 3, 8)),
        ("stage2_block1_2_conv", "CONV_2D", "NONE", (16, 3, 3, 16)),
        ("stage2_block1_add", "ADD", "RELU", (1, 4, 4, 16)),
        ("pool", "MEAN", None, (2,)),
        ("logits", "FULLY_CONNECTED", "NONE", (10, 16)),
    ],
)
def test_a_layer_stays_float_in_tflite_and_only_that_one(layer, kind, activation, shape, exported, model):
    path = exported("tflite-int8", keep_float=(layer,))
    operators = tflite_operators(path)
    images = 2 if kind == "ADD" else 1
    integers = {**TFLITE_INTEGERS, "QUANTIZE": 2 + 1, "DEQUANTIZE": images}
    if layer == "stem_conv":
        del integers["SPACE_TO_DEPTH"]
    assert counted(operators) == integers
    [kept] = [
        operator
        for operator in operators
        if "QUANTIZE" not in operator.name and "float32" in {t.dtype for t in operator.inputs + operator.outputs}
    ]
    assert (kept.name, kept.activation, kept.inputs[1].shape) == (kind, activation, shape)
    assert kept.outputs[0].dtype == "float32"
    if kind in ("CONV_2D", "FULLY_CONNECTED"):
        [exact] = [o for o in tflite_operators(exported("tflite")) if o.name == kind and o.inputs[1].shape == shape]
        np.testing.assert_array_equal(kept.inputs[1].values, exact.inputs[1].values)
    assert read_description(path)["quantization"]["keep_float"] == [layer]
    assert_same_answers(path, model)


@pytest.mark.parametrize(
    ("layer", "kind", "relus"),
    [
        ("stem_conv", "Conv", 1),
        ("stage2_block1_1_conv", "Conv", 1),
        ("stage2_block1_add", "Add", 1),
        ("logits", "Gemm", 0),
    ],
)
def test_a_layer_stays_float_in_onnx_and_only_that_one(layer, kind, relus, exported, model, tmp_path):
    path = exported("onnx-int8", keep_float=(layer,))
    graph = OnnxGraph(path)

    def rounded(node):
        return [graph.makers[name].op_type == "DequantizeLinear" for name in node.input if name in graph.makers]

    products = graph.of_kind("Conv") + graph.of_kind("Gemm")
    kept = [node for node in products if node.input[1] in graph.constants]
    assert [node.op_type for node in kept] == ([kind] if kind != "Add" else [])
    for node in kept:
        values = OnnxGraph(exported("onnx")).constants.values()
        assert any(np.array_equal(graph.constants[node.input[1]], kernel) for kernel in values)
    for node in products:
        assert node in kept or rounded(node) == [True] * len(node.input)
    assert len(graph.of_kind("Relu")) == relus  # that of the layer itself, which no range cuts at zero
    floats = [node.op_type for node in as_run(path, tmp_path).nodes if node.op_type in ("Conv", "Add", "Gemm")]
    assert floats == [kind]
    assert_same_answers(path, model)


def as_run(path, folder):
    """ONNX file -> what ONNX Runtime makes of it on loading, where no kernel is of one kind of CPU alone."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "as_run.onnx")
    onnxruntime.InferenceSession(str(path), options)
    return OnnxGraph(folder / "as_run.onnx")


# What is refused.


@pytest.mark.parametrize(
    ("formats", "options", "message"),
    [
        (["onnx"], dict(opset=19), "`opset` must be one of 11, 12, 13, 14, 15, 16, 17, 18. Received: opset=19"),
        (["onnx"], dict(opset=10), "Received: opset=10"),
        (["onnx"], dict(opset="17"), "Received: opset='17'"),
        (["onnx", "onnx-int8"], dict(opset=12), r"`opset` \(--opset\) of onnx-int8 must be 13 or later"),
        (["tflite"], dict(opset=17), "`opset` belongs to onnx, onnx-float16, onnx-int8. Received: opset=17 for tflite"),
        (["onnx"], dict(layout="CHWN"), "`layout` must be one of NHWC, NCHW. Received: layout='CHWN'"),
        (["saved_model", "tflite"], dict(layout="NCHW"), "layout='NCHW' for saved_model, tflite"),
        (
            ["tflite", "onnx-int8"],
            dict(any_size=True),
            "`any_size` belongs to saved_model, onnx, onnx-float16, openvino. Received",
        ),
        (["onnx"], dict(any_size="yes"), "`any_size` must be one of True, False. Received: any_size='yes'"),
        (["tflite-int8"], dict(input_dtype="int16"), "`input_dtype` must be one of uint8, int8, float32.*'int16'"),
        (["tflite"], dict(input_dtype="uint8"), "`input_dtype` belongs to tflite-int8. Received: input_dtype='uint8'"),
        (["tflite-int8"], dict(output_dtype="float16"), "`output_dtype` must be one of uint8, int8, float32"),
        (["onnx-int8"], dict(output_dtype="int8"), "`output_dtype` belongs to tflite-int8"),
        (["tflite-int8"], dict(ranges="entropy"), "`ranges` must be one of minmax, mse. Received: ranges='entropy'"),
        (["tflite-int16x8"], dict(ranges="mse"), "`ranges` belongs to tflite-int8, onnx-int8"),
        (
            ["onnx-int8"],
            dict(int_weights="int4"),
            "`int_weights` must be one of int8, int7, uint8. Received: int_weights='int4'",
        ),
        (["tflite-int8"], dict(int_weights="int7"), "`int_weights` belongs to onnx-int8"),
        (["onnx"], dict(keep_float=["stem_conv"]), "`keep_float` belongs to tflite-int8, onnx-int8"),
        (["onnx-int8"], dict(keep_float=["stem_convs"]), "Received: 'stem_convs'. Did you mean stem_conv"),
        (["onnx-int8"], dict(keep_float="stem_conv"), "`keep_float` must be a list of names. Received: .*'stem_conv'"),
        (["onnx_int8"], {}, "Received: 'onnx_int8'. Did you mean 'onnx-int8'"),
        (["savedmodel"], {}, "Received: 'savedmodel'. Did you mean 'saved_model'"),
        (["caffe"], {}, r"must be among saved_model, .*, web-float32, or all. Received: 'caffe'\.$"),
    ],
)
def test_wrong_options_name_the_rule_and_the_value(formats, options, message, model, tmp_path):
    with pytest.raises(ExportError, match=message):
        export(model, tmp_path / "out", formats, calibration=CALIBRATION, options=Options(**options))
    assert not (tmp_path / "out").exists()


def test_an_option_counts_for_those_of_the_formats_that_take_it(model, tmp_path):
    report = export(model, tmp_path, ["saved_model", "onnx"], options=Options(layout="NCHW", opset=13))
    graph = OnnxGraph(report.paths["onnx"])
    assert (graph.opset, graph.input_shape) == (13, ["batch", 3, 32, 32])
    assert read_description(report.paths["saved_model"])["input"]["layout"] == "NHWC"
    for path in report.paths.values():
        assert_same_answers(path, model)
