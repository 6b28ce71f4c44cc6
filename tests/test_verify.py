"""The verifier against wrong artifacts: each planted fault is refused in every format, and gets no final name."""

import functools
import importlib
import re
from dataclasses import replace

import keras
import numpy as np
import pytest
from small_classifier import small_classifier

from keras_resnet.errors import ExportError, VerificationError
from keras_resnet.export import export, pipeline
from keras_resnet.export.fold import fold
from keras_resnet.export.formats import FORMATS, UNVERIFIED, Tolerance, all_formats
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.prepare import prepare
from keras_resnet.export.quantize import quantize
from keras_resnet.export.to_savedmodel import write_savedmodel
from keras_resnet.export.verify import ask, examine, verify
from keras_resnet.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from keras_resnet.tasks import contract_of

IMAGES = synthetic_images((32, 32, 3), count=40, seed=8)


def writer_of(name):
    """Format -> its module and the name of its writer there."""
    module, _, function = FORMATS[name].writer.partition(":")
    return importlib.import_module(f"keras_resnet.export.{module}"), function


WRITERS = {name: getattr(*writer_of(name)) for name in FORMATS}
# Of each converter, one float and one integer format.
FAULTY_FORMATS = ["saved_model", "tflite", "tflite-int8", "onnx", "onnx-int8"]


def with_normalisation(model, mean, std):
    """The model with other statistics in its first layer."""

    def replace(layer):
        if layer.name == "preprocessing":
            scale, offset = [1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
            return keras.layers.Rescaling(scale, offset, name="preprocessing")
        return layer.__class__.from_config(layer.get_config())

    changed = keras.models.clone_model(model, clone_function=replace)
    changed.set_weights(model.get_weights())
    return changed


def with_weights(model, change):
    changed = keras.models.clone_model(model)
    changed.set_weights(change(model.get_weights()))
    return changed


def classes_reversed(model):
    return with_weights(model, lambda weights: [*weights[:-2], weights[-2][:, ::-1], weights[-1][::-1]])


def offset(model):
    return keras.Model(model.input, model.output + 0.01, name=model.name)


def nan(model):
    def change(weights):
        weights[0][1, 2, 0, 3] = np.nan
        return weights

    return with_weights(model, change)


def wrong_mean(model):
    return with_normalisation(model, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def mean_forgotten(model):
    return with_normalisation(model, mean=(0.0, 0.0, 0.0), std=(0.229, 0.224, 0.225))


def bgr(model):
    """The model on pictures whose red and blue are swapped: its stem and its statistics the other way round."""
    changed = with_normalisation(model, IMAGENET_MEAN[::-1], IMAGENET_STD[::-1])
    kernel = changed.get_layer("stem_conv").kernel
    kernel.assign(kernel.numpy()[:, :, ::-1])
    return changed


def faulty_writers(names, model, fault):
    """Formats, source model, fault -> by format, a writer that writes the faulty model in place of the job's."""
    folded = fold(fault(prepare(model)))
    quantized = functools.cache(lambda steps: quantize(folded, IMAGES, ranges="minmax", weight_steps=steps))

    def writer(name):
        return lambda job, path: WRITERS[name](replace(job, model=folded, quantize=quantized), path)

    return {name: writer(name) for name in names}


def refused(model, folder, writers, calibration=IMAGES):
    """Model, folder, writers by format -> by format, what the error says about the artifact that one export wrote."""
    with pytest.MonkeyPatch.context() as patch:
        for name, write in writers.items():
            patch.setattr(*writer_of(name), write)
        with pytest.raises(VerificationError) as raised:
            export(model, folder, list(writers), calibration=calibration)
    _, *parts = re.split(r"^.* is not equal to its model as (\S+):\n", str(raised.value), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))  # a name, what follows it, the next name ...


# Fault -> the checks that find it in a float and in an integer artifact.
FAULTS = {
    classes_reversed: ("relative error", "unexplained variance"),
    offset: ("relative error", "mean error"),
    # TensorFlow's ReLU makes 0 of NaN where oneDNN has AVX-512: the answers are then finite, and wrong.
    nan: ("(finite|relative error)", None),  # an integer can't be NaN; see test_a_model_with_nan_is_refused_at_once
    wrong_mean: ("relative error", "unexplained variance"),
    mean_forgotten: ("relative error", "unexplained variance"),
    bgr: ("relative error", "unexplained variance"),
}


@pytest.fixture(scope="module")
def model(small_exports):
    return small_exports.model


@pytest.fixture
def export_with(monkeypatch, tmp_path, model):
    """Returns export_with(name, write): exports `model`, with `write` in place of the format's own writer."""

    def run(name, write):
        monkeypatch.setattr(*writer_of(name), write)
        return export(model, tmp_path, [name], calibration=IMAGES)

    return run


@pytest.fixture(scope="module")
def refused_for(model, tmp_path_factory):
    """Returns refused_for(fault): folder of an export of all formats that can have it, what was said by format."""

    @functools.cache
    def run(fault):
        folder = tmp_path_factory.mktemp(fault.__name__)
        names = [name for name in FAULTY_FORMATS if FAULTS[fault][FORMATS[name].integer] is not None]
        return folder, refused(model, folder, faulty_writers(names, model, fault))

    return run


def assert_no_final_name(folder, name):
    assert not (folder / FORMATS[name].file_name).exists()
    assert not (folder / "manifest.json").exists()


@pytest.mark.parametrize("name", all_formats())
def test_without_a_fault_every_check_passes(name, small_exports):
    report = small_exports.reports[name]
    assert len(report.checks) >= 8
    assert report.failures == []


@pytest.mark.parametrize("name", FAULTY_FORMATS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_artifact_is_refused(fault, name, refused_for):
    expected = FAULTS[fault][FORMATS[name].integer]
    if expected is None:
        pytest.skip("not a fault that this format can have")
    folder, told = refused_for(fault)
    assert re.search(rf"^  {expected}: ", told[name], re.MULTILINE)
    assert_no_final_name(folder, name)
    assert (folder / (FORMATS[name].file_name + UNVERIFIED)).exists()


def test_a_model_with_nan_is_refused_at_once(model, tmp_path):
    with pytest.raises(
        ExportError, match=r"must have finite weights: 'small' has NaN or infinity in 1 of 22, first stem_conv/kernel"
    ):
        export(nan(model), tmp_path, ["tflite-int8"], calibration=IMAGES)


@pytest.mark.parametrize("name", ["saved_model", "onnx"])
def test_a_frozen_batch_is_refused(name, export_with, tmp_path):
    def write(job, path):
        import onnx

        if name == "saved_model":
            write_savedmodel(job.model, path, batch_size=1)
            return
        WRITERS["onnx"](job, path)
        proto = onnx.load(str(path))
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        onnx.save(proto, str(path))

    with pytest.raises(
        VerificationError, match=r"input tensor: float32 \(1, 32, 32, 3\); required: float32 \(None, 32, 32, 3\)"
    ):
        export_with(name, write)
    assert_no_final_name(tmp_path, name)


def test_a_batch_whose_rows_depend_on_each_other_is_refused(export_with, tmp_path):
    """Each image is right alone, and wrong beside others."""

    def write(job, path):
        output = job.model.output
        rows = keras.layers.Lambda(lambda x: 0.5 * (x + keras.ops.mean(x, axis=0, keepdims=True)))(output)
        write_savedmodel(keras.Model(job.model.input, rows), path, batch_size=None)

    with pytest.raises(VerificationError, match="second batch size: 17 rows, largest difference"):
        export_with("saved_model", write)


def test_a_model_answers_only_once_to_images_at_the_end_of_earlier_ones(model, monkeypatch):
    prepared = prepare(model)
    every = ask(prepared, np.concatenate([synthetic_images((32, 32, 3), 5, seed=2), IMAGES]))
    expected = ask(prepared, IMAGES).answers["probabilities"]
    monkeypatch.setattr("keras_resnet.export.verify.inference.answer", lambda *args: pytest.fail("asked again"))
    again = ask(prepared, IMAGES, earlier=every)
    np.testing.assert_allclose(again.answers["probabilities"], expected, rtol=1e-5)
    np.testing.assert_array_equal(again.images, IMAGES)
    with pytest.raises(pytest.fail.Exception, match="asked again"):
        ask(prepared, IMAGES[::-1], earlier=every)


def test_swapped_channels_are_seen_on_grey_images_too(model, tmp_path):
    grey = np.repeat(IMAGES[..., :1], 3, axis=3)
    told = refused(model, tmp_path, faulty_writers(FAULTY_FORMATS, model, bgr), calibration=grey)
    for name in FAULTY_FORMATS:
        assert re.search(FAULTS[bgr][FORMATS[name].integer], told[name]), name


def test_a_fault_is_seen_in_a_model_that_is_sure_of_every_image(tmp_path, randomise):
    """Its probabilities round to 0 and 1, so that the error is small beside the largest."""
    sure = randomise(small_classifier(), seed=4)
    sure.get_layer("logits").bias.assign([25.0] + [0.0] * 9)
    prepared = prepare(sure)
    write_savedmodel(wrong_mean(prepared), tmp_path / "artifact", batch_size=None)
    report = examine(tmp_path / "artifact", FORMATS["saved_model"], ask(prepared, IMAGES))
    assert report.relative_error < 1e-6
    assert [check.name for check in report.failures] == ["class error"]


def test_an_artifact_of_other_types_is_refused(export_with, tmp_path):
    """Integer weights with float activations, which need no calibration, pass for no integer file."""

    with pytest.raises(VerificationError, match=r"input tensor: float32 \(1, 32, 32, 3\); required: uint8"):
        export_with("tflite-int8", WRITERS["tflite-dynamic"])


def test_integers_are_not_blamed_for_ties(randomise, tmp_path):
    """Labels that stand at 255/256 together have no first; the errors alone tell."""
    sure_of_three = randomise(small_classifier("sigmoid"), seed=4)
    sure_of_three.get_layer("logits").bias.assign([20.0] * 3 + [-1.0] * 7)
    report = export(sure_of_three, tmp_path, ["tflite-int8", "tflite"], calibration=IMAGES, task="classify")
    report = report.reports["tflite-int8"]
    assert "no image is decided" in [check.measured for check in report.checks]


def test_images_that_prove_nothing_are_named(model, small_exports):
    same = np.repeat(IMAGES[:1], 40, axis=0)
    reference = ask(prepare(model), same, small_exports.class_names, contract_of(model))
    report = examine(small_exports.paths["tflite-int8"], FORMATS["tflite-int8"], reference)
    assert [check.name for check in report.failures] == ["model's answers differ"]


def test_weights_left_out_of_onnx_are_refused(export_with):
    def stripped(job, path):
        import onnx

        WRITERS["onnx"](job, path)
        proto = onnx.load(str(path))
        del proto.graph.initializer[:]
        onnx.save(proto, str(path))

    with pytest.raises(VerificationError, match=r"runs: .*can't open it as onnx"):
        export_with("onnx", stripped)


def test_an_artifact_that_cannot_be_opened_is_refused(model, tmp_path, monkeypatch):
    def truncate(path, description):
        path.write_bytes(path.read_bytes()[:1000])

    def without(pattern, name):
        def write(job, path):
            WRITERS[name](job, path)
            [weights] = path.glob(pattern)
            weights.unlink()

        return {name: write}

    monkeypatch.setattr(pipeline, "embed", truncate)  # of files; SavedModel and OpenVINO are folders
    folders = without("variables/*.data-*", "saved_model")
    folders |= without("model.bin", "openvino") | without("model.bin", "openvino-int8")
    told = refused(model, tmp_path, {name: WRITERS[name] for name in all_formats()} | folders)
    for name in all_formats():
        assert re.search(r"runs: .*can't open it as", told[name]), name
        assert_no_final_name(tmp_path, name)


def test_wrong_names_are_refused(export_with):
    with pytest.raises(VerificationError, match="output name: Identity:0; required: probabilities"):
        export_with("onnx", onnx_with_the_converters_own_name)


def test_wrong_shapes_are_refused(model, tmp_path):
    write_savedmodel(prepare(small_classifier(size=48)), tmp_path / "larger", batch_size=None)
    with pytest.raises(VerificationError, match=r"input tensor: float32 \(None, 48, 48, 3\); required: "):
        verify(tmp_path / "larger", FORMATS["saved_model"], ask(prepare(model), IMAGES))


def onnx_with_the_converters_own_name(job, path):
    import onnx

    WRITERS["onnx"](job, path)
    proto = onnx.load(str(path))
    for node in proto.graph.node:
        node.output[:] = ["Identity:0" if name == "probabilities" else name for name in node.output]
    proto.graph.output[0].name = "Identity:0"
    onnx.save(proto, str(path))


def test_all_failures_are_listed_and_numbers_are_those_of_numpy(model, tmp_path):
    prepared = prepare(model)
    write_savedmodel(bgr(prepared), tmp_path / "artifact", batch_size=None)
    report = examine(tmp_path / "artifact", FORMATS["saved_model"], ask(prepared, IMAGES))
    expected = np.asarray(prepared(IMAGES, training=False))
    answers = np.asarray(prepared(IMAGES[..., ::-1], training=False))
    assert [check.name for check in report.failures] == ["relative error", "class error", "top-1 agreement"]
    np.testing.assert_allclose(report.max_difference, np.abs(answers - expected).max(), rtol=1e-4)
    agreement = 100 * np.mean(answers.argmax(1) == expected.argmax(1))
    assert report.top1_agreement_percent == pytest.approx(agreement)
    assert 0 < agreement < 100


def test_every_format_bounds_an_error_and_the_agreement():
    for row in FORMATS.values():
        assert row.tolerance.top1_agreement_percent >= 90, row.name
        assert row.tolerance != Tolerance(), row.name


def test_synthetic_images_differ_in_every_respect():
    images = synthetic_images((40, 56, 3), count=4, seed=1)
    assert images.shape == (4, 40, 56, 3)
    assert images.dtype == np.uint8
    assert np.ptp(images.mean(axis=(1, 2)), axis=0).min() > 10  # colour, from image to image
    assert np.abs(np.corrcoef(images[0].reshape(-1, 3).T)[np.triu_indices(3, 1)]).max() < 0.9  # channels
    np.testing.assert_array_equal(images, synthetic_images((40, 56, 3), count=4, seed=1))
