"""Losses of masks against NumPy and PyTorch, on all backends; the poly schedule against its formula."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_resnet.evaluation.segmentation_metric import SegmentationAccuracy
from keras_resnet.tasks.segment.loss import AUXILIARY_WEIGHT, MaskLoss, for_outputs, loss_weights
from keras_resnet.training.optimizer import learning_rate_schedule
from keras_resnet.training.recipe import Recipe

WEIGHTS = (0.5, 1.0, 3.0, 2.0, 0.25)
KINDS = ("cross_entropy", "focal", "dice")


def data(batch=3, void_share=0.4, seed=1):
    """-> masks uint8 `[N, 6, 9]`, logits `[N, 6, 9, 5]`; no mask has class 2, and each its own share of void."""
    draw = np.random.default_rng(seed)
    masks = draw.choice([0, 1, 3, 4], (batch, 6, 9)).astype("uint8")
    masks[draw.random(masks.shape) < void_share * np.linspace(0, 2, batch)[:, None, None]] = 255
    return masks, draw.normal(0, 3, (*masks.shape, 5)).astype("float32")


def by_numpy(kind, masks, logits, weights):
    logits = logits.astype("float64").reshape(-1, 5)[masks.ravel() != 255]
    labels = masks[masks != 255].astype(int)
    weights = np.ones(5) if weights is None else np.asarray(weights)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    of_true = shares[np.arange(len(labels)), labels]
    if kind != "dice":
        losses = -np.log(of_true) * ((1 - of_true) ** 2 if kind == "focal" else 1)
        return (losses * weights[labels]).sum() / weights[labels].sum()
    present = [label for label in range(5) if (labels == label).any()]
    dice = [
        2 * shares[labels == label, label].sum() / ((labels == label).sum() + shares[:, label].sum())
        for label in present
    ]
    return 1 - np.dot(dice, weights[present]) / weights[present].sum()


def losses():
    """-> name of each case -> loss."""
    found = {}
    for kind in KINDS:
        for weights in (None, WEIGHTS):
            for batch in (3, 1):
                loss = MaskLoss(kind, weights)
                found[kind, weights is not None, batch] = float(loss(*data(batch)))
    return found


def test_losses_are_those_of_numpy_over_pixels_that_are_not_void():
    found = losses()
    for (kind, weighted, batch), loss in found.items():
        expected = by_numpy(kind, *data(batch), WEIGHTS if weighted else None)
        assert loss == pytest.approx(expected, rel=2e-6), (kind, weighted, batch)
    assert len({round(loss, 4) for loss in found.values()}) == len(found)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_and_its_gradient_are_those_of_pytorch(weights):
    torch = pytest.importorskip("torch")
    tf = pytest.importorskip("tensorflow")
    masks, logits = data()
    expected = torch.tensor(logits, requires_grad=True)
    torch.nn.functional.cross_entropy(
        expected.permute(0, 3, 1, 2),
        torch.tensor(masks.astype("int64")),
        weight=None if weights is None else torch.tensor(weights),
        ignore_index=255,
    ).backward()
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = MaskLoss("cross_entropy", weights)(masks, variable)
    gradient = tape.gradient(loss, variable).numpy()
    wanted = expected.grad.numpy()
    np.testing.assert_allclose(gradient, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())
    assert (gradient[masks == 255] == 0).all()


def figures():
    """-> mean IoU and pixel accuracy in percent of three batches, as `evaluate` accumulates them."""
    model = keras.Sequential([keras.layers.Input((None, None, 5)), keras.layers.Identity()])
    model.compile(loss=MaskLoss("cross_entropy"), metrics=[SegmentationAccuracy(5)])
    batches = (data(batch)[::-1] for batch in (1, 3, 2))
    found = model.evaluate(batches, verbose=0, return_dict=True)
    return [float(found[name]) for name in ("mean_iou_percent", "pixel_accuracy_percent")]


JOB = """
import json, sys
sys.path.insert(0, {tests!r})
from test_mask_objective import figures, keras, losses
print(json.dumps([keras.backend.backend(), *losses().values(), *figures()]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_losses_and_figures_are_the_same_on_other_backends(backend):
    pytest.importorskip(backend)
    environment = os.environ | {"KERAS_BACKEND": backend}
    code = JOB.format(tests=str(Path(__file__).parent))
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    name, *found = json.loads(run.stdout.splitlines()[-1])
    assert name == backend
    assert found == pytest.approx([*losses().values(), *figures()], rel=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_pixel_to_count_the_loss_is_zero(kind):
    masks, logits = data()
    assert float(MaskLoss(kind, WEIGHTS)(np.full_like(masks, 255), logits)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_sixteen_bits_are_computed_with_thirty_two(kind):
    masks, logits = data()
    logits = logits.astype("float16")
    loss = MaskLoss(kind)(masks, logits)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    assert float(loss) == pytest.approx(by_numpy(kind, masks, logits, None), rel=2e-6)


def test_a_network_with_an_auxiliary_head_is_fitted_on_both():
    """Loss is that of the main output and half of the other's; figures are the main output's."""
    masks, logits = data()
    image = keras.Input((None, None, 5))
    outputs = {"logits": keras.layers.Identity()(image), "auxiliary": keras.layers.Rescaling(0.1)(image)}
    model, loss = keras.Model(image, outputs), MaskLoss("cross_entropy")
    model.compile(
        "sgd",
        for_outputs(loss, [*outputs]),
        loss_weights=loss_weights([*outputs]),
        metrics={"logits": [SegmentationAccuracy(5)]},
    )
    figures = model.test_on_batch(logits, for_outputs(masks, [*outputs]), return_dict=True)
    expected = by_numpy("cross_entropy", masks, logits, None)
    expected += AUXILIARY_WEIGHT * by_numpy("cross_entropy", masks, logits * 0.1, None)
    assert figures["loss"] == pytest.approx(expected, rel=1e-5)
    counted = masks != 255
    accuracy = 100 * (logits.argmax(-1) == masks)[counted].mean()
    assert figures["pixel_accuracy_percent"] == pytest.approx(accuracy, rel=1e-6)
    assert for_outputs(loss, ["logits"]) is loss


@pytest.mark.parametrize(("epochs", "updates", "per_epoch", "warmup"), [(5.0, 40, 3.0, 15), (0.0, 30, 3.0, 0)])
def test_poly_follows_its_formula(epochs, updates, per_epoch, warmup):
    recipe = Recipe(schedule="poly", learning_rate=0.4, warmup_epochs=epochs)
    schedule = learning_rate_schedule(recipe, updates, per_epoch)
    steps = np.arange(updates + 1)
    rising = 0.4 * (0.1 + 0.9 * steps / max(warmup, 1))
    falling = 0.4 * np.minimum(1 - (steps - warmup) / (updates - warmup), 1) ** 0.9
    expected = np.where(steps < warmup, rising, falling)
    np.testing.assert_allclose([float(schedule(int(step))) for step in steps], expected, rtol=2e-6, atol=1e-9)
    assert float(schedule(warmup)) == pytest.approx(0.4)
    again = type(schedule).from_config(schedule.get_config())
    assert float(again(7)) == float(schedule(7))
