"""What looks wrong with a set of images, so that training on it would be wrong, too."""

from collections.abc import Iterator, Mapping, Sequence

from keras_resnet.data.base import Source
from keras_resnet.data.layout import split_named
from keras_resnet.data.pairs import IMAGE_FOLDERS, MASK_FOLDERS
from keras_resnet.data.taken import CLASSES_LISTED

ALIKE_LISTED = 5


def suspicions(train: Source, val: Source, hashes: Sequence[Mapping[str, str]], single_answer: bool) -> Iterator[str]:
    """Training and validation images, of each the names by the hash of the file, whether an image has one class -> what
    looks wrong, in lines."""
    if len(train.classes) < 2 and single_answer:
        yield f"there is one class, {train.classes[0]}: a network learns to answer it whatever it sees"
    for name in train.classes:
        if split_named(name) is not None:
            yield f"class {name!r} has the name of a split: see --folders"
        elif name.lower() in (*IMAGE_FOLDERS, *MASK_FOLDERS):
            yield f"class {name!r} has the name of a folder of images or masks, and is one class here"
    for source in (train, val):
        absent = [name for name, count in zip(source.classes, source.class_counts, strict=True) if not count]
        if absent:
            yield f"{source.split} has no {source.counted.removesuffix('s')} of {_listed(absent, CLASSES_LISTED)}"
    both = [(hashes[0][key], hashes[1][key]) for key in hashes[0].keys() & hashes[1].keys()]
    if both:
        pairs = [f"{one} = {other}" for one, other in sorted(both)]
        yield f"images of val that are training images, too: {len(both)} ({_listed(pairs, ALIKE_LISTED)})"


def _listed(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
