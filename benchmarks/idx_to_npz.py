"""Folder of IDX files, as MNIST and Fashion-MNIST come in -> NumPy archive that `keras-resnet train --data` takes.

python benchmarks/idx_to_npz.py /usr/share/datasets/fashion-mnist fashion-mnist.npz
"""

import gzip
import os
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

FILES = {
    "x_train": "train-images-idx3-ubyte.gz",
    "y_train": "train-labels-idx1-ubyte.gz",
    "x_test": "t10k-images-idx3-ubyte.gz",
    "y_test": "t10k-labels-idx1-ubyte.gz",
}


def read_idx(path: Path) -> np.ndarray:
    """Gzipped IDX file of bytes -> uint8 array, of the shape that its header states."""
    content = gzip.decompress(path.read_bytes())
    if content[:3] != b"\0\0\x08":  # two zeros, the type "unsigned byte", the number of dimensions
        raise typer.BadParameter(f"{path}: not an IDX file of bytes")
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", dimensions, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def main(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    out: Annotated[Path, typer.Argument(help="NumPy archive to write.")],
) -> None:
    """Writes x_train [N, 28, 28], y_train [N], x_test and y_test."""
    arrays = {name: read_idx(folder / file) for name, file in FILES.items()}
    partial = out.with_name(f".{out.stem}.partial.npz")
    np.savez_compressed(partial, allow_pickle=False, **arrays)
    os.replace(partial, out)


if __name__ == "__main__":
    typer.run(main)
