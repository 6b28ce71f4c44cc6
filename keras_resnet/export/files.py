"""Files that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from keras_resnet.export.formats import UNVERIFIED

REPLACED = ".replaced"  # suffix of a folder on its way out


def replace(new: Path, path: Path) -> None:
    """Gives `new` the name `path`; a folder in the way is moved aside first, since only a file can be replaced."""
    aside = path.with_name(path.name + REPLACED)
    remove(aside)
    if path.is_dir():
        os.replace(path, aside)
    os.replace(new, path)
    remove(aside)


def recover(path: Path) -> None:
    """Takes back a folder that a run moved aside and was killed before it could put another in its place."""
    aside = path.with_name(path.name + REPLACED)
    if aside.exists() and not path.exists():
        os.replace(aside, path)


def clean(folder: Path, names: Iterable[str]) -> None:
    """Removes what a killed run left of the artifacts of these names."""
    for name in names:
        for left in (name + UNVERIFIED, name + REPLACED, f".{name}.scratch"):
            remove(folder / left)


def remove(path: Path) -> None:
    """Removes a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
