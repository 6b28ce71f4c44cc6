"""`keras-resnet list`: the variants and their published weights; with `--compare`, networks to choose from."""

from typing import Annotated, Any

import typer

from keras_resnet.variants import CIFAR_FILES, DEFAULT_TAG, VARIANTS, Variant

WIDTH, COMPARED_WIDTH = 80, 100  # characters
SIZE_COLUMNS = (("network\n", "left"), ("params\nM", "right"), ("GMACs\n", "right"))


def list_networks(
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Compare with networks of keras.applications, and recommend one for each use."),
    ] = False,
) -> None:
    """List the networks and the weights published for each."""
    from rich.console import Console

    # The width is fixed, since a pipe has no width and no column may be cut off.
    if compare:
        _print_compared(Console(width=COMPARED_WIDTH, highlight=False))
        return
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
For images of 32x32, which are neither resized nor cropped. Download files from
{CIFAR_FILES}
and give one by its path. top-1: CIFAR-10 test images, as published there.
params: trainable, 10 classes. GMACs: of one image at 32x32."""
    )


def _table(*columns: tuple[str, str], gap: int = 1) -> Any:
    """Headings and justifications -> empty table whose columns are `gap` characters and a rule apart."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
    for heading, justify in columns:
        justified: Any = justify
        table.add_column(heading, no_wrap=True, justify=justified)
    return table


def _size(variant: Variant) -> tuple[str, str, str]:
    return variant.name, f"{variant.parameters / 1e6:.2f}", f"{variant.gmacs:.3f}"


def _imagenet_table() -> Any:
    """-> one row for each set of published weights."""
    table = _table(
        *SIZE_COLUMNS,
        ("weights\n", "left"),
        ("top-1\n%", "right"),
        ("resize -> crop\nand filter", "left"),
        ("licence\n", "left"),
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
    """-> one row for each network, which has one file of published weights."""
    table = _table(*SIZE_COLUMNS, ("file of weights\n", "left"), ("top-1\n%", "right"), ("licence\n", "left"))
    for variant in VARIANTS.values():
        if variant.file is not None:
            top1_percent = f"{variant.file.top1_percent:.2f}"
            table.add_row(*_size(variant), variant.file.name, top1_percent, variant.file.licence)
    return table


def _print_compared(console: Any) -> None:
    """Prints the table of networks, the sources of its figures, and advice on when to take which."""
    from keras_resnet.benchmark.networks import NETWORKS, Measurements, advice

    measurements = Measurements.read()
    console.print(_compared_table(measurements))
    console.print(
        "\npublished: as the publishers of the weights state it, each for their own resize and crop: torchvision for "
        "tv and tv2, timm at 224 for a1; the table of keras.io/api/applications; Keras' documentation of MobileNetV3. "
        f'weights="imagenet" means {DEFAULT_TAG}.'
    )
    console.print(
        "counted: trainable parameters with 1000 classes; multiply-accumulates of one image of the input size."
    )
    if measurements.networks:
        values = measurements.networks.values()
        below = max(1 - value.p10_ms / value.latency_ms for value in values)
        above = max(value.p90_ms / value.latency_ms - 1 for value in values)
        console.print(
            f"measured: the TFLite file in float32, batch 1, {measurements.threads} threads of {measurements.cpu}, "
            f"{measurements.date}, each file in a process of its own, in alternating rounds. Latency is the median; "
            f"four fifths of the calls lie at most {100 * below:.0f} % below or {100 * above:.0f} % above it. Memory "
            "is what the process takes until the first answer. 1 MB is 10^6 bytes."
        )
    if not measurements.networks.keys() >= NETWORKS.keys():
        console.print("-: not measured yet; benchmarks/compare_networks.py measures it.")
    console.print()
    for use, network in advice(measurements).items():
        console.print(f"{use}: {network}.")


def _compared_table(measurements: Any) -> Any:
    """Measurements -> one row for each network and set of weights; a network's figures stand in its first row."""
    from keras_resnet.benchmark.networks import ROWS

    table = _table(
        ("network\n\n", "left"),
        ("source\n\n", "left"),
        ("top-1\n%\npublished", "right"),
        ("params\nM\ncounted", "right"),
        ("GMACs\n\ncounted", "right"),
        ("input\npixels\n", "right"),
        ("file\nMB\nmeasured", "right"),
        ("latency\nms\nmeasured", "right"),
        ("memory\nMB\nmeasured", "right"),
        gap=0,
    )
    network, package = "", ROWS[0].package
    for row in ROWS:
        if row.package != package:
            table.add_section()
        top1_percent = f"{row.top1_percent:.1f}"
        if row.network == network:
            table.add_row("", row.source, top1_percent)
        else:
            measured = measurements.networks.get(row.network)
            table.add_row(
                row.network,
                row.source,
                top1_percent,
                f"{row.parameters / 1e6:.2f}",
                f"{row.gmacs:.3f}",
                str(row.size),
                *(
                    (f"{measured.size_mb:.1f}", f"{measured.latency_ms:.1f}", f"{measured.memory_mb:.0f}")
                    if measured
                    else ("-", "-", "-")
                ),
            )
        network, package = row.network, row.package
    return table
