"""The Python blocks of the pages run, in their order, in a folder with small stand-ins for the files that they name."""

import pickle
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from boxed_pictures import write_voc
from masked_pictures import CLASSES, write_masked
from pictures import jpeg, picture, write_folder
from shallow import shallow_builder
from small_classifier import small_classifier
from small_detector import small_detector
from small_segmenter import small_segmenter
from test_docs import PAGES, blocks

import keras_resnet
from keras_resnet import detection, explain, models, segmentation
from keras_resnet.errors import MissingDependencyError
from keras_resnet.export import export
from keras_resnet.export.images import synthetic_images
from keras_resnet.loading import open_network
from keras_resnet.model_files import save_model
from keras_resnet.preprocessing import load_images
from keras_resnet.variants import InputContract, WholeImage

NAMES = ["cat", "dog", "fox", "gull"]
SIDE = 64  # pixels of what is exported
CONTRACT = InputContract.for_size(SIDE)
# In place of the recipe of that name, which would download weights and train for minutes.
RECIPE = """network = "resnet20"\nsize = 32\nbatch_size = 8\nwarmup_epochs = 0.5\n"""


def images_and_classes() -> dict[str, Any]:
    """The model has a fixed size, and images like those on which a file without calibration images is verified."""
    shutil.copy("runs/own/model.keras", "model.keras")
    return {"pixels": synthetic_images((SIDE, SIDE, 3), count=16, seed=8), "classes": np.arange(16) % len(NAMES)}


def answers_and_classes() -> dict[str, Any]:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(8), 20)
    return {"probabilities": probabilities, "classes": np.arange(20) % 8}


def artifact_and_keys() -> dict[str, Any]:
    """The keys are like the keys that the page's commands make."""
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key, pem = Ed25519PrivateKey.generate(), form.Encoding.PEM
    Path("private.pem").write_bytes(key.private_bytes(pem, form.PrivateFormat.PKCS8, form.NoEncryption()))
    Path("public.pem").write_bytes(key.public_key().public_bytes(pem, form.PublicFormat.SubjectPublicKeyInfo))
    Path("out").mkdir()
    Path("out/model.onnx").write_bytes(b"an artifact")
    return {}


def exported_detector() -> dict[str, Any]:
    """The page's commands export it, and its picture is one for any network."""
    shutil.copy("photo.jpg", "picture.jpg")
    model, _ = open_network("detector.keras", None)
    export(model, "out", ["saved_model"], class_names=NAMES[:2])
    return {}


# Names that the blocks of a page use and do not make, as the text around them tells.
GIVEN: dict[str, Callable[[], dict[str, Any]]] = {
    "docs/compress.md": images_and_classes,
    "docs/detection.md": exported_detector,
    "docs/evaluate.md": answers_and_classes,
    "docs/export.md": lambda: {"pixels": load_images(["cat.jpg"], CONTRACT)},
    "docs/own-models.md": lambda: {"model": small_classifier(size=224, classes=2)},
    "docs/security.md": artifact_and_keys,
    "docs/segmentation-data.md": lambda: {"model": small_segmenter()},
    "docs/weights-and-pixels.md": lambda: {"model": small_classifier(size=224, classes=2)},
}


@pytest.fixture(scope="module")
def files(randomise: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the files that the blocks name."""
    folder = tmp_path_factory.mktemp("files")
    write_folder(folder / "images", dict.fromkeys(NAMES, 10))
    write_folder(folder / "photos", dict.fromkeys(map(str, range(4)), 10))  # places of ImageNet's classes
    rows = [f"images/{name}/{index:03}.jpg,{name}" for name in NAMES for index in range(10)]
    (folder / "pets.csv").write_text("\n".join(["file,breed", *rows]))
    for number, name in enumerate(("cat.jpg", "dog.png", "photo.jpg", "street.jpg")):
        (folder / name).write_bytes(jpeg(picture(60, 80, number)))
    for split, count in (("train", 12), ("val", 3)):
        write_masked(folder / "camvid" / split, count)
    write_voc(folder / "cells")
    (folder / "fine-tune.toml").write_text(RECIPE)
    (folder / "R-50.pkl").write_bytes(pickle.dumps({"model": {"stem.conv1.weight": np.ones(3, "f4")}}))
    for name in ("own", "photos", "segment"):
        (folder / "runs" / name).mkdir(parents=True)
    model = randomise(small_classifier(size=SIDE, classes=len(NAMES)))
    save_model(model, folder / "runs" / "own" / "model.keras", NAMES, CONTRACT)
    for name in ("model.keras", "own.keras"):
        randomise(small_classifier(size=None, classes=len(NAMES))).save(folder / name)
    tagger = small_classifier("sigmoid", size=SIDE, classes=len(NAMES))
    save_model(tagger, folder / "runs" / "photos" / "model.keras", NAMES, CONTRACT, "tag", {"threshold": 0.4})
    save_model(small_detector(), folder / "detector.keras", NAMES[:2], WholeImage(96, 96))
    names = [f"class {index}" for index in range(CLASSES)]
    save_model(small_segmenter(), folder / "runs" / "segment" / "model.keras", names, WholeImage())
    return folder


@pytest.fixture
def stand_ins(randomise: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks take the place of large ones with published weights, and nobody waits."""

    def classifier(*_: Any, classes: int = 1000, **__: Any) -> keras.Model:
        return randomise(small_classifier(size=SIDE, classes=classes))

    def segmenter(*_: Any, classes: int = 21, **__: Any) -> keras.Model:
        return small_segmenter(classes)

    def detector(builder: Callable[..., keras.Model]) -> Callable[..., keras.Model]:
        def narrow(*_: Any, classes: int = 90, input_shape: Any = None, **__: Any) -> keras.Model:
            sizes = {"min_size": 64, "max_size": 96, "channels": 8, "units": 8, "proposals": 20}
            return builder("resnet18", classes, input_shape=input_shape, **sizes)

        return narrow

    for name in ("FasterRCNN", "MaskRCNN"):
        monkeypatch.setattr(detection, name, detector(getattr(detection, name)))
    monkeypatch.setitem(vars(keras_resnet), "ResNet50", classifier)
    monkeypatch.setitem(models.BUILDERS, "resnet20", shallow_builder("resnet20"))
    for name in ("DeepLabV3", "DeepLabV3Plus"):
        monkeypatch.setattr(segmentation, name, segmenter)
    monkeypatch.setattr("keras_resnet.recipes.FOLDER", Path())  # a short recipe is called fine-tune there
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("keras_resnet.explain.d_rise", partial(explain.d_rise, masks=2))
    # The answers of an untrained network may change when they are rounded.
    monkeypatch.setattr("keras_resnet.export.pipeline.check_drop", lambda name, accuracy, most: None)


def export_again(*arguments: Any, **options: Any) -> Any:
    """`export`, which an earlier block of the page has already called for this folder."""
    return export(*arguments, **options, overwrite=True)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python") and page != "README.ko.md"])
@pytest.mark.usefixtures("stand_ins")
def test_the_python_of_a_page_runs(page: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Korean page has the blocks of the English one, which `test_docs` checks."""
    monkeypatch.chdir(shutil.copytree(files, tmp_path / "files"))
    if page == "docs/train.md":  # whose blocks make it
        shutil.rmtree("runs")
    monkeypatch.setattr("keras_resnet.export.export", export_again)
    names = GIVEN.get(page, dict)()
    try:
        for number, code in enumerate(blocks(page, "python"), start=1):
            if code not in blocks(page, "python run"):  # which runs in `test_docs`, with the networks themselves
                exec(compile(code, f"{page}, block {number}", "exec"), names)  # noqa: S102  our own page
    except MissingDependencyError as error:
        pytest.skip(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("keras_resnet"):
            raise
        pytest.skip(str(error))
    finally:
        keras.backend.clear_session()
