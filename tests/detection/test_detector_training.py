"""Training of detectors: the network of losses, runs, and what a recipe may say."""

import signal
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from boxed_pictures import Drawn, Rectangle, write_coco
from forked import Forked

from keras_resnet import detection
from keras_resnet.cli.main import main
from keras_resnet.data.reading import PLAIN
from keras_resnet.errors import ArgumentError
from keras_resnet.evaluating import evaluate
from keras_resnet.layer_names import IMAGE
from keras_resnet.loading import load
from keras_resnet.tasks.detect.loss_graph import OBJECTS, PARTS, with_losses
from keras_resnet.tasks.detect.sources import open_detected
from keras_resnet.tasks.detect.target import IGNORED, NOTHING, OBJECT, make_target
from keras_resnet.training import fit
from keras_resnet.training.checkpoint import checkpoints
from keras_resnet.training.recipe import Recipe, read_recipe

SIDE, ROWS = 64, 3
SMALL = {"channels": 16, "units": 32, "proposals": 40, "anchor_sizes": (8, 12, 16, 24, 32)}


def pictures(count: int) -> tuple[Drawn, ...]:
    """-> one wide "ant" and one tall "bee" each, at random places; the last picture has neither."""
    random = np.random.default_rng(0)
    drawn = []
    for index in range(count):
        left, top = random.integers(0, 20, 2), random.integers(0, 10, 2)
        ant = Rectangle("ant", (int(left[0]), int(top[0]), int(left[0]) + 28, int(top[0]) + 12))
        bee = Rectangle("bee", (int(left[1]) + 30, int(top[1]) + 20, int(left[1]) + 40, int(top[1]) + 48))
        drawn.append(Drawn(f"{index:02d}.png", 80, 80, (ant, bee) if index < count - 1 else ()))
    return tuple(drawn)


def tiny(data: Path, **keys) -> Recipe:
    own = {"task": "detect", "network": "resnet18", "size": SIDE, "crop": "fitted", "batch_size": 4, "epochs": 1}
    own |= {"minimum_scale": 1.0, "maximum_scale": 1.0, "warmup_epochs": 0.2, "learning_rate": 0.01, "xla": "off"}
    own |= {"pyramid_channels": 16, "box_units": 32, "proposals": 20, "box_samples": 16, "data": str(data)}
    return read_recipe(None, own | {"anchor_sizes": SMALL["anchor_sizes"]} | keys)


def made(masks: bool = True, version: str = "v1") -> keras.Model:
    keras.utils.set_random_seed(0)
    build = detection.MaskRCNN if masks else detection.FasterRCNN
    shape = {"input_shape": (SIDE, SIDE, 3), "min_size": SIDE, "max_size": SIDE}
    return build("resnet18", 2, version=version, **shape, **SMALL)


def batch(states=((OBJECT, OBJECT, NOTHING), (OBJECT, IGNORED, OBJECT))) -> dict[str, np.ndarray]:
    pixels = np.random.default_rng(1).integers(0, 256, (len(states), SIDE, SIDE, 3), np.uint8)
    boxes = np.array([[4, 8, 20, 36], [30, 30, 60, 50], [10, 40, 30, 60]], np.float32)
    targets = []
    for row in states:
        count = sum(state != NOTHING for state in row)
        instances = np.zeros((SIDE, SIDE), np.uint16)
        for index, (left, top, right, bottom) in enumerate(boxes[:count].astype(int)):
            instances[top:bottom, left:right] = index + 1
        ignored = np.array(row[:count]) == IGNORED
        targets.append(make_target((SIDE, SIDE), boxes[:count], np.arange(count) % 2, ignored, ROWS, instances))
    return {IMAGE: pixels, OBJECTS: np.stack(targets)}


@pytest.fixture(scope="module")
def detector(randomise) -> keras.Model:
    model = made()
    randomise(model)  # the last scale of a residual branch is zero at first, and hides its other weights
    return model


@pytest.fixture(scope="module")
def model(detector) -> keras.Model:
    return with_losses(detector, ROWS, has_masks=True, box_samples=32, seed=0)


def test_the_network_of_losses_is_flat_and_has_the_weights_of_the_detector(detector, model):
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert {v.path: id(v) for v in model.weights} == {v.path: id(v) for v in detector.weights}
    assert tuple(model.output) == PARTS
    assert len({layer.name for layer in model.layers}) == len(model.layers)


def test_each_image_has_the_loss_of_the_batch(model):
    for count in (1, 2):
        losses = model({name: x[:count] for name, x in batch().items()})
        for name, loss in losses.items():
            values = keras.ops.convert_to_numpy(loss)
            assert values.shape == (count,)
            assert np.isfinite(values).all()
            assert (values == values[0]).all()
            assert values[0] > 0, name


def test_every_weight_is_taught(model):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = sum(tf.reduce_mean(x) for x in model(batch(), training=True).values())
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, [v.value for v in model.trainable_variables]), strict=True
    ):
        assert gradient is not None, variable.path
        values = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(values).all(), variable.path
        assert values.any() or variable.path.endswith("bias"), variable.path  # ReLU may hide a bias in so few boxes


def test_another_draw_has_other_losses_and_the_state_of_the_generators_repeats_it(model):
    inputs = batch()
    generators = [v for v in model.variables if v.name == "seed_generator_state"]
    assert len(generators) == 2
    before = [keras.ops.convert_to_numpy(v).copy() for v in generators]
    first, second = ({k: float(x[0]) for k, x in model(inputs).items()} for _ in range(2))
    assert first != second
    for variable, value in zip(generators, before, strict=True):
        variable.assign(value)
    assert {k: float(x[0]) for k, x in model(inputs).items()} == first


def test_images_without_objects_teach_background_alone(model):
    losses = {k: float(x[0]) for k, x in model(batch(((NOTHING,) * 3, (NOTHING,) * 3))).items()}
    assert (losses["rpn_box"], losses["box"], losses["mask"]) == (0, 0, 0)
    assert losses["rpn_objectness"] > 0
    assert losses["box_class"] > 0


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_boxes_and_losses_are_float32_under_mixed_precision(version):
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = with_losses(made(version=version), ROWS, has_masks=True, box_samples=32, seed=0)
    finally:
        keras.config.set_dtype_policy(former)
    assert model.get_layer("stage2_block1_1_conv").compute_dtype == "bfloat16"
    losses = model(batch())
    assert {keras.backend.standardize_dtype(x.dtype) for x in losses.values()} == {"float32"}
    assert all(np.isfinite(keras.ops.convert_to_numpy(x)).all() for x in losses.values())
    for name in ("objects_taken_apart", "rpn_losses", "sampled_boxes", "box_losses", "mask_losses", "rpn_proposals"):
        assert model.get_layer(name).compute_dtype == "float32"


@pytest.mark.parametrize("masks", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_states_the_parts_of_the_loss_and_the_average_precision_of_evaluate(masks, tmp_path):
    data, prefixes = write_coco(tmp_path, pictures(13), masks), ("", "mask_") if masks else ("",)
    result = fit.train(tiny(data, detector="mask_rcnn" if masks else "faster_rcnn", box_samples=8), tmp_path / "run")
    (row,) = result.history
    parts = [row[f"{name}_loss"] for name in PARTS[: 5 if masks else 4]]
    assert row["loss"] == pytest.approx(sum(parts), rel=1e-5)
    assert min(parts) > 0
    expected = {f"val_{prefix}{name}_percent" for prefix in prefixes for name in ("ap", "ap50")}
    assert expected | {"val_ap_low_percent"} <= row.keys()
    assert not {"val_loss", "ap_percent"} & row.keys()
    assert str(result.best) == f"{row['val_ap_percent']:.2f} % ({row['val_ap_low_percent']:.2f} to " + (
        f"{row['val_ap_high_percent']:.2f})"
    )
    predictor = load(tmp_path / "run" / "model.keras")
    assert predictor.class_names == ["bee", "ant", "cow"]
    validation = open_detected(str(data), "val", None, PLAIN)
    figures = evaluate(predictor, [validation]).figures
    for name in expected:
        assert figures[name.removeprefix("val_")] == pytest.approx(row[name], abs=1e-6)


@pytest.mark.slow
def test_sixteen_pictures_are_learnt(tmp_path):
    """The losses fall to a fraction, and the network finds the rectangles and their classes again."""
    data = write_coco(tmp_path, pictures(18))
    keys = {"epochs": 20, "flip": False, "learning_rate": 0.03, "clip_norm": 10.0, "box_samples": 32}
    result = fit.train(tiny(data, **keys, pyramid_channels=32, box_units=64), tmp_path / "run")
    first, last = result.history[0], result.history[-1]
    assert (last["step"], first["step"]) == (80, 4)
    for part in ("rpn_objectness", "box_class"):
        assert last[f"{part}_loss"] < 0.5 * first[f"{part}_loss"], part
    assert last["rpn_box_loss"] < first["rpn_box_loss"]
    taught = open_detected(str(data), "train", None, PLAIN)
    assert taught.count == 16
    assert evaluate(load(tmp_path / "run" / "model-last.keras"), [taught]).figures["ap50_percent"] > 50


def weights_of(run: Path) -> list[np.ndarray]:
    return keras.saving.load_model(run / "model-last.keras", compile=False).get_weights()


def command(*arguments: object) -> None:
    import sys

    sys.argv = ["keras-resnet", *map(str, arguments)]
    main()


def newest_step(run: Path) -> int:
    found = checkpoints(run / "checkpoints")
    return int(found[0].stem.split("-")[1]) if found else -1


@pytest.mark.slow
def test_a_run_that_is_killed_comes_to_the_same_weights(tmp_path):
    data, recipe = write_coco(tmp_path, pictures(40)), tmp_path / "recipe.toml"
    recipe.write_text(tiny(data, epochs=2, checkpoint_steps=2, deterministic=True, minimum_scale=0.7).to_toml())
    run, whole = tmp_path / "run", tmp_path / "whole"
    uninterrupted = Forked(partial(command, "train", recipe, "--out", whole))
    process = Forked(partial(command, "train", recipe, "--out", run))
    process.wait_for(lambda: newest_step(run) >= 4)
    process.kill()
    assert process.finish()[0] == -signal.SIGKILL
    killed_at = newest_step(run)
    status, _, err = Forked(partial(command, "train", "--resume", run)).finish()
    assert status == 0, err
    assert f"continuing after step {killed_at}, " in err
    assert uninterrupted.finish()[0] == 0
    for ours, theirs in zip(weights_of(run), weights_of(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_masks_are_learnt_only_from_data_with_masks(tmp_path):
    data = write_coco(tmp_path, pictures(9))
    with pytest.raises(ArgumentError, match="detector = mask_rcnn needs objects with masks"):
        fit.train(tiny(data, detector="mask_rcnn"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_recipes_of_the_package_are_valid():
    small, coco = read_recipe("detect"), read_recipe("detect-coco")
    assert (small.task, small.network, small.size) == ("detect", "resnet18", 320)
    assert (coco.anchor_sizes, coco.proposals, coco.box_samples) == (detection.ANCHOR_SIZES, 1000, 512)
    assert (coco.batch_size, coco.learning_rate, coco.freeze) == (16, 0.02, "C2")
