"""Writes `references.npz`: what the PyTorch forward makes of seeded weights and pixels. Needs torch.

python tests/oracle/make_references.py
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from oracle.seeded import ARCHITECTURES, CIFAR_BLOCKS_PER_STAGE, pixels, state_dict

REFERENCES = Path(__file__).with_name("references.npz")
COMMAND = "python tests/oracle/make_references.py"
INPUT_SHAPE = (2, 64, 96, 3)
CIFAR_INPUT_SHAPE = (2, 20, 27, 3)  # 27 is odd, and so is the half of it
CASES = (
    [(network, 32) for network in ARCHITECTURES]
    + [(network, output_stride) for network in ("resnet18", "resnet50") for output_stride in (16, 8)]
    + [(network, 4) for network in CIFAR_BLOCKS_PER_STAGE]
)


def input_shape(network: str) -> tuple[int, int, int, int]:
    """Name of a network -> shape of the pixels that its references were made from."""
    return CIFAR_INPUT_SHAPE if network in CIFAR_BLOCKS_PER_STAGE else INPUT_SHAPE


def digest(results: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Logits and levels -> `{"logits", "C2/mean": [N, C], "C2/first_channels": [N, H, W, 4], ...}`, small to store.

    The mean sees every channel, and the first channels every position.
    """
    stored = {"logits": results["logits"]}
    for level in sorted(results.keys() - {"logits"}):
        stored[f"{level}/mean"] = results[level].mean((1, 2))
        stored[f"{level}/first_channels"] = results[level][..., :4]
    return stored


def reference(network: str, output_stride: int) -> dict[str, np.ndarray]:
    """One case -> what is stored for it."""
    from oracle.pytorch_forward import forward

    return digest(forward(state_dict(network), pixels(*input_shape(network)), output_stride))


def main() -> None:
    arrays: dict[str, Any] = {
        f"{network}/{output_stride}/{key}": value
        for network, output_stride in CASES
        for key, value in reference(network, output_stride).items()
    }
    np.savez_compressed(REFERENCES, **arrays)
    print(f"{REFERENCES}: {len(arrays)} arrays, {REFERENCES.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
