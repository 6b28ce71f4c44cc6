"""`keras-resnet recipes`: the recipes that come with the package, and their text."""

from pathlib import Path
from typing import Annotated

import typer

from keras_resnet.errors import ArgumentError
from keras_resnet.printable import printable
from keras_resnet.recipes import file_of, names, nearest, purpose
from keras_resnet.whole_files import write_whole

SUFFIX = ".toml"


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="Recipe to print. Without a name, all recipes are listed.", show_default=False)
    ] = None,
    copy: Annotated[
        Path | None, typer.Option(help="New .toml file, to which the recipe is copied so that you can edit it.")
    ] = None,
) -> None:
    """List the recipes that come with the package, one line for each, or print or copy one of them.

    `train` takes the name of a recipe, or the path of a copy.
    """
    if name is None:
        if copy is not None:
            raise ArgumentError(f"--copy needs the name of a recipe before it. Received: --copy {copy}")
        width = max(map(len, names()))
        for each in names():
            print(f"{each:{width}}  {purpose(each)}")
        return
    if name not in names():
        raise ArgumentError(f"there is no recipe of this name: {name}. {nearest(name)}")
    text = file_of(name).read_text(encoding="utf-8")
    if copy is None:
        print(text, end="")
        return
    if copy.suffix != SUFFIX:
        raise ArgumentError(f"--copy must be a file that ends with {SUFFIX}. Received: {copy}")
    if copy.exists():
        raise ArgumentError(f"--copy must be a new file. Received: {copy}, which exists")
    copy.parent.mkdir(parents=True, exist_ok=True)
    write_whole(copy, text.encode())
    print(printable(f"{copy}: a copy of the recipe {name}; give `keras-resnet train` this file instead of the name"))
