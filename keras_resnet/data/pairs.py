"""Folders of images and folders of masks -> pairs of files."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keras_resnet.data.labelled import NAMES_LISTED
from keras_resnet.data.layout import holds_image, split_named, walk_images
from keras_resnet.data.reading import Reading
from keras_resnet.data.taken import LeftAside
from keras_resnet.errors import ArgumentError, ImageError
from keras_resnet.image_files import is_hidden
from keras_resnet.regular_files import read_text

# Names of folders, in lower case.
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages")
MASK_FOLDERS = (
    *("masks", "mask", "labels", "annotations", "segmentation", "groundtruth", "gt"),
    *("segmentationclass", "segmentationclasspng"),
)
LISTS = ("ImageSets", "Segmentation")  # folder of Pascal VOC with train.txt and val.txt, lists of names of images
LOSSY_SUFFIXES = (".jpg", ".jpeg", ".webp")  # suffixes of files in which labels change
NO_LIST = "image that no list of a split names"


@dataclass(frozen=True)
class PairFolders:
    """Where images and masks lie, below one folder."""

    splits: Mapping[str, tuple[str, str]]  # "train", "val", "test" -> folder of images, folder of masks
    lists: Mapping[str, str] = field(default_factory=dict)  # split -> file with the names of its images


def pair_folders(folder: Path) -> PairFolders | None:
    """Folder -> its folders of images and of masks; None: it has none.

    They are `train/images` and `train/masks`, or `images/train` and `masks/train`, or, of all splits, `images` and
    `masks`, maybe with lists of the names in each split. Other common names than these are known, in any case.

    Raises:
        ArgumentError: Two folders can hold the masks, or the images.
    """
    splits = {split: name for name in _folders(folder) if (split := split_named(name)) is not None}
    below = {split: _pair(folder, name) for split, name in splits.items()}
    if any(below.values()):
        return PairFolders({split: pair for split, pair in below.items() if pair is not None})
    pair = _pair(folder, "")
    if pair is None:
        return None
    images, masks = ({split_named(name): name for name in _folders(folder / side)} for side in pair)
    both = [split for split in ("train", "val", "test") if split in images and split in masks]
    if "train" in both:
        return PairFolders({s: (f"{pair[0]}/{images[s]}", f"{pair[1]}/{masks[s]}") for s in both})
    lists = {
        split: "/".join([*LISTS, f"{split}.txt"])
        for split in ("train", "val", "test")
        if folder.joinpath(*LISTS, f"{split}.txt").is_file()
    }
    return PairFolders({"train": pair}, lists)


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name))


def _pair(folder: Path, name: str) -> tuple[str, str] | None:
    """Folder, a folder in it -> its folders of images and of masks, relative to the first."""
    found = []
    for kind, names in (("images", IMAGE_FOLDERS), ("masks", MASK_FOLDERS)):
        there = [one for one in _folders(folder / name) if one.lower() in names and holds_image(folder / name / one)]
        if len(there) > 1:
            listed = " and ".join(f"{one}/" for one in there)
            raise ArgumentError(
                f"{folder / name}: {listed} can both hold the {kind}. Rename or move the one that does not"
            )
        found += there
    return (str(Path(name, found[0])), str(Path(name, found[1]))) if len(found) == 2 else None


def list_pairs(
    folder: Path, where: tuple[str, str], lists: Mapping[str, str], split: str, reading: Reading, aside: LeftAside
) -> tuple[list[str], list[str]]:
    """Folder, its folders of images and masks, its lists of names if it has them -> images and their masks; sorted.

    Raises:
        ImageError: There are no images.
        ArgumentError: An image has no mask, a mask has no image, or two images have one name.
    """
    images, masks = where
    files = [os.path.relpath(file, images) for file in sorted(walk_images(folder, images, aside))]
    if not files:
        raise ImageError(f"{folder / images}: no image in this folder")
    named = [os.path.relpath(file, masks) for file in sorted(walk_images(folder, masks, aside))]
    if lists:
        names_of = {name: names_in(folder / file) for name, file in lists.items()}
        names, any_names = names_of[split], frozenset().union(*names_of.values())
        missing = sorted(names - {os.path.splitext(file)[0] for file in files})
        if missing:
            raise ArgumentError(
                f"{folder / lists[split]}: {images}/ has no image for {len(missing)} names, first {missing[0]}. Add "
                "the images, or remove the names"
            )
        for file in files:
            if os.path.splitext(file)[0] not in any_names:
                aside.add(NO_LIST, f"{images}/{file}")
        files = [file for file in files if os.path.splitext(file)[0] in names]
        suffix = _suffix(files, named, reading.mask_suffix, folder / masks)
        named = [mask for mask in named if os.path.splitext(mask)[0].removesuffix(suffix) in names]
    lossy = [mask for mask in named if mask.lower().endswith(LOSSY_SUFFIXES)]
    if lossy:
        raise ArgumentError(
            f"{folder / masks}: masks must not be JPEG or WebP files, which alter the values of pixels. Received: "
            f"{len(lossy)}, for example {lossy[0]}. Export the masks again as PNG files from the labelling tool. "
            "Converting these files does not help: JPEG has already changed the values"
        )
    paired = check_pairs(folder / images, files, named, _suffix(files, named, reading.mask_suffix, folder / masks))
    return [f"{images}/{file}" for file in files], [f"{masks}/{mask}" for mask in paired]


def names_in(file: Path) -> frozenset[str]:
    """List of Pascal VOC -> the names in it; a line may have more words."""
    text = read_text(file, errors="surrogateescape")
    return frozenset(line.split()[0] for line in text.splitlines() if line.strip())


def _suffix(images: Sequence[str], masks: Sequence[str], wanted: str, where: Path) -> str:
    """Images, masks, what the user chose -> what the masks' names have more than the images', "_mask" for example.

    Raises:
        ArgumentError: Several would do.
    """
    stems = {os.path.splitext(mask)[0] for mask in masks}
    if wanted or not images or any(os.path.splitext(image)[0] in stems for image in images):
        return wanted
    first = os.path.splitext(images[0])[0]
    found = sorted(stem.removeprefix(first) for stem in stems if stem.startswith(first))
    found = [suffix for suffix in found if all(os.path.splitext(image)[0] + suffix in stems for image in images)]
    if len(found) > 1:
        raise ArgumentError(
            f"{where}: an image has several masks, whose names end in {' and '.join(found)}. Choose one: `mask_suffix` "
            f"(--mask-suffix {found[0]})"
        )
    return found[0] if found else ""


def check_pairs(
    where: str | os.PathLike[str], images: Sequence[str], masks: Sequence[str], suffix: str = ""
) -> list[str]:
    """Images and masks, relative to their folders -> the mask of each image: its name, the suffix, a mask's file type.

    Raises:
        ArgumentError: An image without a mask, a mask without an image, or a name that two have.
    """
    by_name = {os.path.splitext(mask)[0]: mask for mask in masks if os.path.splitext(mask)[0].endswith(suffix)}
    stems = [os.path.splitext(image)[0] + suffix for image in images]
    counts = Counter(stems)
    problems = [
        f"  {image}: no mask {stem}.png" for image, stem in zip(images, stems, strict=True) if stem not in by_name
    ]
    problems += [f"  {mask}: no image of that name" for stem, mask in by_name.items() if stem not in counts]
    problems += [
        f"  {stem}: {count} images of that name, which would share a mask"
        for stem, count in counts.items()
        if count > 1
    ]
    if problems:
        more = [f"  and {len(problems) - NAMES_LISTED} more"] if len(problems) > NAMES_LISTED else []
        example = [
            f"The folder of masks has, for example, {min(masks)}. A mask must have the name of its image; if all masks "
            "have an ending more, name it by `mask_suffix` (--mask-suffix _mask)"
            if masks
            else "There are no masks"
        ]
        raise ArgumentError(
            f"{where}: images and masks that are no pairs: {len(problems)}",
            *problems[:NAMES_LISTED],
            *more,
            *example,
        )
    return [by_name[stem] for stem in stems]
