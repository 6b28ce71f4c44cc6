"""The format `web`: pages in headless Chromium against this package's pixels and the model's answers, and without one.

The tests in a browser need Chromium, the package `playwright`, and ONNX Runtime Web. `make browser` fetches them.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import stat
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import in_process
from pictures import picture
from PIL import Image, ImageCms
from small_classifier import small_classifier
from small_detector import small_detector
from small_segmenter import small_segmenter

from keras_resnet import inference
from keras_resnet.errors import ExportError, MissingDependencyError, VerificationError
from keras_resnet.export import Options, browser, export, page_checks, web_folder, web_runtime
from keras_resnet.export.artifact import open_artifact
from keras_resnet.export.browser import BrowserPage
from keras_resnet.export.formats import BROWSER, FORMATS
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.integrity import seal
from keras_resnet.export.pipeline import examine_artifact
from keras_resnet.export.running import Running
from keras_resnet.export.runtimes import format_of, open_runtime
from keras_resnet.export.web_runtime import write_runtime
from keras_resnet.facts import facts_of
from keras_resnet.masks_in_boxes import paste_masks
from keras_resnet.model_files import save_model
from keras_resnet.preprocessing import load_image
from keras_resnet.tasks import checked_task_of, contract_of
from keras_resnet.tasks.interpret import interpret
from keras_resnet.variants import InputContract, WholeImage

pytest.importorskip("onnxruntime")

RUNTIME = Path(os.environ.get("KERAS_RESNET_WEB_RUNTIME") or Path(sys.prefix, "onnxruntime-web"))
NAMES = [f"thing {index} <b>&</b> ö" for index in range(10)]
CALIBRATION = synthetic_images((32, 32, 3), count=40, seed=8)
SIDES = {"classify": (32, 32), "segment": (40, 56), "detect": (96, 96)}


def missing() -> str | None:
    """-> why no page can be opened here."""
    if not any(map(shutil.which, browser.BROWSERS)):
        return "no Chromium or Chrome is installed"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed: pip install 'keras-resnet-kit[web]'"
    return None if (RUNTIME / web_runtime.FILES[0].source).is_file() else f"ONNX Runtime Web is not at {RUNTIME}"


WHY = missing()
in_browser = pytest.mark.skipif(WHY is not None, reason=f"{WHY}; `make browser` fetches what is needed")


# --- pages of all tasks, in a browser -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def networks(randomise: Callable) -> Mapping[str, Any]:
    return {
        "classify": randomise(small_classifier(), seed=4),
        "segment": randomise(small_segmenter(), seed=4),
        "detect": small_detector(masks=True),
    }


@pytest.fixture(scope="module")
def made(networks: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """Exports of a network of each task; each page was verified in a browser."""
    root = tmp_path_factory.mktemp("pages")

    def exported(task: str, name: str, **given: Any) -> Any:
        options, names = Options(web_runtime=str(RUNTIME)), NAMES[: given.pop("classes")]
        with pytest.MonkeyPatch.context() as patch:
            if task == "detect":  # the layers of detectors' ONNX files have tests of their own, and take the most time
                patch.setattr("keras_resnet.export.verify._layer_checks", lambda *given: [])
            return export(networks[task], root / task, [name], class_names=names, options=options, **given)

    return {
        "classify": exported("classify", "web", classes=10, calibration=CALIBRATION),
        "segment": exported("segment", "web-float32", classes=5, contract=WholeImage(*SIDES["segment"])),
        "detect": exported("detect", "web-float32", classes=2),
    }


@pytest.fixture(scope="module")
def folders(made: Mapping[str, Any]) -> Mapping[str, Path]:
    return {task: next(iter(report.paths.values())) for task, report in made.items()}


@pytest.fixture(scope="module")
def pages(folders: Mapping[str, Path]) -> Mapping[str, BrowserPage]:
    return {task: BrowserPage(folder) for task, folder in folders.items()}


def contract_in(task: str) -> InputContract | WholeImage:
    return InputContract.for_size(32) if task == "classify" else WholeImage(*SIDES[task])


def encoded(pixels: np.ndarray | Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(stream, form, **options)
    return stream.getvalue()


def made_files() -> Iterator[tuple[str, bytes]]:
    """-> name and content of pictures of all kinds that browsers read."""
    noise = np.random.default_rng(3).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    for height, width in ((19, 43), (91, 42), (33, 32), (32, 33), (200, 20), (300, 301), (1, 1), (5, 64)):
        yield f"{height}x{width} PNG", encoded(picture(height, width, height), "PNG")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"orientation {orientation}", encoded(picture(45, 71, orientation), "JPEG", exif=exif, quality=90)
    for subsampling in range(3):
        yield f"subsampling {subsampling}", encoded(noise, "JPEG", subsampling=subsampling, quality=90)
    yield "progressive", encoded(noise, "JPEG", progressive=True)
    yield "large JPEG", encoded(picture(1200, 1600, 5), "JPEG", quality=92)
    yield "tall PNG", encoded(picture(1600, 700, 6), "PNG")
    yield "grey JPEG", encoded(Image.fromarray(noise).convert("L"), "JPEG")
    yield "CMYK", encoded(Image.fromarray(noise).convert("CMYK"), "JPEG")
    yield "grey PNG", encoded(Image.fromarray(noise).convert("L"), "PNG")
    yield "palette", encoded(Image.fromarray(noise).quantize(31), "PNG")
    yield "GIF", encoded(Image.fromarray(noise).quantize(99), "GIF")
    yield "BMP", encoded(noise, "BMP")
    yield "WebP", encoded(noise, "WEBP", lossless=True)
    yield "lossy WebP", encoded(noise, "WEBP", quality=80)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield "sRGB profile", encoded(noise, "JPEG", icc_profile=profile)
    yield "16-bit grey", encoded(Image.fromarray(noise[..., 0].astype(np.uint16) * 257 + 100), "PNG")
    alpha = np.arange(61 * 83).reshape(61, 83).astype(np.uint8)  # each alpha with 19 or 20 colours
    yield "transparent PNG", encoded(np.dstack([noise, alpha]), "PNG")
    yield "transparent WebP", encoded(np.dstack([noise, alpha]), "WEBP", lossless=True, exact=True)
    yield "transparent grey", encoded(Image.fromarray(np.dstack([noise[..., 0], alpha])), "PNG")


@in_browser
@pytest.mark.parametrize("task", ["classify", "segment"])
def test_pixels_of_made_files_are_this_packages(task, pages):
    wrong, count = [], 0
    for name, file in made_files():
        expected, count = load_image(file, contract_in(task)).ravel(), count + 1
        if not np.array_equal(pages[task].pixels_of(file), expected):
            wrong.append(name)
    assert (wrong, count) == ([], 35)


@in_browser
def test_pixels_of_a_bicubic_contract(folders, tmp_path):
    folder = shutil.copytree(folders["classify"], tmp_path / "web")
    description = json.loads((folder / "description.json").read_text())
    description["input"]["interpolation"] = "bicubic"
    (folder / "description.json").write_text(json.dumps(description))
    page = BrowserPage(folder)
    contract = replace(InputContract.for_size(32), interpolation="bicubic")
    for height, width in ((61, 83), (97, 40), (20, 33)):
        file = encoded(np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8), "PNG")
        np.testing.assert_array_equal(page.pixels_of(file), load_image(file, contract).ravel())


@in_browser
def test_pixels_of_photographs(shared_data, pages):
    photographs = sorted((shared_data / "imagenet_500" / "images").iterdir())[::25]
    originals = [file for file in sorted((shared_data / "imagenet_originals").iterdir()) if file.suffix != ".csv"]
    files = [file for file in (*photographs, *originals) if file.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")]
    assert len(files) >= 20
    for task in ("classify", "segment"):
        for file in files:
            received = pages[task].pixels_of(file.read_bytes())
            np.testing.assert_array_equal(received, load_image(file, contract_in(task)).ravel(), err_msg=file.name)


@in_browser
@pytest.mark.parametrize("task", SIDES)
def test_each_page_was_verified_with_all_checks(task, made):
    [report] = made[task].reports.values()
    names = [check.name for check in report.checks]
    assert report.passed
    assert {"pixels of image files", "answers to image files", "requests", "second batch size"} <= {*names}
    assert ("boundary error" in names) == (task == "classify")
    assert ("layer noise" in names) == (task != "detect")
    [entry] = json.loads(made[task].manifest.read_text())["artifacts"].values()
    assert entry["verification"]["passed"]
    assert entry["description"]["format"] == format_of(made[task].folder / entry["file"]).name


@in_browser
@pytest.mark.parametrize("task", SIDES)
def test_outputs_in_the_browser_are_the_models(task, networks, pages):
    images = synthetic_images((*SIDES[task], 3), count=3, seed=77)
    received = pages[task].run(images)
    if task == "detect":
        expected = {
            key: np.asarray(each) for key, each in networks[task](images.astype("float32"), training=False).items()
        }
        np.testing.assert_array_equal(received["labels"], expected["labels"])
        np.testing.assert_allclose(received["boxes"], expected["boxes"], atol=1e-2)
        np.testing.assert_allclose(received["masks"], expected["masks"], atol=1e-4)
    else:
        error = np.abs(received["probabilities"] - inference.predict(networks[task], images)).max()
        assert error < (0.05 if task == "classify" else 1e-5)


@in_browser
def test_the_folder_runs_here_too(folders, networks):
    images = synthetic_images((32, 32, 3), count=5, seed=78)
    artifact = open_artifact(folders["classify"])
    assert (artifact.class_names, artifact.format.runtime) == (NAMES, "ONNX Runtime")
    expected = inference.predict(networks["classify"], images)
    assert 0 < np.abs(artifact.predict(images)["probabilities"] - expected).max() < 0.05


@pytest.fixture
def copy_of(folders, tmp_path) -> Callable[..., Path]:
    """copy_of(task, file, old, new) -> copy of a page in which a text was exchanged, and the hashes with it."""

    def copy(task: str, file: str, old: str, new: str) -> Path:
        folder = shutil.copytree(folders[task], tmp_path / "copy")
        text = (folder / file).read_text(encoding="utf-8")
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
        seal(folder)
        return folder

    return copy


@pytest.mark.slow
@in_browser
@pytest.mark.parametrize(
    ("task", "file", "old", "new", "check"),
    [
        ("classify", "pixels.js", "rest === 0.5 && low % 2 !== 0", "rest === 0.5", "pixels of image files"),
        ("segment", "pixels.js", "[124, 116, 104]", "[124, 116, 105]", "pixels of image files"),
        ("classify", "answers.js", "values[b] - values[a]", "values[a] - values[b]", "answers to image files"),
        ("detect", "answers.js", "down = height / rows", "down = width / columns", "answers to image files"),
        (
            "classify",
            "worker.js",
            "const opening",
            'fetch("http://10.0.0.1/").catch(() => {});\nconst opening',
            "requests",
        ),
    ],
)
def test_a_fault_in_the_page_is_found(task, file, old, new, check, copy_of, networks):
    page, network = BrowserPage(copy_of(task, file, old, new)), networks[task]
    own = checked_task_of(interpret(network))
    facts, classes = facts_of(interpret(network)).task_facts, own.classes_of(network)
    checks = page_checks.page_checks(page, own, facts, classes, NAMES[:classes], contract_in(task))
    assert check in [each.name for each in checks if not each.passed]


@in_browser
def test_a_strangers_program_is_not_run(copy_of):
    folder = copy_of("classify", "answers.js", "TOP = 5", "TOP = 6")
    row = replace(format_of(folder), runtime=BROWSER)
    with pytest.raises(ExportError, match=r"answers\.js must be as this version of the package writes them.*--trust"):
        open_runtime(folder, row)
    assert list(open_runtime(folder, row, trust=True).inputs) == ["image"]
    assert open_artifact(folder).class_names == NAMES  # no browser runs it there


@in_browser
def test_the_command_verifies_a_page(folders, networks, tmp_path):
    save_model(networks["classify"], tmp_path / "model.keras", NAMES, contract_in("classify"))
    for index, pixels in enumerate(CALIBRATION):
        Image.fromarray(pixels).resize((37, 37)).save(tmp_path / f"{index}.png")
    arguments = ["--model", tmp_path / "model.keras", "--images", tmp_path]
    status, out, err = in_process("verify", folders["classify"], *arguments)
    assert (status, err) == (0, []), out
    assert "pixels of image files" in "\n".join(out)


# --- the page in the hands of a user ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        executable = next(filter(None, map(shutil.which, browser.BROWSERS)))
        launched = driver.chromium.launch(
            executable_path=executable,
            args=["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
        )
        yield launched
        launched.close()


@contextlib.contextmanager
def shown(chromium: Any, folder: Path) -> Iterator[Any]:
    """The page as a user opens it, on a telephone."""
    with (
        browser._served(folder) as address,
        contextlib.closing(chromium.new_context(viewport={"width": 390, "height": 800})) as context,
    ):
        page = context.new_page()
        page.set_default_timeout(120_000)  # a machine may be busy
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("console", lambda message: message.type == "error" and page.faults.append(message.text))
        page.goto(address)
        yield page


def as_files(*contents: bytes) -> list[dict[str, Any]]:
    return [{"name": f"{place}.png", "mimeType": "image/png", "buffer": each} for place, each in enumerate(contents)]


@pytest.mark.slow
@in_browser
def test_several_pictures_are_classified_with_names_as_text(chromium, folders):
    files = [encoded(picture(60, 80, seed), "PNG") for seed in (1, 2)]
    [first, second] = open_artifact(folders["classify"]).predictor.predict(files)
    with shown(chromium, folders["classify"]) as page:
        page.set_input_files("#file", as_files(*files, b"no image"))
        page.locator("#rows .row").nth(4).wait_for()
        labels = page.locator("#rows .row .line span:first-child")
        best = np.argsort(-first["probabilities"])[:5]
        assert labels.all_text_contents() == [NAMES[index] for index in best]
        assert page.locator("#rows b").count() == 0  # the names' markup is text
        assert " ms in this browser: " in page.locator("#time").text_content()
        buttons = page.locator("#pictures button")
        assert buttons.count() == 3
        buttons.nth(1).click()
        page.locator("#time", has_text="browser").wait_for()
        assert labels.all_text_contents() == [NAMES[index] for index in np.argsort(-second["probabilities"])[:5]]
        buttons.nth(2).click()
        page.locator("#error").wait_for()
        assert "can't read the picture" in page.locator("#error").text_content()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.faults == []


@pytest.mark.slow
@in_browser
def test_a_mask_has_a_legend_and_the_camera_takes_a_picture(chromium, folders):
    with shown(chromium, folders["segment"]) as page:
        page.click("#camera")
        page.locator("#snap").wait_for()
        page.click("#snap")
        page.locator("#rows .swatch").first.wait_for()
        assert page.locator("#mask").is_visible()
        percents = [float(text.split()[0]) for text in page.locator("#rows .number").all_text_contents()]
        assert sum(percents) == pytest.approx(100, abs=0.3)
        assert page.locator("#video").is_hidden()
        assert page.faults == []


@pytest.mark.slow
@in_browser
def test_boxes_follow_the_smallest_score(chromium, folders):
    file = encoded(picture(90, 130, 3), "PNG")
    [found] = open_artifact(folders["detect"]).predictor.predict([file])
    with shown(chromium, folders["detect"]) as page:
        page.set_input_files("#file", as_files(file))
        page.locator("#of-boxes").wait_for()
        scores = np.sort(found["scores"])[::-1]
        least = round(float(scores[len(scores) // 2]), 2)
        page.fill("#threshold", str(least))
        assert page.locator("#rows .row").count() == int((found["scores"] >= least).sum())
        canvas = "const canvas = part('boxes'), pen = canvas.getContext('2d')"
        values = "pen.getImageData(0, 0, canvas.width, canvas.height).data"
        covered = (
            f"(() => {{ {canvas}; return {values}.filter((value, place) => place % 4 === 3 && value).length; }})()"
        )
        assert page.evaluate(covered) > 0
        page.fill("#threshold", "1")
        assert page.locator("#rows .row").count() == page.evaluate(covered) == 0
        assert page.faults == []


@pytest.mark.slow
@in_browser
def test_masks_are_pasted_as_by_this_package(chromium, folders):
    """Both interpolate between the centres of a mask's positions; this package starts at whole pixels of the box."""
    smooth = picture(28, 28, 4)[..., 0] / np.float32(255)
    box, scale = [10.0, 20.0, 150.0, 110.0], 1.5
    [expected] = paste_masks(smooth[None], scale * np.array([box], np.float32), 200, 300) >= 0.5
    draw = """([values, box, scale]) => {
      const canvas = new OffscreenCanvas(300, 200), pen = canvas.getContext("2d");
      cover(pen, {values, side: 28, box}, scale, [255, 0, 0]);
      return [...pen.getImageData(0, 0, 300, 200).data].filter((value, place) => place % 4 === 3);
    }"""
    with shown(chromium, folders["classify"]) as page:
        drawn = np.array(page.evaluate(draw, [smooth.ravel().tolist(), box, scale])).reshape(200, 300) > 0
    assert 0.1 < expected.mean() < 0.5
    assert (drawn == expected).mean() > 0.98


# --- without a browser --------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A package that stands for npm's, with the hashes of its own files."""
    root = tmp_path / "package"
    (root / "dist").mkdir(parents=True)
    files = []
    for file in web_runtime.FILES:
        (root / file.source).write_text(file.name)
        files.append(file._replace(sha256=hashlib.sha256(file.name.encode()).hexdigest()))
    for module in (web_runtime, web_folder):
        monkeypatch.setattr(module, "FILES", tuple(files))
    return root


def test_without_a_driver_or_a_browser_the_folder_stays_unverified(package, randomise, tmp_path, monkeypatch):
    model, options = randomise(small_classifier(), seed=4), Options(web_runtime=str(package))
    monkeypatch.setitem(sys.modules, "playwright", None)
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(ExportError, match=r"needs the package 'playwright'.*pip install '.*\[web\]'"):
        export(model, tmp_path / "out", ["web-float32"], options=options)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["web-float32.unverified"]
    unverified = tmp_path / "out" / "web-float32.unverified"
    assert (unverified / "index.html").is_file()
    with pytest.raises(MissingDependencyError, match="playwright"):
        examine_artifact(unverified, model, images=None, contract=contract_of(model))


@in_browser
def test_without_a_browser_the_message_names_one(folders, networks, monkeypatch):
    monkeypatch.setattr(browser, "BROWSERS", ("no-such-browser",))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", "/nowhere")
    with pytest.raises(
        MissingDependencyError, match=r"none was found\. Install one, for example by `apt-get install chr"
    ):
        BrowserPage(folders["classify"])


def test_damage_is_found_and_the_page_is_known(package, randomise, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_resnet.export.pipeline.verify", lambda *given: examined())
    model = randomise(small_classifier(), seed=4)
    made = export(
        model, tmp_path / "out", ["web-float32"], options=Options(web_runtime=str(package)), class_names=NAMES
    )
    folder = made.paths["web-float32"]
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        *("answers.js", "assets.extra/keras_resnet.sha256", "description.json", "index.html", "labels.txt"),
        *("model.onnx", "pixels.js", "runtime/LICENSE.txt", "runtime/ort.js", "runtime/ort.wasm", "worker.js"),
    ]
    assert "MIT License" in (folder / "runtime" / "LICENSE.txt").read_text()
    row = format_of(folder)
    assert (row.name, row.runtime, row.verified_in) == ("web-float32", "ONNX Runtime", BROWSER)
    images = synthetic_images((32, 32, 3), count=3, seed=5)
    answers = open_artifact(folder).predict(images)["probabilities"]
    np.testing.assert_allclose(answers, inference.predict(model, images), rtol=1e-4, atol=1e-7)
    status, out, _ = in_process("info", folder, "--json")
    assert (status, json.loads("\n".join(out))["format"]) == (0, "web-float32")
    with pytest.raises(ExportError, match="openvino is for ONNX files"):
        Running("openvino").of(row)
    for name in ("worker.js", "model.onnx", "runtime/ort.wasm", "description.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + b" ")
        with pytest.raises(ExportError, match=f"damaged: its contents have changed since the export .{name}"):
            open_artifact(folder)
        (folder / name).write_bytes(content)
    shutil.rmtree(folder / "assets.extra")
    with pytest.raises(ExportError, match="its hashes are gone"):
        open_artifact(folder)


def examined() -> Any:
    from keras_resnet.export.checks import Report

    return Report("web-float32", (), 0, 0.0, 0.0, 100.0)


def test_the_page_runs_no_program_but_its_own():
    page = web_folder.programs()["index.html"]
    assert "default-src 'none'; script-src 'sha256-" in page
    assert "unsafe" not in page
    for text in web_folder.programs().values():
        assert "innerHTML" not in text
        assert {*re.findall(r"https?://[^\s`\"']+", text)} <= {"http://127.0.0.1:8000"}


def test_the_runtime_is_found_in_each_form_of_the_package(package, tmp_path):
    inside = tmp_path / "installed"
    shutil.copytree(package, inside / "node_modules" / "onnxruntime-web")
    for number, given in enumerate((package, package.parent, inside)):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_runtime(str(given), folder, tmp_path)
        assert (folder / "runtime" / "ort.js").read_text() == "ort.js"


def test_another_runtime_is_refused(package, tmp_path):
    with pytest.raises(
        ExportError, match=r"--web-runtime\) must be a folder with npm's package onnxruntime-web.*Received: "
    ):
        write_runtime(str(tmp_path / "nowhere"), tmp_path, tmp_path)
    (package / web_runtime.FILES[1].source).write_text("changed")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ExportError, match=r"must be a file of onnxruntime-web@1\.30\.0, with SHA-256 .*Received: "):
        write_runtime(str(package), tmp_path / "folder", tmp_path)


def test_npm_fetches_the_runtime(package, tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "packed.tgz", "w:gz") as archive:
        archive.add(package, "package")
    (tmp_path / "bin").mkdir()
    npm = tmp_path / "bin" / "npm"
    npm.write_text(
        f'#!/bin/sh\n[ "$2" = {web_runtime.PACKAGE} ] && cp {tmp_path}/packed.tgz "$6/onnxruntime-web-1.30.0.tgz"\n'
    )
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    for name in ("folder", "scratch"):
        (tmp_path / name).mkdir()
    write_runtime(None, tmp_path / "folder", tmp_path / "scratch")
    assert (tmp_path / "folder" / "runtime" / "ort.wasm").read_text() == "ort.wasm"
    npm.write_text("#!/bin/sh\necho 'no network' >&2\nexit 1\n")
    with pytest.raises(ExportError, match=r"npm can't fetch onnxruntime-web@1\.30\.0: no network\. Run `npm pack"):
        write_runtime(None, tmp_path / "folder", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ExportError, match=r"npm, which fetches it, is not here\. Run `npm pack .*--web-runtime FOLDER"):
        write_runtime(None, tmp_path / "folder", tmp_path)


def test_networks_that_take_no_pictures_are_refused(package, randomise, tmp_path):
    options = Options(web_runtime=str(package))
    for shape in ({"width": 48}, {"channels": 4}):
        model = randomise(small_classifier(**shape), seed=4)
        with pytest.raises(ExportError, match="web-float32 needs a network that takes square RGB images"):
            export(model, tmp_path / "out", ["web-float32"], options=options)
    with pytest.raises(ExportError, match=r"web-float32 must be exported without `raw_heads`"):
        export(small_detector(), tmp_path / "out", ["web-float32"], options=replace(options, raw_heads=True))


def test_all_formats_need_no_browser():
    from keras_resnet.export.formats import all_formats

    assert set(FORMATS) - set(all_formats()) == {"web", "web-float32"}


def test_files_of_the_checks_are_of_many_kinds():
    files = page_checks.picture_files(32, 48)
    kinds = {Image.open(io.BytesIO(file)).format for file in files.values()}
    assert kinds == {"JPEG", "PNG", "WEBP", "GIF", "BMP"}
    assert issubclass(VerificationError, ExportError)
