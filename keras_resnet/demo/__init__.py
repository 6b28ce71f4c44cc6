"""The whole workflow on a small scale: images -> trained network -> verified artifacts -> one table.

A demo downloads nothing. Digits are the 1,797 handwritten ones that scikit-learn ships (UCI, Alpaydin and Kaynak 1998),
in 8x8 grey pixels. A ResNet-20 classifies single digits; a U-Net segments the strokes of several digits on a made-up
background; a Mask R-CNN finds discs, squares and triangles that are drawn here.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from keras_resnet.demo import digit_scenes, digits, shapes
from keras_resnet.demo.steps import DemoRow, Made
from keras_resnet.errors import ArgumentError
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.pipeline import Progress, require_converters
from keras_resnet.measure.record import write_record

MARKER = ".keras-resnet-demo"  # file that marks a folder which a later demo may replace


class Demo(NamedTuple):
    """The demo of one task."""

    make: Callable[[Path, Progress], Made]
    formats: tuple[str, ...]
    judged_on: str  # evaluation images in words
    images: str  # path of example images inside the demo's folder
    options: str  # options of `predict` for the example; {out} is the demo's folder


DEMOS: Mapping[str, Demo] = {
    "classify": Demo(
        digits.make, digits.EXPORTED, f"{digits.HELD_OUT_DIGITS} held-out digits", "images/held_out/7", "--top 3"
    ),
    "segment": Demo(
        digit_scenes.make,
        digit_scenes.EXPORTED,
        f"{digit_scenes.SCENES['val']} held-out scenes",
        "images/val/images",
        "--out {out}/masks",
    ),
    "detect": Demo(
        shapes.make, shapes.EXPORTED, f"{shapes.SCENES['val']} held-out scenes", "images/val", "--out {out}/objects"
    ),
}


def run(folder: Path, progress: Progress, task: str = "classify") -> list[DemoRow]:
    """Run directory -> rows of the table; writes images, training run, verified artifacts and `results.json`."""
    require_converters(FORMATS[name] for name in DEMOS[task].formats)  # before the training, not after it
    claim(folder)
    recipe, settings, rows = DEMOS[task].make(folder, progress)
    write_record(folder / "results.json", "demo", recipe.as_dict() | settings, [asdict(row) for row in rows])
    return rows


def claim(folder: Path) -> None:
    """Creates the run directory. Its content is replaced only if an earlier demo wrote it.

    Raises:
        ArgumentError: The folder holds other files.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise ArgumentError(f"--out must be a new or empty folder, or an earlier demo's. Received: {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
