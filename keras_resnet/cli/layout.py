"""`keras-resnet layout`: artifact -> the folder and the configuration that another server reads."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from keras_resnet.cli.network import TrustOption
from keras_resnet.errors import ArgumentError
from keras_resnet.layouts.table import LAYOUTS
from keras_resnet.printable import printable


def layout(
    server: Annotated[
        str,
        typer.Argument(
            help="Server: " + ", ".join(f"{row.name} ({row.title})" for row in LAYOUTS.values()) + ".",
            show_default=False,
        ),
    ],
    artifact: Annotated[
        str,
        typer.Argument(
            help="Artifact, as PATH or NAME=PATH. Without a name, the name of the file or folder is taken.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the models of the server, which may hold some already.")],
    version: Annotated[
        int, typer.Option(min=1, max=10**18 - 1, help="Number of the version. Servers answer with the largest one.")
    ] = 1,
    storage_uri: Annotated[
        str | None,
        typer.Option(help="Address to which you copy the folder of --out, such as s3://bucket/models. For kserve."),
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Write an exported file as another server reads it: folders of versions, and configuration.

    Nothing is replaced, except for the lists of all models in the folder. docs/layouts.md shows what each server gets.
    """
    from keras_resnet.layouts.writing import lay_out
    from keras_resnet.serve.named_files import served_files

    if server not in LAYOUTS:
        raise ArgumentError(f"the server must be one of {', '.join(LAYOUTS)}. Received: {server}")
    files = served_files([artifact])
    if len(files) > 1:
        versions = ", ".join(str(file.version) for file in files)
        raise ArgumentError(f"layout takes one artifact. Received: {artifact}, a folder of the versions {versions}")
    row = LAYOUTS[server]
    written = lay_out(row, files[0], out, version, storage_uri, trust)
    for path in written.paths:
        print(printable(f"written: {path}"))
    for note in written.notes:
        print(printable(f"note: {note}"))
    if row.start is not None:
        print(printable("to start it: " + row.start.format(out=shlex.quote(str(out.absolute())))))
