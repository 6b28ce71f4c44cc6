"""The command `predict`, run in this process on a small model of 1000 or 3 classes."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
import typer
from command_line import ACCOUNT, in_process
from PIL import Image
from small_classifier import small_classifier
from typer.testing import CliRunner

from keras_resnet.cli.main import main
from keras_resnet.cli.predict import predict
from keras_resnet.errors import ArgumentError, WeightsError
from keras_resnet.labels import imagenet_labels
from keras_resnet.loading import open_network, predictor_of
from keras_resnet.models import ResNet18
from keras_resnet.preprocessing import load_image
from keras_resnet.variants import InputContract

ROW = re.compile(r" {2}([ \d]{3}\.\d\d) %  (?:(n\d{8})  )?(\S.*)")


def run(*arguments) -> tuple[int, list[str], list[str], BaseException | None]:
    """-> exit status, lines on stdout, lines on stderr, what was raised."""
    app = typer.Typer()
    app.command()(predict)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return (
        result.exit_code,
        result.stdout.splitlines(),
        [line for line in result.stderr.splitlines() if not ACCOUNT.match(line)],
        result.exception,
    )


def save_image(path, seed: int, shape=(48, 60, 3)):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)
    return path


def sharpen(model):
    """Spreads the logits of a random network, so that its best classes stand apart in the printed percentages."""
    head = model.get_layer("logits")
    head.kernel.assign(np.random.default_rng(5).normal(0, 0.1, head.kernel.shape))
    return model


@pytest.fixture(scope="module")
def models(randomise, tmp_path_factory):
    """Folder with one network of 3 classes three times: with softmax, without, and with it below another layer."""
    folder = tmp_path_factory.mktemp("models")
    model = sharpen(randomise(small_classifier(size=64, classes=3)))
    model.save(folder / "probabilities.keras")
    logits = small_classifier(None, size=64, classes=3)
    logits.set_weights(model.get_weights())
    logits.save(folder / "logits.keras")
    # Keras lists layers by depth, so that the layer after the softmax is the last, and none has an `activation`.
    image = keras.Input((64, 64, 3))
    keras.Model(image, keras.layers.Identity(name="logits")(model(image))).save(folder / "wrapped.keras")
    return folder


@pytest.fixture(scope="module")
def model(models):
    """The network with softmax, as its file has it, to compare with."""
    return keras.models.load_model(models / "probabilities.keras")


@pytest.mark.parametrize("batch_size", [1, 2, 16])
@pytest.mark.parametrize("name", ["probabilities", "logits", "wrapped"])
def test_printed_rows_equal_the_model(models, model, tmp_path, batch_size, name):
    paths = [save_image(tmp_path / f"{i}.png", i) for i in range(3)]
    status, lines, errors, _ = run(*paths, "--model", models / f"{name}.keras", "--batch-size", batch_size, "--top", 3)
    assert (status, errors) == (0, [])
    assert lines[::4] == [str(path) for path in paths]
    for i, path in enumerate(paths):
        [expected] = np.asarray(model(load_image(path, InputContract(size=64, resize=73))[None], training=False))
        rows = [ROW.fullmatch(line) for line in lines[4 * i + 1 : 4 * i + 4]]
        order = np.argsort(-expected)
        assert [row[3] for row in rows] == [f"class {c}" for c in order]
        np.testing.assert_allclose([float(row[1]) for row in rows], 100 * expected[order], atol=0.006)


def test_network_by_name_and_weights_by_path(tmp_path):
    model = sharpen(ResNet18())
    model.save_weights(tmp_path / "own.weights.h5")
    (tmp_path / "folder").mkdir()
    paths = [save_image(tmp_path / "folder" / f"{i}.png", i) for i in range(2)]
    status, lines, errors, raised = run(
        tmp_path / "folder", "--model", "resnet18", "--weights", tmp_path / "own.weights.h5"
    )
    assert (status, errors, raised) == (0, [], None)
    assert lines[::6] == [str(path) for path in paths]
    for i, path in enumerate(paths):
        [expected] = np.asarray(model(load_image(path)[None], training=False))
        rows = [ROW.fullmatch(line) for line in lines[6 * i + 1 : 6 * i + 6]]
        assert [(row[2], row[3]) for row in rows] == [imagenet_labels()[c] for c in np.argsort(-expected)[:5]]


@pytest.mark.parametrize(
    ("weights", "contract"),
    [
        (None, "256 -> 224 bilinear"),
        ("imagenet", "256 -> 224 bilinear"),
        ("tv2_in1k", "232 -> 224 bilinear"),
        ("a1_in1k", "235 -> 224 bicubic"),
        ("hf://timm/resnet50.a1_in1k", "235 -> 224 bicubic"),
        ("own.safetensors", "256 -> 224 bilinear"),
    ],
)
def test_published_weights_bring_their_contract(monkeypatch, tmp_path, weights, contract):
    """The network is real; of its weights, only the file is missing."""
    import keras_resnet.cli.predict as module

    monkeypatch.chdir(tmp_path)
    Path("own.safetensors").touch()
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repo_id, filename, revision: "/cache/x")
    monkeypatch.setattr("keras_resnet.weights.read_weight_file", lambda path: None)
    monkeypatch.setattr("keras_resnet.weights.match_weights", lambda *_: [])
    seen = []
    monkeypatch.setattr("keras_resnet.weights.file_sha256", lambda path: 64 * "0")
    monkeypatch.setattr(module, "_predict_all", lambda paths, predictor, *_: seen.append(str(predictor.contract)) or 0)
    options = [] if weights is None else ["--weights", weights]
    status, *_ = run(save_image(tmp_path / "a.png", 0), *options)
    assert status == 0
    assert seen == [contract]


def test_unreadable_images_are_reported_and_the_rest_go_on(models, tmp_path):
    good = [save_image(tmp_path / "1.png", 1), save_image(tmp_path / "4.png", 4, shape=(1, 1, 3))]
    (tmp_path / "2.jpg").write_bytes(b"not a picture")
    (tmp_path / "3.jpg").write_bytes(b"")
    options = ["--model", models / "logits.keras", "--batch-size", 1]
    status, lines, errors, _ = run(tmp_path, tmp_path / "absent.jpg", *options)
    assert status == run(tmp_path, *options)[0] == run(good[0], tmp_path / "absent.jpg", *options)[0] == 1
    assert [line for line in lines if not ROW.fullmatch(line)] == [str(path) for path in good]
    assert errors[0].startswith(f"{tmp_path / 'absent.jpg'}: no such file")
    assert errors[1].startswith(f"{tmp_path / '2.jpg'}: not an image")
    assert errors[2] == f"{tmp_path / '3.jpg'}: the file is empty"
    assert len(errors) == 3


def test_the_rate_is_stated_for_more_than_a_few_images(models, tmp_path):
    for number in range(17):
        save_image(tmp_path / f"{number:02}.png", number)
    options = ["--model", models / "logits.keras", "--batch-size", 4, "--top", 1]
    status, lines, errors, _ = run(tmp_path, *options)
    assert (status, len(lines), len(errors)) == (0, 2 * 17, 1)
    stated = re.fullmatch(r"17 images in (\d+\.\d\d) s: (\d+\.\d) images/s", errors[0])
    seconds, rate = map(float, stated.groups())
    assert 17 / (rate + 0.05) - 0.005 <= seconds <= 17 / (rate - 0.05) + 0.005  # both are rounded

    (tmp_path / "16.png").write_bytes(b"")
    status, fewer, errors, _ = run(tmp_path, *options)
    assert (status, fewer, len(errors)) == (1, lines[:-2], 1)  # 16 that can be read
    assert errors[0].endswith("the file is empty")


def test_one_trace_serves_batches_of_all_sizes(models, model):
    network, contract = open_network(str(models / "probabilities.keras"), None)
    pixels = np.random.default_rng(6).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    run_pixels = predictor_of(network, contract, "model").run
    answers = [run_pixels(pixels[:count])["probabilities"] for count in (4, 3, 1)]
    assert network.predict_function.experimental_get_tracing_count() == 1
    expected = np.asarray(model(pixels, training=False))
    for count, answer in zip((4, 3, 1), answers, strict=True):
        np.testing.assert_allclose(answer, expected[:count], rtol=1e-5)


def test_where_xla_compiles_a_smaller_batch_is_filled_up(models, model):
    network, contract = open_network(str(models / "logits.keras"), None)
    network.jit_compile = True
    sizes, predict_on_batch = [], network.predict_on_batch
    network.predict_on_batch = lambda pixels: sizes.append(len(pixels)) or predict_on_batch(pixels)
    pixels = np.random.default_rng(6).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    run_pixels = predictor_of(network, contract, "model").run
    expected = np.asarray(model(pixels, training=False))
    for count in (2, 4, 3, 1):
        np.testing.assert_allclose(run_pixels(pixels[:count])["probabilities"], expected[:count], rtol=1e-4)
    assert sizes == [2, 4, 4, 4]


def test_nothing_to_predict_is_a_failure_before_any_model_is_built(tmp_path):
    status, lines, errors, _ = run(tmp_path / "*.jpg")
    assert (status, lines, len(errors)) == (1, [], 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "resnet-50"], "did you mean resnet50"),
        (["--model", "ResNet152"], "did you mean resnet152"),
        (["--model", "vgg"], r"--model must be one of resnet18, .*Received: vgg$"),
        (["--model", "absent.keras"], "does not exist. Received: absent.keras"),
        (["--model", "own.keras", "--weights", "imagenet"], "--weights can't be given with a .keras file"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, message):
    *_, raised = run(save_image(tmp_path / "a.png", 0), *options)
    assert isinstance(raised, ArgumentError)
    assert re.search(message, str(raised))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ArgumentError("--model must be another"), "error: --model must be another\n"),
        (WeightsError("x.pth: can't be read"), "error: x.pth: can't be read\n"),
        (PermissionError(13, "Permission denied", "out"), "error: [Errno 13] Permission denied: 'out'\n"),
        (ValueError("operands could not be broadcast together"), None),
    ],
)
def test_own_errors_are_one_line_and_a_defect_keeps_its_traceback(monkeypatch, capsys, error, line):
    def fail(arguments):
        raise error

    monkeypatch.setattr("keras_resnet.cli.main.app", fail)
    monkeypatch.setattr("sys.argv", ["keras-resnet"])
    with pytest.raises(SystemExit if line else type(error)) as raised:
        main()
    if line:
        assert raised.value.code == 1
        assert capsys.readouterr().err == line


def test_model_files_that_cannot_predict_are_refused(tmp_path):
    image = save_image(tmp_path / "a.png", 0)
    (tmp_path / "broken.keras").write_bytes(b"no archive")
    *_, raised = run(image, "--model", tmp_path / "broken.keras")
    assert isinstance(raised, WeightsError)
    assert str(raised).startswith(f"{tmp_path / 'broken.keras'}: can't be loaded")

    small = small_classifier(size=64)
    keras.Model(small.input, small.get_layer("pool").input).save(tmp_path / "maps.keras")
    *_, raised = run(image, "--model", tmp_path / "maps.keras")
    assert (
        "must answer for the whole image, [N, classes], or for every pixel of it, [N, 64, 64, classes]. Its output is"
        in str(raised)
    )

    small_classifier(size=64, width=96, classes=3).save(tmp_path / "oblong.keras")
    *_, raised = run(image, "--model", tmp_path / "oblong.keras")
    assert "must take square RGB images" in str(raised)


def test_weights_of_other_classes_are_refused(tmp_path):
    ResNet18(classes=3).save_weights(tmp_path / "three.weights.h5")
    *_, raised = run(
        save_image(tmp_path / "a.png", 0), "--model", "resnet18", "--weights", tmp_path / "three.weights.h5"
    )
    assert isinstance(raised, WeightsError)
    assert re.search("head stays fresh.*1000 classes.*has 3.*A random head predicts nothing", str(raised))


def test_a_network_that_answers_with_nan_is_one_line(model_file, image_folder, tmp_path):
    model = keras.models.load_model(model_file)
    bias = model.get_layer("logits").bias
    bias.assign(np.where(np.arange(bias.shape[0]) == 1, np.nan, 0).astype("float32"))
    model.save(tmp_path / "nan.keras")
    for command in (
        ("predict", image_folder / "07.png", "--model", tmp_path / "nan.keras"),
        ("explain", image_folder / "07.png", "--model", tmp_path / "nan.keras", "--out", tmp_path / "out"),
    ):
        status, _, errors = in_process(*command)
        message = f"error: {tmp_path / 'nan.keras'}: answers with NaN or infinity on 1 of 1 images. Its weights are"
        assert (status, len(errors), errors[0].startswith(message)) == (1, 1, True)
