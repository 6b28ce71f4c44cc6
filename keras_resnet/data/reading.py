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
        "What the folders in a folder of images are: classes, splits (train, val, test), or auto (by their names).",
    )
    validation_split: Literal["val", "test"] = setting(
        "val", "Split whose images validate: val, or test, which nothing uses otherwise."
    )
    image_column: str = setting("", "Column of a CSV file with the image files. Needed only if its name is unusual.")
    label_column: str = setting("", "Column of a CSV file with the names of classes. Needed only if it is unusual.")
    split_column: str = setting("", "Column of a CSV file with train, val or test. Needed only if it is unusual.")
    encoding: str = setting("", "Encoding of a CSV file, for example cp949. Needed only if it is not Unicode.")
    strict: bool = setting(False, "Whether anything that is left aside among the images is an error.")
    mask_suffix: str = setting(
        "", "What a mask's name has more than its image's, for example _mask. Needed only if it is ambiguous.",
        task="segment",
    )  # fmt: skip
    mask_values: tuple[int, ...] = setting(
        (), "Values in the masks, in the order of the classes, for example 0,255.", _LABELS, task="segment"
    )
    void_labels: tuple[int, ...] = setting(
        (), "Labels in the masks, besides 255, that mark pixels without a class.", _LABELS, task="segment"
    )

    def column(self, meaning: str) -> str:
        """Meaning of a column in `tables.NAMES` -> the header that the user chose for it, or nothing."""
        return {"file": self.image_column, "label": self.label_column, "split": self.split_column}.get(meaning, "")


READING = settings_of(Reading)
PLAIN = Reading()
