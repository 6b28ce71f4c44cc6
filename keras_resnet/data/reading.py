"""How data is read where the data does not tell: settings of a recipe, and options of every command with data."""

from dataclasses import dataclass
from typing import Literal

from keras_resnet.settings import Rule, setting, settings_of

_LABELS = Rule("hold labels in 0..255", lambda labels: all(0 <= label <= 255 for label in labels))


@dataclass(frozen=True)
class Reading:
    """Choices of the user about data."""

    folders: Literal["auto", "classes", "splits"] = setting(
        "auto",
        "Meaning of the folders in a folder of images: classes, splits (train, val, test), or auto (by their names).",
    )
    validation_split: Literal["val", "test"] = setting(
        "val",
        "Split whose images validate: val or test. Images of the other one are left aside, even with --split all.",
    )
    image_column: str = setting(
        "", "Column of a CSV file with the image files. Needed only if it has no usual name, such as file or path."
    )
    label_column: str = setting(
        "",
        "Column of a CSV file with the class of each image. Needed only if it has no usual name, such as label or "
        "class.",
    )
    split_column: str = setting(
        "",
        "Column of a CSV file with train, val or test in each row. Needed only if it has no usual name, such as split.",
    )
    encoding: str = setting("", "Encoding of a CSV file, for example cp949. Needed only if the file is not Unicode.")
    strict: bool = setting(
        False, "Error if anything is left aside: a file that is no image, a hidden file, an unused split."
    )
    mask_suffix: str = setting(
        "",
        "Ending that the masks' names add to the images' names: _mask for cat.jpg and cat_mask.png. Needed only if "
        "several endings fit.",
        tasks=("segment",),
    )
    mask_values: tuple[int, ...] = setting(
        (),
        "Values in the masks that are classes, in the order of the classes, for example 0,255. In this list, 255 is a "
        "class.",
        _LABELS,
        tasks=("segment",),
    )
    void_labels: tuple[int, ...] = setting(
        (), "Labels in the masks, besides 255, that mark pixels without a class.", _LABELS, tasks=("segment",)
    )

    def column(self, meaning: str) -> str:
        """Meaning of a column in `tables.NAMES` -> the header that the user chose for it, or nothing."""
        return {"file": self.image_column, "label": self.label_column, "split": self.split_column}.get(meaning, "")


READING = settings_of(Reading)
PLAIN = Reading()
