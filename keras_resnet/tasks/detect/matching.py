"""Candidate boxes and the objects of their images -> which candidates show an object, and which show background."""

from typing import Any, NamedTuple

from keras import ops

from keras_resnet import boxes as box
from keras_resnet.tasks.detect.target import IGNORED, OBJECT


class Rule(NamedTuple):
    """The rule by which candidates are matched to objects."""

    foreground_iou: float  # a candidate with at least this IoU shows the object
    background_iou: float  # a candidate whose IoU with every object is lower shows background
    every_object: bool  # whether the candidates with an object's highest IoU show it, however low this is


# torchvision's thresholds (Ren et al. 2015, arXiv 1506.01497, section 3.1.2, and Girshick 2015, arXiv 1504.08083).
ANCHOR_RULE = Rule(0.7, 0.3, every_object=True)
PROPOSAL_RULE = Rule(0.5, 0.5, every_object=False)


class Matches(NamedTuple):
    """What A candidates of each image show; a candidate that is neither foreground nor background is not taught."""

    objects: Any  # int32 [N, A]: row of the object with the highest IoU
    foreground: Any  # bool [N, A]
    background: Any  # bool [N, A]


def match(candidates: Any, boxes: Any, states: Any, rule: Rule) -> Matches:
    """Candidates `[A, 4]` or `[N, A, 4]`, boxes `[N, G, 4]` and states `[N, G]` of the objects -> matches.

    Rows without an object match nothing. A candidate of which an ignored object covers so large a share that it would
    not be background if this share were its IoU shows no background.

    The result is torchvision's, with one exception: an object that no candidate overlaps has no candidates, and in
    torchvision it has all candidates that do not overlap it.
    """
    is_object, is_ignored = (states[:, None, :] == state for state in (OBJECT, IGNORED))
    # Rows of zeros have no IoU with an empty candidate: 0 / 0.
    overlaps = ops.where(is_object, box.iou(candidates, boxes), 0.0)  # [N, A, G]
    highest = ops.max(overlaps, axis=-1)
    foreground = highest >= rule.foreground_iou
    if rule.every_object:
        highest_of_object = ops.max(overlaps, axis=1, keepdims=True)
        is_best = ops.logical_and(overlaps == highest_of_object, highest_of_object > 0.0)
        foreground = ops.logical_or(foreground, ops.any(is_best, axis=-1))
    least = rule.background_iou * box.areas(candidates)[..., None]
    covers = ops.logical_and(box.intersection(candidates, boxes) >= least, is_ignored)
    shows_something = ops.logical_or(foreground, ops.any(covers, axis=-1))
    background = ops.logical_and(highest < rule.background_iou, ops.logical_not(shows_something))
    return Matches(ops.cast(ops.argmax(overlaps, axis=-1), "int32"), foreground, background)
