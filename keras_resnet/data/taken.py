"""What was taken of the data, what lies among it and is none, and the account of both."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keras_resnet.printable import printable

if TYPE_CHECKING:
    from keras_resnet.data.base import Source

CLASSES_LISTED = 5  # with their counts; the largest
REASONS_LISTED = 4

UNUSED_SPLIT = "split that is not used (see --validation-split)"
NOT_A_SPLIT = "folder beside the splits"


@dataclass
class LeftAside:
    """Files and folders that are left aside, by reason: counted, with one example each."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)  # the first of each reason

    def add(self, reason: str, example: str, count: int = 1) -> None:
        """Adds `count` of one reason."""
        self.counts[reason] = self.counts.get(reason, 0) + count
        self.examples.setdefault(reason, example)

    def join(self, other: "LeftAside") -> None:
        """Adds all of another part of the data; what both parts came across, such as a test folder, counts once."""
        for reason, count in other.counts.items():
            if self.examples.get(reason) != other.examples[reason]:
                self.add(reason, other.examples[reason], count)

    @property
    def lines(self) -> list[str]:
        """-> a line for each reason."""
        return [f"{reason}: {count:,} (such as {self.examples[reason]})" for reason, count in self.counts.items()]


@dataclass(frozen=True)
class Taken:
    """How the images of a source were found."""

    layout: str  # the layout of the data, in words
    part: str  # folder, rows or arrays of the split
    aside: LeftAside = field(default_factory=LeftAside)
    inner: Sequence[str] = ()  # folders in class folders that may be meant as classes, such as animals/cat


def left_aside(sources: "Sequence[Source]") -> LeftAside:
    """Sources of one set of data -> all that was left aside."""
    joined = LeftAside()
    for source in sources:
        if source.taken is not None:
            joined.join(source.taken.aside)
    return joined


def _counts(source: "Source") -> str:
    """-> images or objects of the largest classes, but no pixels, since to count them takes a pass over all masks."""
    if source.counted == "pixels":
        return ""
    counts = sorted(zip(source.class_counts.tolist(), source.classes, strict=True), key=lambda pair: -pair[0])
    shown = ", ".join(f"{name} {count:,}" for count, name in counts[:CLASSES_LISTED])
    total = "" if source.counted == "images" else f", {source.class_counts.sum():,} {source.counted}"
    return f"{total}: {shown}" + (f" and {len(counts) - CLASSES_LISTED} more" if len(counts) > CLASSES_LISTED else "")


def account(data: str, sources: "Sequence[Source]") -> Iterator[str]:
    """Data as users name it, the sources that were opened of it -> at most six lines that say what was taken."""
    first = sources[0]
    layout = first.taken.layout if first.taken is not None else first.kind
    inner = first.taken.inner if first.taken is not None else ()
    merged = f"; images in {inner[0]}/ count for {inner[0].partition('/')[0]}" if inner else ""
    yield printable(f"data: {data}: {layout}{merged}")
    for source in sources:
        part = f" in {source.taken.part}" if source.taken is not None and source.taken.part.endswith("/") else ""
        held_out = (
            ", held out: a tenth of each class (--split all takes all images)"
            if source.held_out and source.split == "val"
            else ""
        )
        number = len(source.classes)
        classes = f"{number} class{'' if number == 1 else 'es'}"
        yield printable(f"{source.split}: {source.count:,} images of {classes}{part}{held_out}{_counts(source)}")
    reasons = left_aside(sources).lines
    if reasons:
        more = f"; and {len(reasons) - REASONS_LISTED} reasons more" if len(reasons) > REASONS_LISTED else ""
        yield printable(f"left aside: {'; '.join(reasons[:REASONS_LISTED])}{more}")
