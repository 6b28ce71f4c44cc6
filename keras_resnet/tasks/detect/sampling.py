"""Matches of candidates -> the random sample of candidates from which a step learns."""

from typing import Any, NamedTuple

from keras import ops

from keras_resnet.tasks.detect.matching import Matches


class Sampling(NamedTuple):
    """How many candidates of an image are drawn.

    With as many as there are candidates, and a share of 1, all are drawn.
    """

    number: int
    foreground_share: float  # largest share of candidates that show an object


# torchvision's (Ren et al. 2015, arXiv 1506.01497, section 3.1.3, and Girshick 2015, arXiv 1504.08083, section 2.3).
OF_ANCHORS = Sampling(256, 0.5)
SHARE_OF_PROPOSALS = 0.25


class Sample(NamedTuple):
    """K of the candidates of each image; candidates that show an object come first."""

    indices: Any  # int32 [N, K]
    foreground: Any  # bool [N, K]
    taught: Any  # bool [N, K]; False in the last places, where there are fewer candidates


def sample(matches: Matches, sampling: Sampling, draws: Any) -> Sample:
    """Matches of A candidates, random numbers in 0..1 `[N, A]` -> sample; background fills up what objects leave."""
    candidates = draws.shape[1]
    count = min(sampling.number, candidates)
    most = min(int(count * sampling.foreground_share), candidates)
    # The candidates of a kind with the highest numbers are drawn. The others have -1.
    foreground, first = ops.top_k(ops.where(matches.foreground, draws, -1.0), most)
    background, second = ops.top_k(ops.where(matches.background, draws, -1.0), count)
    # Each drawn object goes before all background.
    foreground = ops.where(foreground >= 0.0, foreground + 2.0, -1.0)
    highest, places = ops.top_k(ops.concatenate([foreground, background], axis=1), count)
    indices = ops.take_along_axis(ops.concatenate([first, second], axis=1), places, axis=1)
    return Sample(ops.cast(indices, "int32"), highest >= 2.0, highest >= 0.0)
