"""First bytes of a weight file -> what kind of file it is; a suffix is only asked where they do not tell."""

import re
import tarfile
import zipfile
from pathlib import Path
from typing import Literal

from keras_resnet.errors import WeightsError

Kind = Literal["safetensors", "pytorch", "keras", "hdf5"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in (2, 3, 4, 5))
_TORCH_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")  # near the start of a pickle that torch.save wrote
_STRANGERS = {  # how a file begins that is often taken for weights: what it is, and what to do
    b"\x1f\x8b": "is compressed by gzip: unpack it first",
    b"\xfd7zXZ\x00": "is compressed by xz: unpack it first",
    b"version https://git-lfs": "is a pointer of Git LFS and not the file itself: fetch it with git lfs pull",
    b"<!doctype html": "is a page of HTML and not the file itself: download the file again",
    b"<html": "is a page of HTML and not the file itself: download the file again",
    b"\x93numpy": "is a NumPy array without names",
}
_TAR_PLACE, _TAR = 257, b"ustar"
_OLDEST_TORCH = {"storages", "tensors", "pickle"}  # members of a tar archive that PyTorch wrote before version 0.1.10
_TFLITE_PLACE, _TFLITE = 4, b"TFL3"
_ONNX = re.compile(rb"\x08[\x01-\x1f][\x12\x1a:]")  # the version of ONNX; then the producer, or the graph
_FLAX = re.compile(rb"[\x81-\x8f\xde\xdf].{0,4}?\xa6params", re.DOTALL)  # MessagePack: a map with the key "params"
_TENSORFLOW = re.compile(r".*\.pb|.*\.index|.*\.data-\d+-of-\d+|checkpoint")
_TEXT_SHOWN = 40  # characters
_NETWORK = (
    "is {} and holds no weights that can be read: it is a finished network. Give the file of weights that it was "
    "made from"
)
_PLAIN_PICKLE = (
    "is a plain pickle, which torch.save did not write, such as the .pkl files of detectron2's model zoo. It could run "
    "code on loading, and is refused. A script that reads only its arrays is in docs/weights-and-pixels.md, under "
    "'Convert a plain pickle'"
)


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
    if start.startswith(_PICKLES) and _TORCH_MAGIC in start[:32]:
        return "pytorch"
    what = _stranger(path, start)
    if what:
        raise WeightsError(f"{path} {what}")
    return None


def _stranger(path: Path, start: bytes) -> str | None:
    """-> what the file is, where it is of a kind that is known and no use."""
    if start.startswith(_PICKLES):
        return _PLAIN_PICKLE
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for beginning, what in _STRANGERS.items():
        if text.startswith(beginning.lower()):
            return what
    if start[_TAR_PLACE:].startswith(_TAR):
        return _kind_of_tar(path)
    if start[_TFLITE_PLACE:].startswith(_TFLITE):
        return _NETWORK.format("a TFLite file")
    if _TENSORFLOW.fullmatch(path.name):
        return (
            "is of a SavedModel or checkpoint of TensorFlow: load it into its model with Keras, and save that as .keras"
        )
    if _ONNX.match(start):
        return _NETWORK.format("an ONNX file")
    if _FLAX.match(start):
        return "is a file of Flax (MessagePack): its weights can't be read. Give the same weights as .safetensors"
    if _is_text(start):
        shown = start.decode("utf-8", "replace").strip().splitlines()[0][:_TEXT_SHOWN]
        return f"is a text and not a file of weights; it begins with {shown!a}: fetch the file again"
    return None


def _is_text(start: bytes) -> bool:
    return (
        len(start) >= 8
        and start.strip() != b""
        and all(byte >= 32 or byte in b"\t\r\n" for byte in start)
        and start.isascii()
    )


def _kind_of_tar(path: Path) -> str:
    try:
        with tarfile.open(path) as archive:
            names = set(archive.getnames()[:10])
    except tarfile.TarError:
        names = set()
    if names >= _OLDEST_TORCH:
        return (
            "is a file of PyTorch before version 0.1.10, whose loading runs code. If you trust it, save it again: "
            "torch.save(torch.load(path, weights_only=False), new_path)"
        )
    return "is a tar archive: unpack it, and give the file of weights that is in it"


def _kind_of_archive(path: Path) -> Kind | None:
    if not zipfile.is_zipfile(path):
        raise WeightsError(
            f"{path} is the beginning of an archive, and its end is missing: copy or download it again (it has "
            f"{path.stat().st_size:,} bytes)"
        )
    with zipfile.ZipFile(path) as archive:
        paths = [name for name in archive.namelist() if not name.endswith("/")]
    members = {name.rpartition("/")[2] for name in paths}
    if "constants.pkl" in members:
        raise WeightsError(
            f"{path} is a TorchScript program, which is code and is not read. Save only its tensors: "
            "torch.save(torch.jit.load(path).state_dict(), new_path)"
        )
    if "archive_format" in members or "serialized_exported_program.json" in members:
        raise WeightsError(
            f"{path} is a program of torch.export, which is not read. Save only its tensors: "
            "torch.save(torch.export.load(path).state_dict, new_path)"
        )
    if "data.pkl" in members:
        return "pytorch"
    if members & {"model.weights.h5", "config.json"}:
        return "keras"
    if any(name.endswith(".npy") for name in members):
        raise WeightsError(f"{path} is an archive of NumPy arrays: save them as .safetensors under torchvision's names")
    shown = ", ".join(ascii(name[:_TEXT_SHOWN]) for name in paths[:3])
    more = f", ... ({len(paths)} in all)" if len(paths) > 3 else ""
    raise WeightsError(
        f"{path} is a zip archive of other files ({shown or 'none'}{more}): unpack it, and give the file of weights "
        "that is in it"
    )
