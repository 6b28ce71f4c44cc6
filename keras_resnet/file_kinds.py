"""First bytes of a weight file -> what kind of file it is; a suffix is only asked where they do not tell."""

import zipfile
from pathlib import Path
from typing import Literal

from keras_resnet.errors import WeightsError

Kind = Literal["safetensors", "pytorch", "keras", "hdf5"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in (2, 3, 4, 5))
_STRANGERS = {  # how a file begins that is often taken for weights: what it is, and what to do
    b"\x1f\x8b": "is compressed by gzip: unpack it first",
    b"\xfd7zXZ\x00": "is compressed by xz: unpack it first",
    b"version https://git-lfs": "is a pointer of Git LFS and not the file itself: fetch it with git lfs pull",
    b"<!doctype html": "is a page of HTML and not the file itself: download the file again",
    b"<html": "is a page of HTML and not the file itself: download the file again",
    b"\x93numpy": "is a NumPy array without names",
}
_TAR_PLACE, _TAR = 257, b"ustar"


def kind_of(path: Path) -> Kind | None:
    """Path of a file that is not empty -> its kind by content; None if its first bytes fit no kind.

    Raises:
        WeightsError: The content is of a kind that holds no weights for this package.
    """
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith(_HDF5):
        return "hdf5"
    if start.startswith(_ZIP):
        return _kind_of_archive(path)
    header_bytes = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and 2 <= header_bytes <= path.stat().st_size - 8:
        return "safetensors"
    if start.startswith(_PICKLES):
        return "pytorch"
    for beginning, what in _STRANGERS.items():
        if start.lower().startswith(beginning.lower()):
            raise WeightsError(f"{path} {what}")
    if start[_TAR_PLACE:].startswith(_TAR):
        raise WeightsError(f"{path} is a tar archive: unpack it, and give the file of weights that is in it")
    return None


def _kind_of_archive(path: Path) -> Kind | None:
    if not zipfile.is_zipfile(path):
        return None  # truncated
    with zipfile.ZipFile(path) as archive:
        members = {name.rpartition("/")[2] for name in archive.namelist()}
    if "constants.pkl" in members:
        raise WeightsError(
            f"{path} is a TorchScript program, which is code and is not read. Save only its tensors: "
            "torch.save(torch.jit.load(path).state_dict(), new_path)"
        )
    if "data.pkl" in members:
        return "pytorch"
    if members & {"model.weights.h5", "config.json"}:
        return "keras"
    if any(name.endswith(".npy") for name in members):
        raise WeightsError(f"{path} is an archive of NumPy arrays: save them as .safetensors under torchvision's names")
    return None
