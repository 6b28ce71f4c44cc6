"""The losses of detectors and their gradients against torchvision's, and what could be taught by mistake."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from backend_gradients import gradients
from keras import ops
from oracle.make_detection_loss_references import ANCHOR_SIZES, COUNTS, FRAME, PATH, PROPOSALS, SIZES, inputs

from keras_resnet.detection_layers.anchors import anchors_of
from keras_resnet.tasks.detect.losses import AnchorLosses, BoxesWithObjects, BoxLosses, MaskLoss, SampledBoxes
from keras_resnet.tasks.detect.matching import ANCHOR_RULE, PROPOSAL_RULE, Matches, match
from keras_resnet.tasks.detect.sampling import Sampling, sample
from keras_resnet.tasks.detect.target import IGNORED, NOTHING, OBJECT

ALL = Sampling(100_000, 1.0)  # as many as there are
GIVEN = inputs()
STATES = np.array([[OBJECT] * count + [NOTHING] * (len(GIVEN.boxes[0]) - count) for count in COUNTS], np.float32)


def as_array(x) -> np.ndarray:
    return ops.convert_to_numpy(x)


def losses_of(answers, images=slice(None), sampling=ALL, boxes=GIVEN.boxes, states=STATES, masks=None):
    """Answers in the order of `Inputs` -> the five losses by name, of some of the images."""
    logits, deltas, (box_logits, box_deltas, mask_logits) = answers[:5], answers[5:10], answers[10:]
    boxes, states, classes = (ops.convert_to_tensor(x[images]) for x in (boxes, states, GIVEN.classes))
    losses = {}
    anchors = AnchorLosses(ANCHOR_SIZES, FRAME, sampling, seed=0)
    losses["rpn_objectness"], losses["rpn_box"] = anchors([*logits, *deltas, boxes, states])
    proposals = ops.convert_to_tensor(GIVEN.proposals[images])
    scores = ops.ones(proposals.shape[:2])
    drawn = SampledBoxes(sampling, seed=0)([proposals, scores, boxes, classes, states])
    # The answer for a drawn box is that for the candidate with its corners; padding has no answer of its own.
    candidates = np.concatenate([GIVEN.proposals[images], as_array(boxes)], axis=1)
    distances = np.abs(as_array(drawn["boxes"])[:, :, None] - candidates[:, None]).sum(-1)
    assert distances.min(-1).max() == 0
    index = distances.argmin(-1)

    def of_drawn(x):
        rows = ops.reshape(x, (*x.shape[:2], -1))
        chosen = ops.take_along_axis(rows, ops.convert_to_tensor(index[..., None]), axis=1)
        return ops.reshape(chosen, (-1, *x.shape[2:]))

    found = (of_drawn(box_logits), of_drawn(box_deltas), *(drawn[k] for k in ("boxes", "labels", "targets", "taught")))
    losses["box_class"], losses["box"] = BoxLosses()(found)
    shown = [drawn[k] for k in ("boxes", "labels", "objects")]
    instances = ops.convert_to_tensor(GIVEN.instances[images])
    sizes = ops.convert_to_tensor(np.array(SIZES, np.float32)[images])
    losses["mask"] = MaskLoss()([of_drawn(mask_logits), *shown, instances, sizes])
    return losses


LEVELS = list(zip(ANCHOR_SIZES, GIVEN.logits, strict=True))
ANSWERS = [*GIVEN.logits, *GIVEN.deltas, GIVEN.box_logits, GIVEN.box_deltas, GIVEN.mask_logits]
NAMES = [*(f"{k}/{i}" for k in ("logits", "deltas") for i in range(5)), "box_logits", "box_deltas", "mask_logits"]


def test_losses_and_gradients_are_those_of_torchvision():
    expected = np.load(PATH)
    losses, found = gradients(losses_of, ANSWERS)
    for name, loss in losses.items():
        assert loss == pytest.approx(float(expected[name]), abs=0, rel=1e-5), name
    for name, gradient in zip(NAMES, found, strict=True):
        largest = np.abs(expected[name]).max()
        assert largest > 0
        np.testing.assert_allclose(gradient, expected[name], rtol=0, atol=1e-5 * largest, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_on_other_backends(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"the package {backend} is not installed")
    test = f"{__file__}::{test_losses_and_gradients_are_those_of_torchvision.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    job = subprocess.run(
        command, env={**os.environ, "KERAS_BACKEND": backend}, capture_output=True, text=True, timeout=300, check=False
    )
    assert job.returncode == 0, job.stdout[-3000:]
    assert "1 passed" in job.stdout


def test_the_answers_of_some_images_alone_are_those_of_torchvision():
    """One image, so that a mistake in the index of an image shows; the first has most of the losses' parts."""
    together, _ = gradients(losses_of, ANSWERS)
    alone = [gradients(lambda x, i=i: losses_of(x, slice(i, i + 1)), [x[i : i + 1] for x in ANSWERS]) for i in range(3)]
    counts = {"rpn_objectness": [], "box_class": []}
    for i in range(3):
        boxes, states = (ops.convert_to_tensor(x[i : i + 1]) for x in (GIVEN.boxes, STATES))
        anchors = np.concatenate([anchors_of(size, x.shape[1:3], FRAME) for size, x in LEVELS])
        found = match(ops.convert_to_tensor(anchors), boxes, states, ANCHOR_RULE)
        counts["rpn_objectness"].append(int(as_array(found.foreground).sum() + as_array(found.background).sum()))
        counts["box_class"].append(PROPOSALS + COUNTS[i])
    for name, per in counts.items():
        mean = np.average([losses[name] for losses, _ in alone], weights=per)
        assert together[name] == pytest.approx(mean, rel=1e-5)


def corners(*rows) -> np.ndarray:
    return np.array(rows, np.float32)


CANDIDATES = corners([0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 10, 2], [40, 40, 50, 50], [0, 0, 0, 0])


def matched(boxes, states, rule=ANCHOR_RULE, candidates=CANDIDATES):
    found = match(*(ops.convert_to_tensor(x) for x in (candidates, boxes[None], np.array([states], "float32"))), rule)
    return [as_array(x)[0].tolist() for x in found]


def test_padded_rows_match_nothing():
    objects, foreground, background = matched(corners([0, 0, 10, 10], [0, 0, 0, 0]), [OBJECT, NOTHING])
    assert objects[:3] == [0, 0, 0]
    assert foreground == [True, False, False, False, False]  # 0.6 is between the thresholds, 0.2 is below both
    assert background == [False, False, True, True, True]
    # A row keeps its numbers where its state is taken away.
    _, foreground, background = matched(corners([0, 0, 10, 10], [40, 40, 50, 50]), [NOTHING, NOTHING])
    assert not any(foreground)
    assert all(background)


def test_all_candidates_that_tie_for_the_best_show_an_object():
    twice = np.concatenate([CANDIDATES, CANDIDATES[3:4]])
    objects, foreground, background = matched(
        corners([0, 0, 9, 9], [38, 40, 44, 50]), [OBJECT, OBJECT], candidates=twice
    )
    assert foreground == [True, False, False, True, False, True]  # IoU 0.33 with the second object, the highest
    assert (objects[3], objects[5]) == (1, 1)
    assert not background[3]
    _, foreground, _ = matched(corners([38, 40, 44, 50]), [OBJECT], PROPOSAL_RULE)
    assert not any(foreground)


def test_an_object_that_no_candidate_overlaps_has_none():
    _, foreground, background = matched(corners([20, 20, 30, 30]), [OBJECT])
    assert not any(foreground)
    assert all(background)


def test_ignored_objects_are_neither_taught_nor_background():
    _, foreground, background = matched(corners([0, 0, 10, 10], [0, 0, 60, 60]), [OBJECT, IGNORED])
    assert foreground == [True, False, False, False, False]
    assert not any(background)
    _, foreground, background = matched(corners([0, 0, 10, 10]), [IGNORED])
    assert not any(foreground)
    assert background == [False, False, False, True, False]  # an empty candidate lies in everything


def test_samples_are_random_and_have_their_shares():
    foreground, background = np.zeros((2, 400), bool), np.zeros((2, 400), bool)
    foreground[0, 10:50], background[0, 50:350], foreground[1, 7], background[1, 100:104] = True, True, True, True
    matches = [ops.convert_to_tensor(x) for x in (np.zeros((2, 400), "int32"), foreground, background)]
    drawn = []
    for seed in (0, 1, 0):
        draws = np.random.RandomState(seed).uniform(size=(2, 400)).astype("float32")
        indices, shows, taught = map(
            as_array, sample(Matches(*matches), Sampling(64, 0.25), ops.convert_to_tensor(draws))
        )
        drawn.append(indices)
        assert shows.sum(1).tolist() == [16, 1]  # a quarter, or all there are
        assert taught.sum(1).tolist() == [64, 5]
        for i in range(2):
            assert foreground[i, indices[i][shows[i]]].all()
            assert background[i, indices[i][taught[i] & ~shows[i]]].all()
            assert len(set(indices[i][taught[i]])) == taught[i].sum()
    assert (drawn[0] == drawn[2]).all()
    assert (drawn[0] != drawn[1]).any()


def test_each_candidate_of_a_kind_is_as_likely_as_the_others():
    random = np.random.RandomState(0)
    matches = Matches(*(ops.convert_to_tensor(x) for x in (np.zeros((300, 12), "int32"), *_halves(300))))
    draws = ops.convert_to_tensor(random.uniform(size=(300, 12)).astype("float32"))
    indices, _, taught = map(as_array, sample(matches, Sampling(4, 0.5), draws))
    counts = np.bincount(indices[taught], minlength=12)
    assert counts.sum() == 1200
    assert (abs(counts - 100) < 4 * np.sqrt(100 * 2 / 3)).all()  # four standard deviations


def _halves(count: int) -> tuple[np.ndarray, np.ndarray]:
    first = np.tile(np.arange(12) < 6, (count, 1))
    return first, ~first


def test_class_0_is_an_object_and_background_is_output_0():
    drawn = _drawn(GIVEN.proposals, STATES)
    labels, objects = as_array(drawn["labels"]), as_array(drawn["objects"])
    for i, count in enumerate(COUNTS):
        shown = labels[i] > 0
        assert shown.any() == (count > 0)
        assert (labels[i][shown] == 1 + GIVEN.classes[i][objects[i][shown]]).all()
        assert shown.tolist() == sorted(shown, reverse=True)
    assert (labels == 1).any()


def test_proposals_that_are_padding_are_not_drawn():
    scores = np.ones((3, PROPOSALS), "float32")
    scores[:, 7:] = -1
    taught = as_array(_drawn(GIVEN.proposals, STATES, scores)["taught"])
    assert taught.sum(1).tolist() == [7 + count for count in COUNTS]


def _drawn(proposals, states, scores=None):
    scores = np.ones((3, PROPOSALS), "float32") if scores is None else scores
    given = (proposals, scores, GIVEN.boxes, GIVEN.classes, states)
    return SampledBoxes(ALL, seed=0)([ops.convert_to_tensor(x) for x in given])


@pytest.mark.parametrize("states", [NOTHING, IGNORED])
def test_a_batch_without_a_taught_object_has_finite_losses_and_gradients(states):
    boxes = GIVEN.boxes if states == IGNORED else np.zeros_like(GIVEN.boxes)
    nothing = np.where(STATES == OBJECT, states, NOTHING).astype("float32")
    losses, found = gradients(lambda x: losses_of(x, boxes=boxes, states=nothing), ANSWERS)
    assert all(np.isfinite(loss) for loss in losses.values())
    assert all(np.isfinite(gradient).all() for gradient in found)
    assert (losses["rpn_box"], losses["box"], losses["mask"]) == (0, 0, 0)
    assert losses["rpn_objectness"] > 0.1  # background is taught
    assert not any(gradient.any() for gradient in (*found[5:10], found[11], found[12]))


def test_the_mask_head_sees_boxes_with_objects_alone():
    drawn = _drawn(GIVEN.proposals, STATES)
    given = [drawn[k] for k in ("boxes", "labels", "objects")]
    boxes, labels, objects = map(as_array, BoxesWithObjects(30)(given))
    all_boxes, all_labels, all_objects = map(as_array, given)
    for i in range(2):
        number = (all_labels[i] > 0).sum()
        assert 1 < number < 30
        for j in range(30):
            assert (boxes[i, j] == all_boxes[i, j % number]).all()
            assert objects[i, j] == all_objects[i, j % number]
    assert (labels == all_labels[:, :30]).all()  # so that repeated boxes are not taught
