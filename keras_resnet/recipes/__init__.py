"""The recipes that come with the package: name -> TOML file, in this folder."""

import difflib
import os
from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """-> names of the recipes, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def file_of(recipe: str | os.PathLike[str]) -> Path:
    """Name of a recipe, or path of a TOML file -> the file. A name comes before a file that is called like it."""
    return FOLDER / f"{recipe}.toml" if recipe in names() else Path(recipe)


def purpose(name: str) -> str:
    """Name -> the sentence at the top of the recipe."""
    return file_of(name).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def nearest(recipe: str | os.PathLike[str]) -> str:
    """Path without a file -> sentences that lead to a recipe: the nearest name, if one is near, and the command."""
    near = difflib.get_close_matches(Path(recipe).stem, names(), n=1, cutoff=0.7)
    return (f"Did you mean {near[0]}? " if near else "") + "keras-resnet recipes lists the recipes of the package"
