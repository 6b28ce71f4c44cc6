"""`keras-resnet list`: the table of variants, and the weights published for each."""

from typing import Any

from keras_resnet.variants import CIFAR_FILES, DEFAULT_TAG, VARIANTS, Variant

WIDTH = 80  # characters


def list_networks() -> None:
    """List the networks and the weights published for each."""
    from rich.console import Console

    # A fixed width, which the tables fit: on a pipe there is none to ask for, and no column may be cut off.
    console = Console(width=WIDTH, highlight=False)
    console.print(_imagenet_table())
    console.print(
        f"""
weights="imagenet" means {DEFAULT_TAG}. Weights are fetched once from the
Hugging Face Hub, repository timm/<network>.<weights>, and kept in its cache.
top-1: ImageNet validation, single centre crop, as published: torchvision's own
figures for tv and tv2, timm's results at 224 for a1, a2 and a3.
params: trainable, 1000 classes. GMACs: of one image at 224x224.
"""
    )
    console.print(_cifar_table())
    console.print(
        f"""
For images of 32x32, which are neither resized nor cropped. The files are those
of {CIFAR_FILES};
give one by its path. top-1: CIFAR-10 test images, as published there.
params: trainable, 10 classes. GMACs: of one image at 32x32."""
    )


def _table(*last_columns: tuple[str, str]) -> Any:
    """Headings and justifications -> empty table, the columns that say how large a network is before them."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    columns: Any = (("network\n", "left"), ("params\nM", "right"), ("GMACs\n", "right"), *last_columns)
    for heading, justify in columns:
        table.add_column(heading, no_wrap=True, justify=justify)
    return table


def _size(variant: Variant) -> tuple[str, str, str]:
    return variant.name, f"{variant.parameters / 1e6:.2f}", f"{variant.gmacs:.3f}"


def _imagenet_table() -> Any:
    """-> one row a set of published weights."""
    table = _table(
        ("weights\n", "left"), ("top-1\n%", "right"), ("resize -> crop\nand filter", "left"), ("licence\n", "left")
    )
    for variant in VARIANTS.values():
        for row, (tag, weights) in enumerate(variant.weights.items()):
            table.add_row(
                *(_size(variant) if row == 0 else ("", "", "")),
                tag,
                f"{weights.top1_percent:.3f}",
                str(weights.contract),
                weights.licence,
                end_section=row == len(variant.weights) - 1,
            )
    return table


def _cifar_table() -> Any:
    """-> one row a network, which has one file of published weights."""
    table = _table(("file of weights\n", "left"), ("top-1\n%", "right"), ("licence\n", "left"))
    for variant in VARIANTS.values():
        if variant.file is not None:
            top1_percent = f"{variant.file.top1_percent:.2f}"
            table.add_row(*_size(variant), variant.file.name, top1_percent, variant.file.licence)
    return table
