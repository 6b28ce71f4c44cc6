"""The typed recipe: defaults, files, overrides, and what each mistake is answered with.

The table of keys in docs/train.md is made of their declarations. After a change of one, write it anew with

    python tests/training/test_recipe.py --write
"""

import dataclasses
import re
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

from keras_resnet.data.augment import Augmentation
from keras_resnet.errors import ArgumentError
from keras_resnet.training.recipe import SETTINGS, Recipe, read_recipe
from keras_resnet.variants import InputContract

PAGE = Path(__file__).parents[2] / "docs" / "train.md"
COMMAND = "python tests/training/test_recipe.py --write"

# Every rule, with a value that breaks it and none of those before it.
BROKEN: list[tuple[str, Any, str]] = [
    *(
        (name, 0, "be at least 1")
        for name in ("size", "epochs", "batch_size", "accumulation_steps", "checkpoint_steps", "checkpoints_kept")
    ),
    *((name, -1, "not be negative") for name in ("classes", "head_epochs", "devices", "seed", "problem_limit")),
    *(
        (name, -0.5, "not be negative")
        for name in ("learning_rate", "weight_decay", "warmup_epochs", "clip_norm", "mixup_alpha")
    ),
    ("randaugment_operations", -1, "not be negative"),
    *(
        (name, value, "lie in 0..1")
        for name in (
            *("momentum", "cutmix_alpha", "erasing_probability", "label_smoothing", "colour_jitter"),
            "randaugment_magnitude",
        )
        for value in (-0.1, 1.1)
    ),
    ("network", "resnet19", "be one of resnet18, resnet34, resnet50, resnet101, resnet152, resnet20, resnet32, "),
    ("head_epochs", 90, "be fewer than the epochs"),
    *((name, value, "lie above 0 and not above 1") for name in ("level_decay", "minimum_area") for value in (0.0, 1.1)),
    ("seed", 2**32, "be less than 2^32"),
    ("size", 31, "be at least 32 for resnet50"),
    ("loss", "dice", "be one of cross_entropy, binary, focal for task = classify"),
    ("crop", "fitted", "be one of resized, padded, scaled, none for task = classify"),
    ("ema_momentum", 1.0, "lie in 0..1, without 1"),
    ("size", 10_001, "be at most 10000"),
    ("progressive_sizes", (128, 0), "hold sizes of at least 1"),
    ("progressive_sizes", (128, 10_001), "hold sizes of at most 10000"),
    ("void_labels", (11, 256), "hold labels in 0..255"),
    ("mask_values", (11, 256), "hold labels in 0..255"),
    ("minimum_scale", 0.0, "lie above 0 and not above maximum_scale"),
    ("minimum_scale", 2.5, "lie above 0 and not above maximum_scale"),
    ("weights_prefix", "encoder_q", "be left out where no weights are given"),
    ("revision", "v1", "be left out where no weights are given"),
    ("freeze", "C3", "be none unless weights are given"),
    ("task", "paint", "be one of classify, segment, tag, detect"),
    *((name, 0, "be at least 1") for name in ("pyramid_channels", "box_units", "proposals", "max_detections")),
    ("box_samples", 3, "be at least 4"),
    ("anchor_sizes", (8, 16, 32, 64), "hold 5 sizes of at least 1"),
    ("anchor_sizes", (0, 16, 32, 64, 128), "hold 5 sizes of at least 1"),
    *(
        (name, value, "be left out unless task = detect")
        for name, value in {
            "detector": "mask_rcnn",
            "detector_version": "v2",
            "anchor_sizes": (8, 16, 32, 64, 128),
            "pyramid_channels": 128,
            "box_units": 512,
            "proposals": 300,
            "max_detections": 200,
            "box_samples": 128,
        }.items()
    ),
    ("architecture", "unet", "be left out unless task = segment"),
    ("output_stride", 8, "be left out unless task = segment"),
    ("auxiliary_head", True, "be left out unless task = segment"),
    ("backbone_weights", "imagenet", "be left out unless task = segment or detect"),
    ("void_labels", (11,), "be left out unless task = segment"),
    ("mask_values", (11,), "be left out unless task = segment"),
    ("mask_suffix", "_mask", "be left out unless task = segment"),
]
# With task = segment.
BROKEN_FOR_MASKS: list[tuple[str, Any, str]] = [
    ("network", "resnet20", "be one of resnet18, resnet34, resnet50, resnet101, resnet152 for segmentation"),
    ("loss", "binary", "be one of cross_entropy, focal, dice for task = segment"),
    ("crop", "padded", "be one of resized, scaled, none for task = segment"),
    ("randaugment_operations", 1, "be left out for task = segment"),
    *(
        (name, 0.5, "be left out for task = segment")
        for name in ("erasing_probability", "mixup_alpha", "cutmix_alpha", "label_smoothing")
    ),
    ("output_stride", 32, "be one of 0, 8, 16 for architecture = deeplabv3plus"),
    ("auxiliary_head", True, "be false for architecture = deeplabv3plus"),
    ("backbone_weights", "imagenet", "be left out where `weights` are given"),
]
BROKEN_FOR_BOXES: list[tuple[str, Any, str]] = [
    ("network", "resnet20", "be one of resnet18, resnet34, resnet50, resnet101, resnet152 for detection"),
    ("loss", "binary", "be one of cross_entropy for task = detect"),
    ("crop", "resized", "be one of fitted, scaled for task = detect"),
    ("randaugment_operations", 1, "be left out for task = detect"),
    *(
        (name, 0.5, "be left out for task = detect")
        for name in ("erasing_probability", "mixup_alpha", "cutmix_alpha", "label_smoothing")
    ),
    ("progressive_sizes", (128,), "be left out for task = detect"),
    ("class_weights", "balanced", "be left out for task = detect"),
    ("backbone_weights", "imagenet", "be left out where `weights` are given"),
]
OTHERS: dict[str, dict[str, Any]] = {"segment": {"task": "segment"}, "detect": {"task": "detect", "crop": "fitted"}}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_defaults_are_those_of_the_classic_recipe_for_imagenet() -> None:
    recipe = read_recipe(None)
    assert recipe == Recipe()
    assert (recipe.network, recipe.epochs, recipe.batch_size, recipe.optimizer) == ("resnet50", 90, 256, "sgd")
    assert (recipe.learning_rate, recipe.momentum, recipe.weight_decay, recipe.warmup_epochs) == (0.1, 0.9, 1e-4, 5.0)
    assert (recipe.crop, recipe.minimum_area, recipe.flip) == ("resized", 0.08, True)
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.epochs = 1  # type: ignore[misc]


def test_a_file_and_keys_that_override_it(tmp_path: Path) -> None:
    text = '# comment\nepochs = 7\nlearning_rate = 1\nflip = false\noptimizer = "lamb"\nprogressive_sizes = [64, 96]\n'
    recipe = read_recipe(write(tmp_path / "r.toml", text), {"epochs": 8, "data": "d"})
    expected = {"epochs": 8, "learning_rate": 1.0, "flip": False, "optimizer": "lamb", "data": "d"}
    assert recipe == Recipe(**expected, progressive_sizes=(64, 96))
    assert type(recipe.learning_rate) is float


def test_the_file_that_a_recipe_writes_gives_the_same_recipe(tmp_path: Path) -> None:
    odd: dict[str, Any] = {"data": 'a "quoted" \\ path/\u00e9\n\U0001f600', "weights": "hf://a/b", "freeze": "C4"}
    odd |= {"flip": False, "weight_decay": 1e-5, "learning_rate": 0.1 + 0.2, "progressive_sizes": (128, 160)}
    for recipe in (Recipe(), Recipe(**odd, deterministic=True, cutmix_alpha=1.0, optimizer="adamw")):
        assert read_recipe(write(tmp_path / "r.toml", recipe.to_toml())) == recipe
        keys = [line.split(" = ")[0] for line in recipe.to_toml().splitlines()]
        assert keys == list(SETTINGS)


@pytest.mark.parametrize("source", ["file", "keys"])
def test_unknown_keys_are_named_together_with_the_nearest_that_there_are(source: str, tmp_path: Path) -> None:
    wrong = {"learning_rat": 0.1, "zzz": 1}
    path = write(tmp_path / "r.toml", "learning_rat = 0.1\nzzz = 1\n") if source == "file" else None
    with pytest.raises(ArgumentError) as raised:
        read_recipe(path, None if path else wrong)
    first, *lines = str(raised.value).splitlines()
    assert first == f"{path or 'the recipe'}: 2 unknown keys:"
    assert lines == ["  learning_rat (did you mean learning_rate?)", "  zzz"]


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("epochs = 1.5", "`epochs` must be an integer. Received: epochs = 1.5"),
        ("epochs = true", "`epochs` must be an integer. Received: epochs = True"),
        ('learning_rate = "0.1"', "`learning_rate` must be a number. Received: learning_rate = '0.1'"),
        ("learning_rate = false", "`learning_rate` must be a number. Received: learning_rate = False"),
        ("learning_rate = nan", "`learning_rate` must be finite. Received: learning_rate = nan"),
        ("clip_norm = inf", "`clip_norm` must be finite. Received: clip_norm = inf"),
        ("flip = 1", "`flip` must be true or false. Received: flip = 1"),
        ("data = 3", "`data` must be a text. Received: data = 3"),
        ("data = 2020-01-01", "`data` must be a text. Received: data = datetime.date(2020, 1, 1)"),
        (
            'optimizer = "rmsprop"',
            "`optimizer` must be one of sgd, lamb, adamw. Received: optimizer = 'rmsprop'",
        ),
        ("optimizer = []", "`optimizer` must be one of sgd, lamb, adamw. Received: optimizer = []"),
        (
            "progressive_sizes = 128",
            "`progressive_sizes` must be a list of integers. Received: progressive_sizes = 128",
        ),
        (
            "progressive_sizes = [128, 1.0]",
            "`progressive_sizes` must be a list of integers. Received: progressive_sizes = [128, 1.0]",
        ),
        (
            "progressive_sizes = [true]",
            "`progressive_sizes` must be a list of integers. Received: progressive_sizes = [True]",
        ),
    ],
)
def test_a_value_of_another_type_is_named(toml: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "r.toml", toml)
    with pytest.raises(ArgumentError) as raised:
        read_recipe(path)
    assert str(raised.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("name", "value", "rule", "others"),
    [
        *((*broken, {}) for broken in BROKEN),
        *(
            (name, value, rule, OTHERS[task] | ({"weights": "w"} if name == "backbone_weights" else {}))
            for task, broken in (("segment", BROKEN_FOR_MASKS), ("detect", BROKEN_FOR_BOXES))
            for name, value, rule in broken
        ),
    ],
)
def test_a_value_out_of_its_range_is_named_with_the_rule(
    name: str, value: Any, rule: str, others: dict[str, str]
) -> None:
    with pytest.raises(ArgumentError) as raised:
        read_recipe(None, others | {name: value})
    message = str(raised.value)
    assert message.startswith(f"the recipe's `{name}` must {rule}")
    assert message.endswith(f"Received: {name} = {value!r}")


def test_no_rule_is_without_a_value_that_breaks_it() -> None:
    rules = {
        (name, rule)
        for recipe in (Recipe(), Recipe(task="segment"), Recipe(**OTHERS["detect"]))
        for name, rule, _ in recipe._rules()
    }
    broken = {
        (name, next(r for n, r in rules if n == name and r.startswith(rule)))
        for name, _, rule in BROKEN + BROKEN_FOR_MASKS + BROKEN_FOR_BOXES
    }
    assert rules == broken


@pytest.mark.parametrize(
    ("architecture", "strides", "auxiliary"),
    [
        ("fcn", [0, 8], True),
        ("deeplabv3", [0, 8, 16], True),
        ("deeplabv3plus", [0, 8, 16], False),
        ("unet", [0, 32], False),
    ],
)
def test_what_an_architecture_can_have(architecture: str, strides: list[int], auxiliary: bool) -> None:
    def allowed(**keys: Any) -> bool:
        try:
            read_recipe(None, {"task": "segment", "architecture": architecture} | keys)
        except ArgumentError:
            return False
        return True

    assert [stride for stride in (0, 4, 8, 16, 32) if allowed(output_stride=stride)] == strides
    assert allowed(auxiliary_head=True) == auxiliary


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such recipe or file. keras-resnet recipes lists the recipes of the package"),
        (b"epochs = ", "the recipe is not a TOML file: Invalid value (at end of document)"),
        (b"epochs = 1\nepochs = 2\n", "the recipe is not a TOML file: Cannot overwrite a value"),
        (b'data = "\xff"', "the recipe is not a TOML file: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_file_that_is_no_recipe_is_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArgumentError) as raised:
        read_recipe(path)
    assert str(raised.value).startswith(f"{path}: {message}")


# A batch for a small set.


@pytest.mark.parametrize(
    ("keys", "images", "devices", "fitted"),
    [
        ({}, 36, 1, (8, 0.1 / 32)),
        ({}, 255, 1, (32, 0.1 / 8)),
        ({}, 256, 1, (256, 0.1)),
        ({}, 3, 1, (2, 0.1 / 128)),
        ({}, 36, 64, (64, 0.1 / 4)),  # a batch is a multiple of the devices
        ({"optimizer": "adamw"}, 36, 1, (8, 0.1)),
        ({"learning_rate": 0.3}, 36, 1, (8, 0.3)),
        ({"batch_size": 256}, 36, 1, (256, 0.1)),
    ],
)
def test_a_batch_that_was_not_stated_is_fitted_to_a_small_set(
    keys: dict[str, Any], images: int, devices: int, fitted: tuple[int, float]
) -> None:
    recipe = read_recipe(None, keys)
    assert recipe.fitted(images, devices) == dataclasses.replace(recipe, batch_size=fitted[0], learning_rate=fitted[1])


def test_a_recipe_of_the_package_states_no_batch_and_a_file_of_the_user_does(tmp_path: Path) -> None:
    assert read_recipe("fine-tune").fitted(20, 1).batch_size == 4
    assert read_recipe("fine-tune", {"batch_size": 32}).fitted(20, 1).batch_size == 32
    (tmp_path / "own.toml").write_text("batch_size = 32")
    assert read_recipe(tmp_path / "own.toml").fitted(20, 1).batch_size == 32
    (tmp_path / "own.toml").write_text("epochs = 7")
    assert read_recipe(tmp_path / "own.toml").fitted(20, 1).batch_size == 4


# The keys as they are shown.


def test_the_keys_are_shown_in_an_order_that_has_augmentation_after_the_size_of_the_images() -> None:
    names = list(SETTINGS)
    augmentation = [field.name for field in dataclasses.fields(Augmentation)]
    start = names.index("crop")
    assert names[:2] == ["task", "data"]
    assert names[start - 3 : start] == ["size", "progressive_sizes", "interpolation"]
    assert names[start : start + len(augmentation)] == augmentation
    assert names[start + len(augmentation)] == "class_weights"
    assert names[-1] == "void_labels"


def test_every_help_text_is_a_sentence_that_names_the_choices() -> None:
    for setting in SETTINGS.values():
        assert re.fullmatch(r"[A-Z].*\.", setting.help), setting.name
        assert "|" not in setting.help
        choices = [choice for choice in typing.get_args(setting.kind) if isinstance(choice, str)]
        assert [choice for choice in choices if choice not in setting.help] == []
        assert all(set(of_task) <= set(choices) for of_task in setting.choices.values())


def table_of_keys() -> str:
    """-> the rows of the table in docs/train.md."""
    lines = (line.split(" = ", 1) for line in Recipe().to_toml().splitlines())
    return "".join(f"| `{name}` | `{default}` | {SETTINGS[name].help} |\n" for name, default in lines)


def test_the_page_has_the_table_of_keys() -> None:
    assert rows_of_page()[0] == table_of_keys(), f"if the change is meant, write the table anew with: {COMMAND}"


def rows_of_page() -> re.Match[str]:
    match = re.search(
        r"(?<=^\| key \| default \| is \|\n\| --- \| --- \| --- \|\n)(?:\|.*\|\n)+", PAGE.read_text("utf-8"), re.M
    )
    assert match is not None
    return match


def write_table() -> None:
    rows, page = rows_of_page(), PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page[: rows.start()] + table_of_keys() + page[rows.end() :], encoding="utf-8")
    print(PAGE)


# What follows from the keys.


@pytest.mark.parametrize(
    ("epochs", "progressive", "sizes"),
    [
        (4, (), [224] * 4),
        (6, (128, 160), [128, 128, 160, 160, 224, 224]),
        (5, (128,), [128, 128, 128, 224, 224]),
        (2, (96, 128, 160), [96, 160]),  # fewer epochs than sizes
        (1, (128,), [128]),
    ],
)
def test_each_of_the_progressive_sizes_gets_an_equal_share_of_the_epochs(
    epochs: int, progressive: tuple[int, ...], sizes: list[int]
) -> None:
    recipe = Recipe(epochs=epochs, progressive_sizes=progressive, warmup_epochs=0.0)
    assert [recipe.size_of_epoch(epoch) for epoch in range(epochs)] == sizes


@pytest.mark.parametrize(
    ("keys", "contract"),
    [
        ({}, InputContract(224, 256, "bilinear")),
        ({"size": 160, "interpolation": "bicubic"}, InputContract(160, 183, "bicubic")),
        ({"size": 32, "crop": "padded"}, InputContract(32, 32, "bilinear")),
        ({"size": 48, "crop": "none", "interpolation": "bicubic"}, InputContract(48, 48, "bicubic")),
    ],
)
def test_the_images_of_validation_are_cropped_as_those_of_training_let_expect(
    keys: dict[str, Any], contract: InputContract
) -> None:
    assert Recipe(**keys).contract == contract


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(f"usage: {COMMAND}")
    write_table()
