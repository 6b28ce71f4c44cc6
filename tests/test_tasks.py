"""The task of a network is a stated fact: files of this version and of earlier ones say it, and nothing else does."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from command_line import in_process
from masked_pictures import write_masked
from pictures import write_folder
from PIL import Image
from shallow import shallow_builder
from small_classifier import small_classifier
from small_segmenter import small_segmenter

import keras_resnet
from keras_resnet import models
from keras_resnet.data.shards import read_dataset_description as read_packed
from keras_resnet.errors import ArgumentError
from keras_resnet.export import LabelledImages, export
from keras_resnet.export.description import read_description
from keras_resnet.export.images import synthetic_images
from keras_resnet.facts import Facts, facts_of, state
from keras_resnet.loading import open_network
from keras_resnet.model_files import MEMBER, save_model
from keras_resnet.preprocessing import load_image
from keras_resnet.segmentation import FCN
from keras_resnet.tasks import LEARNED, TASKS, contract_of, task_of
from keras_resnet.tasks.outputs import KINDS
from keras_resnet.tasks.sources import open_source, open_split
from keras_resnet.training.fit import recipe_of_run
from keras_resnet.variants import InputContract, WholeImage

OLD = Path(__file__).parent / "old_files"  # written by version 0.1.0 before a file named its task
CLASSES = ["cat", "dog", "crane"]
GROUNDS = ["road", "sky", "tree"]
PACKAGE = Path(keras_resnet.__file__).parent

# What counts as asking for the task outside of the tasks' own folders: the kind of a contract or of a source that has
# masks, the word of a task, the rank of a network's answer.
ASKS = (
    r"isinstance\([^)]*\b(WholeImage|InputContract|MaskedSource)\b",
    r"(==|!=|\bis|\bis not|\bin) \(?(\"(classify|segment|classification|segmentation)\"|LABEL\b|MASK\b)",
    r"len\((model\.outputs\[0\]|network\.outputs\[0\]|network\.output|answer)\.?(shape|_shape)?\) (==|!=)",
    r"answers\.ndim",
)
# Files that had no task are told by what they have. Models of other packages are told by their last layers.
ASKING = {"export/old_schema.py", "tasks/interpret.py", "tasks/outputs.py"}


def asking_lines() -> list[str]:
    """-> file and line of each line that asks."""
    found = []
    for source in sorted(PACKAGE.rglob("*.py")):
        name = source.relative_to(PACKAGE).as_posix()
        if re.match(r"tasks/\w+/", name) or name in ASKING:
            continue
        lines = source.read_text(encoding="utf-8").splitlines()
        found += [f"{name}:{n}: {line}" for n, line in enumerate(lines, 1) if any(re.search(ask, line) for ask in ASKS)]
    return found


def test_no_code_outside_a_task_asks_what_the_task_is():
    assert asking_lines() == []


@pytest.mark.parametrize(
    ("file", "task", "names", "contract"),
    [
        ("classifier.keras", "classify", CLASSES, InputContract(16, 18)),
        ("classifier_saved_model", "classify", CLASSES, InputContract(16, 18)),
        ("classifier.tflite", "classify", CLASSES, InputContract(16, 18)),
        ("classifier.onnx", "classify", CLASSES, InputContract(16, 18)),
        ("classifier-int8.tflite", "classify", CLASSES, InputContract(16, 18)),
        ("segmenter.keras", "segment", GROUNDS, WholeImage()),
        ("segmenter.tflite", "segment", GROUNDS, WholeImage(24, 32)),
        ("segmenter.onnx", "segment", GROUNDS, WholeImage(24, 32)),
        ("segmenter-argmax.onnx", "segment", GROUNDS, WholeImage(24, 32)),
    ],
)
def test_older_files_say_their_task_and_give_the_answers_of_their_model(file, task, names, contract):
    predictor = keras_resnet.load(OLD / file)
    assert (predictor.task.name, predictor.class_names, predictor.contract) == (task, names, contract)
    assert predictor.classes == 3
    with np.load(OLD / "answers.npz") as answers:
        expected = answers[file.split("-")[0].split("_")[0].split(".")[0]]
    shape = (16, 16, 3) if task == "classify" else (24, 32, 3)
    pixels = synthetic_images(shape, count=len(expected), seed=7 if task == "classify" else 8)
    received = predictor.run(pixels)
    if "argmax" in file:
        assert list(received) == ["mask"]
        np.testing.assert_array_equal(received["mask"], expected.argmax(axis=-1))
    else:
        np.testing.assert_allclose(received["probabilities"], expected, atol=0.06 if "int8" in file else 2e-6)


def test_older_packed_sets_open(tmp_path):
    for folder, task, count in (("packed_classes", "classify", 6), ("packed_masks", "segment", 7)):
        source = open_source(OLD / folder, "train")
        assert (source.target.task, source.count) == (task, count)
        assert source.decode(0).pixels.shape[2] == 3
    shutil.copytree(OLD / "packed_classes", tmp_path / "newer")
    text = (tmp_path / "newer" / "dataset.json").read_text().replace('"version": 1', '"version": 3')
    (tmp_path / "newer" / "dataset.json").write_text(text)
    with pytest.raises(ArgumentError, match="was not written by this version"):
        open_source(tmp_path / "newer", "train")


def test_new_files_state_their_task(tmp_path, randomise):
    model = randomise(small_segmenter(3), seed=4)
    save_model(model, tmp_path / "model.keras", GROUNDS, WholeImage())
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        member = json.loads(archive.read(MEMBER))
    assert (member["schema_version"], member["task"]) == (2, "segment")
    made = export(model, tmp_path / "out", ["tflite", "onnx"], contract=WholeImage(24, 32), class_names=GROUNDS)
    for path in made.paths.values():
        description = read_description(path)
        assert (description["schema_version"], description["task"]) == (3, "segment")
    assert b"segmentation, 3 classes" in made.paths["tflite"].read_bytes()  # and no longer "image classification"
    write_masked(tmp_path / "data", 8, 12, 16)
    status, _, errors = in_process("data", "pack", tmp_path / "data", tmp_path / "packed", "--shards", 1)
    assert status == 0, errors
    packed = read_packed(tmp_path / "packed")
    assert (packed["version"], packed["task"]) == (2, "segment")


def test_an_older_run_is_resumed(tmp_path, monkeypatch):
    monkeypatch.setitem(models.BUILDERS, "resnet20", shallow_builder("resnet20"))
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "data", {"cat": 4, "dog": 4}, 12, 16)
    shutil.copytree(OLD / "run", tmp_path / "run")
    status, lines, errors = in_process("train", "--resume", "run")
    assert status == 0, errors
    assert lines[0].startswith("run/model.keras: epoch 1, validation top-1 50.00 %")
    assert [row.split(",")[0] for row in (tmp_path / "run" / "history.csv").read_text().split()] == ["epoch", "1", "2"]
    assert keras_resnet.load("run/model-last.keras").class_names == ["cat", "dog"]


@pytest.mark.parametrize(
    ("validation", "stated", "split"),
    [("its own", "", "test"), ("held out: a tenth", "", "val"), ("its own", 'validation_split = "val"', "val")],
)
def test_a_run_that_validated_on_test_images_still_does(validation, stated, split, tmp_path):
    """Earlier versions took test images for want of others, and did not say so in the recipe."""
    write_folder(tmp_path / "data" / "train", {"cat": 20, "dog": 20}, 12, 16)
    write_folder(tmp_path / "data" / "test", {"cat": 3, "dog": 2}, 12, 16)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.toml").write_text(f'data = "{tmp_path / "data"}"\n{stated}\n')
    (tmp_path / "run" / "data.json").write_text(json.dumps({"val": {"validation": validation}}))
    recipe = recipe_of_run(tmp_path / "run")
    assert recipe.validation_split == split
    counts = [open_source(recipe.data, part, reading=recipe).count for part in ("train", "val")]
    assert counts == ([40, 5] if split == "test" else [36, 4])


def test_data_of_another_task_is_refused_by_name(tmp_path, randomise):
    save_model(randomise(small_segmenter(2)), tmp_path / "s.keras", ["ant", "bee"], WholeImage())
    write_folder(tmp_path / "data", {"ant": 2, "bee": 2}, 20, 20)
    status, _, errors = in_process("evaluate", tmp_path / "s.keras", tmp_path / "data")
    message = (
        f"{tmp_path / 's.keras'} is for segmentation, but these images are for image classification. Give a network "
        "for image classification, or other images"
    )
    assert (status, errors[-1]) == (1, f"error: {tmp_path / 'data'}: {message}")


def test_export_names_the_classes_that_were_stated(tmp_path, randomise):
    model = randomise(small_classifier(size=16, classes=3), seed=8)
    state(model, class_names=("a", "b", "c"))
    made = export(model, tmp_path / "out", ["tflite"])
    assert keras_resnet.load(made.paths["tflite"]).class_names == ["a", "b", "c"]


def test_a_file_of_a_later_schema_is_refused(tmp_path):
    with zipfile.ZipFile(OLD / "classifier.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for member, message in (
        ({"schema_version": 3, "task": "classify"}, "schema version 3 is unknown; the newest known version is 2"),
        ({"schema_version": 2, "task": "paint"}, "'task' must be one of classify, segment"),
        ({"schema_version": 2, "task": ["classify"]}, "'task' must be one of classify, segment"),
    ):
        members[MEMBER] = json.dumps({**json.loads(members[MEMBER]), **member}).encode()
        with zipfile.ZipFile(tmp_path / "later.keras", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        with pytest.raises(keras_resnet.errors.WeightsError, match=message):
            keras_resnet.load(tmp_path / "later.keras")


def test_facts_are_stated_by_who_builds_a_network_and_kept_beside_it():
    classifier, features = keras_resnet.ResNet18(input_shape=(32, 32, 3)), keras_resnet.ResNet18(include_top=False)
    assert facts_of(classifier) == Facts(task="classify")
    assert facts_of(features) == Facts()
    assert facts_of(FCN("resnet18", 3)).task == "segment"
    state(classifier, class_names=("a", "b"))
    assert facts_of(classifier) == Facts(task="classify", class_names=("a", "b"))
    assert not hasattr(classifier, "class_names")


def test_a_model_of_another_package_is_looked_at_unless_its_task_is_stated():
    image = keras.Input((24, 32, 3))
    mapped = keras.Model(image, keras.layers.Conv2D(3, 1)(image))
    assert task_of(mapped).name == "segment"
    assert contract_of(mapped) == WholeImage(24, 32)
    assert task_of(small_classifier()).name == "classify"
    assert task_of(keras.Model(image, keras.layers.Conv2D(3, 1, strides=2)(image))) is None


def test_load_predicts_from_files_bytes_and_pixels(tmp_path, randomise):
    model = randomise(small_classifier(size=16, classes=3), seed=5)
    contract = InputContract(16, 18)
    save_model(model, tmp_path / "model.keras", CLASSES, contract)
    files = []
    for seed in range(5):
        pixels = synthetic_images((20 + seed, 30, 3), count=1, seed=seed)[0]
        files.append(tmp_path / f"{seed}.png")
        Image.fromarray(pixels).save(files[-1])
    expected = np.asarray(model(np.stack([load_image(file, contract) for file in files]), training=False))
    predictor = keras_resnet.load(tmp_path / "model.keras")
    pixels = np.asarray(Image.open(files[3]))
    for batch_size in (2, 16):
        answers = predictor.predict([*files[:2], files[2].read_bytes(), pixels, str(files[4])], batch_size)
        np.testing.assert_allclose(np.stack([answer["probabilities"] for answer in answers]), expected, atol=1e-6)
    with pytest.raises(keras_resnet.errors.ImageError, match=r"absent\.png"):
        predictor.predict([tmp_path / "absent.png"])
    with pytest.raises(ArgumentError, match=r"nothing\.keras: no such file or folder"):
        keras_resnet.load(tmp_path / "nothing.keras")
    with pytest.raises(ArgumentError, match=r"must be a \.keras file, a SavedModel, OpenVINO or web folder"):
        keras_resnet.load(tmp_path / "0.png")


def test_load_segments_images_of_their_own_sizes(tmp_path, randomise):
    model = randomise(small_segmenter(3), seed=6)
    save_model(model, tmp_path / "model.keras", GROUNDS, WholeImage())
    predictor = keras_resnet.load(tmp_path / "model.keras")
    images = [synthetic_images((height, 40, 3), count=1, seed=height)[0] for height in (24, 33)]
    for image, answer in zip(images, predictor.predict(images), strict=True):
        expected = np.asarray(model(image[None].astype("float32"), training=False))[0]
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    [bounded] = predictor.predict(images[1:], longest_side=32)
    [in_parts] = predictor.predict(images[1:], longest_side=32, window=(32, 32))
    np.testing.assert_array_equal(in_parts["probabilities"], bounded["probabilities"])  # one part holds it all
    assert bounded["probabilities"].shape == (33, 40, 3)


@pytest.mark.parametrize("has_validation", [False, True])
def test_a_split_is_one_thing_for_every_command(has_validation, tmp_path, randomise):
    """The command, the function and the gate of an export count the validation images, unless told otherwise."""
    model = randomise(small_classifier(size=16, classes=2), seed=7)
    save_model(model, tmp_path / "model.keras", ["ant", "bee"], InputContract(16, 18))
    counts = {"train": 16, "val": 2, "all": 18}
    if has_validation:
        counts = {"train": 12, "val": 4, "all": 16}
        write_folder(tmp_path / "data" / "val", {"ant": 2, "bee": 2}, 20, 20)
    write_folder(tmp_path / "data" / "train" if has_validation else tmp_path / "data", {"ant": 7, "bee": 11}, 20, 20)
    if has_validation:
        counts = {"train": 18, "val": 4, "all": 22}
    for split, count in counts.items():
        assert sum(source.count for source in open_split(tmp_path / "data", split)) == count
        status, lines, errors = in_process(
            "evaluate", tmp_path / "model.keras", tmp_path / "data", "--split", split, account=True
        )
        assert (status, lines[0].split()) == (0, ["images", str(count)]), errors
        held_out = any("--split all takes all images" in line for line in errors)
        assert held_out is (not has_validation and split == "val")
        network, contract = open_network(str(tmp_path / "model.keras"), None)
        made = export(
            network, tmp_path / split, ["tflite"], contract=contract, data=LabelledImages(tmp_path / "data", split)
        )
        assert made.accuracy["tflite"].images == count
        top1 = next(line for line in lines if line.startswith("top-1"))
        assert top1.split()[-1] == f"{made.accuracy['tflite'].figures['top1_percent']:.2f}"
    default = in_process("evaluate", tmp_path / "model.keras", tmp_path / "data")
    assert default[1][0].split() == ["images", str(counts["val"])]


def test_an_option_of_another_task_is_refused_by_name(tmp_path, randomise):
    save_model(
        randomise(small_classifier(size=16, classes=2)), tmp_path / "m.keras", ["ant", "bee"], InputContract(16, 18)
    )
    write_folder(tmp_path / "data", {"ant": 2, "bee": 2}, 20, 20)
    for command, refused, tasks in (
        (
            ("predict", tmp_path / "data", "--model", tmp_path / "m.keras", "--window", "32"),
            "--window",
            "segmentation or detection",
        ),
        (
            ("evaluate", tmp_path / "m.keras", tmp_path / "data", "--max-detections", "9"),
            "--max-detections",
            "detection",
        ),
        (
            ("export", "--model", tmp_path / "m.keras", "--out", tmp_path / "out", "--argmax"),
            "--argmax",
            "segmentation",
        ),
    ):
        status, _, errors = in_process(*command)
        message = f"error: {refused}: only for {tasks}. {tmp_path / 'm.keras'} is for image classification"
        assert (status, errors[-1]) == (1, message)
    status, _, errors = in_process("evaluate", tmp_path / "m.keras", tmp_path / "data", "--void-label", "3")
    message = (
        f"error: `void_labels` (--void-labels) is for segmentation, and the images of {tmp_path / 'data'} are for "
        "image classification. Leave it out. Received: void_labels=(3,)"
    )
    assert (status, errors[-1]) == (1, message)


def test_the_table_names_each_task_by_its_folder():
    for name, task in TASKS.items():
        assert task.name == name
        assert (PACKAGE / "tasks" / name / "__init__.py").is_file()
        assert (name in KINDS) is not task.built_here_alone
    for name, task in LEARNED.items():
        assert task.target.task == name
        assert task.score in task.titles
