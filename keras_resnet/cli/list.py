"""`keras-resnet list`: the table of variants, one row a set of published weights."""

from keras_resnet.variants import DEFAULT_TAG, VARIANTS

WIDTH = 80  # characters


def list_networks() -> None:
    """List the networks and the weights published for each."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("network\n", no_wrap=True)
    table.add_column("params\nM", no_wrap=True, justify="right")
    table.add_column("GMACs\n", no_wrap=True, justify="right")
    table.add_column("weights\n", no_wrap=True)
    table.add_column("top-1\n%", no_wrap=True, justify="right")
    table.add_column("resize -> crop\nand filter", no_wrap=True)
    table.add_column("licence\n", no_wrap=True)
    for variant in VARIANTS.values():
        network = (variant.name, f"{variant.parameters / 1e6:.2f}", f"{variant.gmacs:.3f}")
        for row, (tag, weights) in enumerate(variant.weights.items()):
            table.add_row(
                *(network if row == 0 else ("", "", "")),
                tag,
                f"{weights.top1_percent:.3f}",
                str(weights.contract),
                weights.licence,
                end_section=row == len(variant.weights) - 1,
            )
    # A fixed width, which the table fits: on a pipe there is none to ask for, and no column may be cut off.
    console = Console(width=WIDTH, highlight=False)
    console.print(table)
    console.print(
        f"""
weights="imagenet" means {DEFAULT_TAG}. Weights are fetched once from the
Hugging Face Hub, repository timm/<network>.<weights>, and kept in its cache.
top-1: ImageNet validation, single centre crop, as published: torchvision's own
figures for tv and tv2, timm's results at 224 for a1, a2 and a3.
params: trainable, 1000 classes. GMACs: of one image at 224x224."""
    )
