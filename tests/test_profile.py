"""Time by layer: which layers, their names and sizes, and that what is timed computes what the file computes."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from small_classifier import small_classifier

from keras_resnet.benchmark.layers import Layer, layer_name
from keras_resnet.benchmark.profile import Profile, print_profile, profile_artifact
from keras_resnet.benchmark.profile_plots import draw_profile
from keras_resnet.benchmark.tflite_layers import TfliteLayers
from keras_resnet.blocks import conv_bn
from keras_resnet.errors import ArgumentError, ExportError
from keras_resnet.export import Options, export
from keras_resnet.export.formats import FORMATS, all_formats
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.runtimes import open_runtime
from keras_resnet.heads.classification import classification_head
from keras_resnet.models import ResNet20
from keras_resnet.preprocessing import normalisation_layer
from keras_resnet.variants import VARIANTS

KINDS_OF_FILE = ("tflite", "tflite-float16", "tflite-dynamic", "tflite-int8", "onnx", "onnx-float16", "onnx-int8")

MACS = {  # of the small classifier, by hand: elements of the output x elements of one filter
    "stem_conv": 16 * 16 * 8 * 3 * 3 * 3,
    "stage2_block1_1_conv": 4 * 4 * 16 * 3 * 3 * 8,
    "stage2_block1_2_conv": 4 * 4 * 16 * 3 * 3 * 16,
    "stage2_block1_shortcut_conv": 4 * 4 * 16 * 8,
    "logits": 10 * 16,
}

MACS_OF_INTEGER_TFLITE = {**MACS, "stem_conv": 16 * 16 * 8 * 2 * 2 * 12}  # on blocks of 2 x 2 pixels

TFLITE_ROWS = [
    ("stem_pad", "RESHAPE"),
    ("stem_pad", "PAD"),
    ("stem_pad", "RESHAPE"),
    ("stem_pad", "ADD"),
    ("stem_conv", "CONV_2D"),
    ("stem_pool_pad", "PAD"),
    ("stem_pool", "MAX_POOL_2D"),
    ("stage2_block1_1_conv", "PAD, CONV_2D"),
    ("stage2_block1_2_conv", "CONV_2D"),
    ("stage2_block1_shortcut_conv", "CONV_2D"),
    ("stage2_block1_add", "ADD"),
    ("pool", "MEAN"),
    ("logits", "FULLY_CONNECTED"),
    ("probabilities", "SOFTMAX"),
]


@pytest.fixture(scope="module")
def artifacts(small_exports) -> Mapping[str, Path]:
    """The small classifier in every format."""
    return small_exports.paths


@pytest.fixture(scope="module")
def profiles(artifacts) -> dict[str, Profile]:
    return {name: profile_artifact(artifacts[name], threads=1, runs=3) for name in KINDS_OF_FILE}


def test_every_format_of_a_file_has_its_profile():
    files = {name for name in all_formats() if FORMATS[name].runtime in ("LiteRT", "ONNX Runtime")}
    assert files <= {*KINDS_OF_FILE, "tflite-int16x8"}


@pytest.mark.parametrize("format", KINDS_OF_FILE)
def test_products_have_the_names_and_macs_of_the_layers(profiles, format):
    profile = profiles[format]
    products = {layer.name: layer.macs for layer in profile.layers if layer.kind in ("convolution", "dense")}
    macs = MACS_OF_INTEGER_TFLITE if format == "tflite-int8" else MACS
    assert products == macs
    assert profile.macs == sum(macs.values())


@pytest.mark.parametrize("format", ["tflite", "tflite-float16", "tflite-dynamic"])
def test_layers_of_a_float_tflite_file(profiles, format):
    assert [(layer.name, layer.operator) for layer in profiles[format].layers] == TFLITE_ROWS


def test_layers_of_an_integer_tflite_file(profiles):
    rows = [(layer.name, layer.operator) for layer in profiles["tflite-int8"].layers]
    before_pooling = TFLITE_ROWS.index(("stem_pool", "MAX_POOL_2D"))
    assert rows == [
        ("image", "QUANTIZE"),
        ("stem_pad_input_fake_quant", "RESHAPE"),
        *TFLITE_ROWS[1:4],
        ("stem_conv_blocks", "SPACE_TO_DEPTH"),
        ("stem_conv", "CONV_2D"),
        ("stem_relu_fake_quant", "RESHAPE"),
        *(("stem_pool_pad", kind) for kind in ("PAD", "RESHAPE")),
        *TFLITE_ROWS[before_pooling:],
        ("probabilities", "QUANTIZE"),
    ]


@pytest.mark.parametrize("format", ["onnx", "onnx-int8"])
def test_every_node_of_an_onnx_file_belongs_to_a_layer(profiles, format):
    """What the runtime adds and fuses differs with the CPU; what it works on does not."""
    names = [layer.name for layer in profiles[format].layers]
    named = {name for name, _ in TFLITE_ROWS} | {"image", "stem_relu", "stage2_block1_out"}
    assert set(names) <= named
    assert names[0] == ("image" if format == "onnx-int8" else "stem_pad")
    assert names[-1] == "probabilities"


@pytest.mark.parametrize("format", KINDS_OF_FILE)
def test_shares_are_those_of_the_sum(profiles, format):
    profile = profiles[format]
    assert sum(layer.share_percent for layer in profile.layers) == pytest.approx(100)
    assert sum(profile.by("kind").values()) == pytest.approx(100)
    assert sum(profile.by("stage").values()) == pytest.approx(100)
    assert profile.layers_ms == pytest.approx(sum(layer.ms for layer in profile.layers))
    for layer in profile.layers:
        assert layer.ms >= 0
        assert layer.share_percent == pytest.approx(100 * layer.ms / profile.layers_ms)
    assert profile.latency_ms > 0


@pytest.mark.parametrize(("format", "weight_bytes"), [("tflite", 4), ("tflite-int8", 1), ("onnx", 4), ("onnx-int8", 1)])
def test_a_layer_reads_its_input_and_kernel_and_writes_its_output(profiles, format, weight_bytes):
    [layer] = [layer for layer in profiles[format].layers if layer.name == "stage2_block1_2_conv" and layer.macs]
    number_bytes = 1 if format.endswith("int8") else 4
    least = number_bytes * 2 * 4 * 4 * 16 + weight_bytes * 3 * 3 * 16 * 16
    sum_bytes = number_bytes * 4 * 4 * 16 if format == "onnx" else 0  # of the block, which is fused
    scales_bytes = 16 * 4 * 3  # biases, scales and the like
    assert least + sum_bytes <= layer.traffic_bytes <= least + sum_bytes + scales_bytes
    assert layer.flop_per_byte == pytest.approx(2 * layer.macs / layer.traffic_bytes)


@pytest.mark.parametrize("format", ["tflite", "tflite-int8", "onnx", "onnx-int8"])
def test_a_batch_has_its_macs(artifacts, format):
    profile = profile_artifact(artifacts[format], batch_size=3, threads=1, runs=2)
    macs = MACS_OF_INTEGER_TFLITE if format == "tflite-int8" else MACS
    assert profile.macs == 3 * sum(macs.values())
    [convolution] = [layer for layer in profile.layers if layer.name == "stem_conv" and layer.macs]
    assert convolution.output_shape[0] == 3


def test_an_image_of_any_size_and_channels_first(randomise, tmp_path):
    model = randomise(small_classifier(), seed=4)
    free = export(model, tmp_path / "free", ["onnx"], options=Options(any_size=True)).paths["onnx"]
    first = export(model, tmp_path / "first", ["onnx"], options=Options(layout="NCHW")).paths["onnx"]
    larger = 7 * 7  # 224 pixels in place of 32
    convolutions = sum(macs for name, macs in MACS.items() if name != "logits")
    assert profile_artifact(free, threads=1, runs=1).macs == larger * convolutions + MACS["logits"]
    assert profile_artifact(first, threads=1, runs=1).macs == sum(MACS.values())


@pytest.fixture(scope="module")
def resnet20(randomise, tmp_path_factory) -> dict[str, Path]:
    return export(randomise(ResNet20()), tmp_path_factory.mktemp("resnet20"), ["tflite", "onnx"]).paths


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_macs_are_those_of_the_table(resnet20, format):
    profile = profile_artifact(resnet20[format], threads=1, runs=2)
    assert round(profile.macs / 1e9, 3) == VARIANTS["resnet20"].gmacs
    convolutions = [layer for layer in profile.layers if layer.kind == "convolution"]
    assert len(convolutions) == 19
    assert {layer.stage for layer in convolutions} == {"stem", "stage2", "stage3", "stage4"}


@pytest.mark.parametrize("format", ["tflite", "tflite-float16", "tflite-dynamic", "tflite-int8"])
def test_pieces_of_a_file_compute_what_the_file_computes(artifacts, format):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    pixels = synthetic_images((32, 32, 3), count=1, seed=3)
    timer = TfliteLayers(artifacts[format], pixels, threads=1)
    tensors = {timer._given: timer._pixels}
    for piece in timer._pieces:
        tensors.update(piece.run(tensors))

    whole = open_runtime(artifacts[format], FORMATS[format], threads=1)
    last = tensors[timer._pieces[-1]._outputs[-1]]
    answers = last / np.float32(256) if last.dtype == np.uint8 else last
    np.testing.assert_array_equal(answers, whole.run(pixels)["probabilities"])

    if format == "tflite-dynamic":
        return  # TFLite's own kernels round such activations otherwise
    reference = Interpreter(
        model_path=str(artifacts[format]),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    reference.allocate_tensors()
    reference.set_tensor(timer._given, timer._pixels)
    reference.invoke()
    for tensor, values in tensors.items():
        expected = reference.get_tensor(tensor)
        if values.dtype == np.float32:
            assert np.abs(values - expected).max() <= 1e-5 * np.abs(expected).max(), tensor
        else:
            # One step of rounding, which grows over the layers; the values fill the range of 256 steps.
            assert np.abs(values.astype(int) - expected.astype(int)).max() <= 3, tensor


@pytest.fixture(scope="module")
def heavy(randomise, tmp_path_factory) -> dict[str, Path]:
    """A network with 98 % of its multiplications in one layer."""
    image = keras.Input((32, 32, 3), name="image")
    x = conv_bn(normalisation_layer(3)(image), 64, 3, name="stem")
    x = conv_bn(x, 64, 5, name="stage2_block1_1")
    model = randomise(keras.Model(image, classification_head(x, 10, "softmax"), name="heavy"))
    return export(model, tmp_path_factory.mktemp("heavy"), ["tflite", "onnx"]).paths


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_a_heavy_layer_takes_most_of_the_time(heavy, format):
    """The file and its layers are timed by turns, and the fastest times count: other work can only add to a time."""
    turns = [profile_artifact(heavy[format], threads=1, runs=5) for _ in range(6)]
    profile = min(turns, key=lambda turn: turn.layers_ms)
    shares = {layer.name: layer.share_percent for layer in profile.layers if layer.macs}
    assert shares["stage2_block1_1_conv"] > 60
    assert profile.by("stage")["stage2"] > 60
    # The parts are about the whole: within a factor of two.
    assert 0.5 < profile.layers_ms / min(turn.latency_ms for turn in turns) < 2


def test_figures_of_a_layer():
    layer = Layer("stage3_block1_2_conv", "PAD, CONV_2D", "node", (1, 28, 28, 128), 115_605_504, 1_000_000, ms=2.0)
    assert (layer.kind, layer.stage) == ("convolution", "stage3")
    assert layer.gflop_per_s == pytest.approx(115.605504)  # 0.231 GFLOP in 2 ms
    assert layer.flop_per_byte == pytest.approx(231.211008)
    assert layer.as_dict()["gflop_per_s"] == layer.gflop_per_s


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("resnet50_1/stem_relu_1/Relu;resnet50_1/stem_conv_1/BiasAdd;", "stem_conv"),
        ("resnet50/stem_conv/convolution", "stem_conv"),
        ("small_1/conv2d_3_1/convolution", "conv2d_3"),
        ("small/conv2d_3/convolution", "conv2d_3"),
        ("small_1/stem_pad_1/Pad:0_QuantizeLinear", "stem_pad"),
        ("image_QuantizeLinear", "image"),
        ("probabilities", "probabilities"),
    ],
)
def test_name_of_a_layer(text, name):
    assert layer_name(text) == name


def test_a_profile_as_json_table_and_picture(profiles, capsys):
    profile = profiles["tflite-int8"]
    written = json.loads(json.dumps(profile.as_dict()))
    assert written["macs"] == sum(MACS_OF_INTEGER_TFLITE.values())
    assert [row["name"] for row in written["layers"]] == [layer.name for layer in profile.layers]
    assert written["share_percent_by_kind"]["convolution"] == pytest.approx(profile.by("kind")["convolution"])

    print_profile(profile)
    lines = capsys.readouterr().out.splitlines()
    [row] = [line for line in lines if line.startswith("stage2_block1_1_conv")]
    assert row.split()[1:5] == ["PAD,", "CONV_2D", "4x4x16", "0.0"]
    assert any(line.startswith("% by kind   convolution") for line in lines)
    assert "batch 1, 1 thread)" in lines[-1]

    picture = Image.open(io.BytesIO(draw_profile(profile)))
    assert picture.format == "PNG"
    few = Profile(**{**vars(profile), "layers": profile.layers[:3]})
    assert picture.height > Image.open(io.BytesIO(draw_profile(few))).height  # a line for each layer


def test_a_saved_model_is_refused(tmp_path):
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(
        ArgumentError,
        match=r"can be timed only in the formats tflite, .*onnx-int8, web, web-float32. Received: saved_model",
    ):
        profile_artifact(tmp_path)


@pytest.mark.parametrize("name", ["batch_size", "threads", "runs"])
def test_numbers_are_at_least_one(tmp_path, name):
    with pytest.raises(ArgumentError, match=rf"`{name}` must be at least 1. Received: {name}=0"):
        profile_artifact(tmp_path, **{name: 0})


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ExportError, match="no such file"):
        profile_artifact(tmp_path / "model.onnx")
