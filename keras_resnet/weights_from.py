"""A source of weights together with how its file is read, for `weights=` and `backbone_weights=` of every network."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class WeightsFrom(os.PathLike[str]):
    """Source of weights, as `weights=` and `backbone_weights=` take it, and how its file is read.

    Args:
        source: Tag, "hf://owner/repository", or path.
        prefix: Names one of several networks in a file: the beginning of its tensors' names, or parts of it that no
            other has: "encoder_k" of "state_dict.module.encoder_k.". Default: the one whose names fit the network best,
            and of a network and its moving average the network itself.
        fresh_head: Whether a file without a head leaves the model's head random, with a warning; otherwise it is an
            error.
        revision: Commit, tag or branch of the repository on the Hub. Default: its branch `main`.
        batch_norm_epsilon: Epsilon with which the file's BatchNorm layers compute. Default: 1e-5, and for the files of
            torchvision's detectors, known by their hashes, their own, which is 0 for version "v1".
    """

    source: str | os.PathLike[str]
    prefix: str = ""
    fresh_head: bool = False
    revision: str = ""
    batch_norm_epsilon: float | None = None

    def __fspath__(self) -> str:
        return os.fspath(self.source)

    def __str__(self) -> str:
        notes = [self.prefix, f"revision {self.revision}" if self.revision else ""]
        return " ".join([str(self.source), *(f"({note})" for note in notes if note)])
