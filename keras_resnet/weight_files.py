"""Path of a weight file -> its tensors, under the file's own names. No format runs code on loading.

| usual suffix | holds | read by |
| --- | --- | --- |
| `.safetensors` | PyTorch's layouts, under the names of a known package | safetensors |
| `.pth`, `.pt`, `.th`, and others | such tensors, in dicts | `torch_files`: torch, with `weights_only=True` |
| `.keras` | Keras' layout; its configuration is never read | h5py, from the archive's `model.weights.h5` |
| `.weights.h5` | Keras' layout | h5py |
"""

import contextlib
import io
import itertools
import json
import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from keras_resnet.contained import check_opens
from keras_resnet.errors import KerasResnetError, WeightsError, reason
from keras_resnet.file_kinds import Kind, kind_of
from keras_resnet.foreign_keras import refuse_foreign_file
from keras_resnet.optional import require
from keras_resnet.torch_files import Checkpoint, StoredTensor, escaped, of_arrays, read_torch
from keras_resnet.whole_files import file_sha256

TORCH_SUFFIXES = (".pth", ".pt", ".th")
WEIGHT_SUFFIXES = (".safetensors", *TORCH_SUFFIXES, ".keras", ".weights.h5")
FILE_SUFFIXES = (*WEIGHT_SUFFIXES, ".h5", ".tar", ".ckpt", ".bin")  # suffixes that files of weights can have
LARGEST_BYTES = (
    16_000_000_000  # size of a weight file; the largest ResNet has 0.3 GB, and 1 GB with its trainer's state
)
LARGEST_CONFIG_BYTES = 64_000_000  # description of the layers in a .keras file; ResNet-152 has 0.3 MB
MOST_FILES = 1000  # files of a folder that are looked at
_PART = re.compile(r"-\d{5}-of-\d{5}\.(safetensors|bin)$")
_SUFFIX_KINDS: dict[str, Kind] = {  # where the content does not tell: the reader says what is wrong
    ".safetensors": "safetensors",
    **dict.fromkeys(TORCH_SUFFIXES, "pytorch"),
    ".keras": "keras",
    ".h5": "hdf5",
}


class WeightFile(NamedTuple):
    """The unchecked content of a file."""

    layout: Literal["torchvision", "keras"]
    tensors: dict[str, np.ndarray]  # "layer1.0.conv1.weight" (OIHW), or "stage2_block1_1_conv/0" (variable 0, HWIO)


def read_weight_file(path: Path) -> WeightFile | Checkpoint:
    """Path -> tensors as stored, except that bfloat16 becomes float32; a checkpoint for PyTorch's files.

    The content decides what a file is, and its suffix where the content does not tell.

    Raises:
        WeightsError: No such file, or content that is of no known kind or can't be read.
        MissingDependencyError: A PyTorch file, and no PyTorch.
    """
    name = path.name.lower()
    if path.is_dir():
        raise WeightsError(_folder(path))
    if not path.exists():
        raise WeightsError(f"no such file: {path}")
    if not path.is_file():
        raise WeightsError(f"{path} is no regular file; weights must be a file: {', '.join(WEIGHT_SUFFIXES)}")
    if name.endswith((".weights.json", ".index.json")) or _PART.search(name):
        raise WeightsError(_parts(path))
    try:
        size_bytes = path.stat().st_size
        if size_bytes == 0:
            raise WeightsError(f"{path} is empty")
        if size_bytes > LARGEST_BYTES:
            raise WeightsError(f"{path} has {size_bytes:,} bytes, and weights have at most {LARGEST_BYTES:,}")
        kind = kind_of(path) or next((kind for suffix, kind in _SUFFIX_KINDS.items() if name.endswith(suffix)), None)
        if kind is None:
            with path.open("rb") as file:
                start = file.read(8).hex(" ")
            raise WeightsError(
                f"{path} is no weight file by its content, and has none of the known suffixes: "
                f"{', '.join(WEIGHT_SUFFIXES)}. Its first bytes are {start}"
            )
        _try_first(path, kind)
        return _READERS[kind](path)
    except KerasResnetError:
        raise
    except Exception as error:  # a damaged file can make a parser raise anything
        raise WeightsError(f"{path} can't be read; is it complete, with the right suffix? ({reason(error)})") from error


def _try_first(path: Path, kind: Kind) -> None:
    """Raises `WeightsError` if a file ends the process that reads it; see `contained`."""
    if kind == "pytorch":
        require("torch", "torch")  # its absence needs no child
    if kind in _TRIALS:
        given = {"path": str(path), "kind": kind}
        check_opens(path, file_sha256(path), kind, f"{__name__}:try_weights", given, WeightsError)


def try_weights(path: str, kind: Kind) -> None:
    """Reads all of a file of weights: the trial of `contained.check_opens`."""
    _TRIALS[kind](Path(path))


def _try_h5(content: bytes, where: str) -> None:
    """Reads every attribute and array. Errors do no harm; whoever reads the file gets them too."""
    import h5py

    def read(_: str, node: Any) -> None:
        for name in node.attrs:
            with contextlib.suppress(Exception):
                node.attrs[name]
        if isinstance(node, h5py.Dataset):
            with contextlib.suppress(Exception):
                _refuse_indirect_data(node, where)
                node[()]

    with _open_h5(content, where) as h5:
        h5.visititems(read)


def _try_keras_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        _check_members(archive, path)
        _try_h5(archive.read(WEIGHTS_MEMBER), str(path))


def _try_h5_file(path: Path) -> None:
    _try_h5(path.read_bytes(), str(path))


def _try_torch(path: Path) -> None:
    for tensor in read_torch(path).tensors.values():
        if tensor.size_bytes <= tensor.stored_bytes:
            with contextlib.suppress(WeightsError):
                tensor.read()


def _folder(path: Path) -> str:
    found = sorted(itertools.islice(path.rglob("*"), MOST_FILES), key=lambda file: "optim" in file.name)
    files = [str(file.relative_to(path)) for file in found]
    if any(name.endswith(".distcp") for name in files):
        return (
            f"{path} is a folder of torch.distributed.checkpoint; make one file of it: python -m "
            "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER new.pth"
        )
    if "saved_model.pb" in files:
        return (
            f"{path} is a SavedModel and holds no weights that can be read. It may be the model itself: --model {path}"
        )
    parts = [name for name in files if _PART.search(name.lower())]
    if parts:
        return _parts(path / parts[0])
    weights = [escaped(name) for name in files if name.lower().endswith(FILE_SUFFIXES)]
    cure = f". Give a file that is in it: {', '.join(weights[:5])}" if weights else ""
    return f"{path} is a folder, but weights must be a file: {', '.join(WEIGHT_SUFFIXES)}{cure}"


def _parts(path: Path) -> str:
    what = "one part of weights" if _PART.search(path.name.lower()) else "the index of weights"
    suffix = "bin" if path.name.endswith((".bin", ".bin.index.json")) else "safetensors"
    read, pattern = {
        "safetensors": ("safetensors.torch.load_file(part)", "*-of-*.safetensors"),
        "bin": ("torch.load(part)", "*-of-*.bin"),
    }[suffix]
    return (
        f"{path} is {what} in several files. Save them in one file: "
        "import glob, torch, safetensors.torch; torch.save({name: tensor for part in "
        f"glob.glob({str(path.parent / pattern)!r}) for name, tensor in {read}.items()}}, 'whole.pth')"
    )


# --- safetensors --------------------------------------------------------------------------------------------------

_SAFETENSORS_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


def _read_safetensors(path: Path) -> Checkpoint:
    from safetensors import safe_open

    with safe_open(path, framework="numpy"):  # checks the header, and that the declared tensors fill the file
        pass
    # safe_open copies arrays, which is slow, and has no bfloat16 in NumPy. These arrays are views of the file.
    content = np.asarray(np.memmap(path, np.uint8, mode="r"))
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    tensors = {}
    for name, stored in json.loads(content[8:start].tobytes()).items():
        if name == "__metadata__":
            continue
        first, last = (start + offset for offset in stored["data_offsets"])
        read = partial(_read_stored, path, name, stored["dtype"], content[first:last], stored["shape"])
        tensors[name] = StoredTensor(tuple(stored["shape"]), last - first, last - first, read)
    return of_arrays(path, tensors)


def _read_stored(path: Path, name: str, dtype: str, content: np.ndarray, shape: list[int]) -> np.ndarray:
    if dtype not in _SAFETENSORS_DTYPES:
        raise WeightsError(f"{path}: tensor {escaped(name)!r} has type {dtype}; save it as float32 or float16")
    array = content.view(_SAFETENSORS_DTYPES[dtype]).reshape(shape)
    return _widen_bfloat16(array) if dtype == "BF16" else array


def _widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """uint16 -> float32: bfloat16 is the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


# --- Keras' side --------------------------------------------------------------------------------------------------


_HEAP_COLLECTION = b"GCOL\x01"  # signature and version
WEIGHTS_MEMBER = "model.weights.h5"


def _read_keras_archive(path: Path) -> WeightFile:
    with zipfile.ZipFile(path) as archive:
        _check_members(archive, path)
        return WeightFile("keras", _read_h5(archive.read(WEIGHTS_MEMBER), f"{path} ({WEIGHTS_MEMBER})"))


def _read_h5_file(path: Path) -> WeightFile:
    return WeightFile("keras", _read_h5(path.read_bytes(), str(path)))


def check_keras_archive(path: Path) -> int:
    """.keras file that Keras will load as a whole -> number of bytes of the arrays that it stores.

    Keras allocates memory for all arrays that a file declares, whether the file stores them or not.

    Raises:
        WeightsError: A member is damaged or compressed, or an array lies in another file. Other errors: no archive.
    """
    stored_bytes = 0

    def add(_: str, dataset: Any) -> None:
        nonlocal stored_bytes
        stored_bytes += dataset.nbytes

    with zipfile.ZipFile(path) as archive:
        _check_members(archive, path)
        damaged = archive.testzip()
        if damaged is not None:
            raise WeightsError(f"{path}: its member {damaged!r} is damaged: its checksum is wrong")
        _try_first(path, "keras")
        with _open_h5(archive.read(WEIGHTS_MEMBER), f"{path} ({WEIGHTS_MEMBER})") as h5:
            _visit_datasets(h5, f"{path} ({WEIGHTS_MEMBER})", add)
    return stored_bytes


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Raises if the weights are missing, or if a member is compressed, by which a small file could fill the memory."""
    if WEIGHTS_MEMBER not in archive.namelist():
        raise WeightsError(f"{path} has no member {WEIGHTS_MEMBER!r}; save it with model.save(path)")
    declared_bytes, size_bytes = sum(member.file_size for member in archive.infolist()), path.stat().st_size
    if declared_bytes > size_bytes:
        raise WeightsError(
            f"{path} has {size_bytes:,} bytes and declares {declared_bytes:,}: damaged, or compressed, which Keras "
            "does not do; save it with model.save(path)"
        )
    for member in archive.infolist():
        most_bytes = LARGEST_BYTES if member.filename == WEIGHTS_MEMBER else LARGEST_CONFIG_BYTES
        if member.file_size > most_bytes:
            raise WeightsError(
                f"{path}: its member {escaped(member.filename)} has {member.file_size:,} bytes, more than the limit "
                f"of {most_bytes:,}"
            )


def _read_h5(content: bytes, where: str) -> dict[str, np.ndarray]:
    """HDF5 file -> `{"<layer>/<index>": array}`, from every layer's group of variables.

    Keras names the groups by class ("conv2d_7"); the layer's own name is an attribute of its `vars` group.
    """
    tensors: dict[str, np.ndarray] = {}

    def take(path: str, node: Any) -> None:
        if not path.startswith("layers/") or "/optimizer/" in path:
            return  # the optimizer's state is not needed
        layer = node.parent.attrs.get("name")
        if not path.rpartition("/")[0].endswith("/vars") or layer is None:
            raise WeightsError(
                f"{where} does not name the layer of {path!r}, because an older version of Keras wrote it. Load it "
                "into its model with Keras, and save it again with a newer version"
            )
        key = f"{layer}/{path.rpartition('/')[2]}"
        if key in tensors:
            raise WeightsError(f"{where} has two layers named {layer!r}")
        is_bfloat16 = node.attrs.get("dtype") == "bfloat16"
        tensors[key] = _widen_bfloat16(node[()].view("<u2")) if is_bfloat16 else node[()]

    with _open_h5(content, where) as h5:
        refuse_foreign_file(h5, where)
        _visit_datasets(h5, where, take)
        if not tensors:
            raise WeightsError(f"{where} holds no layer's weights; save it with model.save_weights(path)")
    return tensors


def _open_h5(content: bytes, where: str) -> Any:
    """HDF5 file -> `h5py.File`; raises if libhdf5 would read it for ever."""
    import h5py

    # Texts stand in collections of the global heap. After 16 bytes, a collection has objects of index (2 bytes), 6
    # other bytes, size (8 bytes) and content. Index 0 is free space; libhdf5 (1.14) loops for ever if its size is 0.
    start = content.find(_HEAP_COLLECTION)
    while start >= 0:
        end = min(start + int.from_bytes(content[start + 8 : start + 16], "little"), len(content))
        place = start + 16
        while place + 16 <= end:
            index = int.from_bytes(content[place : place + 2], "little")
            size = int.from_bytes(content[place + 8 : place + 16], "little")
            if index == 0 and size == 0:
                raise WeightsError(f"{where} is damaged: a heap of texts has no end")
            place += size if index == 0 else 16 + (size + 7) // 8 * 8
        start = content.find(_HEAP_COLLECTION, start + 1)
    return h5py.File(io.BytesIO(content), "r")


def _visit_datasets(h5: Any, where: str, take: Callable[[str, Any], None]) -> None:
    """Calls `take(path, dataset)` for each array of an open HDF5 file; raises if an array lies in another file."""
    import h5py

    def visit(path: str, node: Any) -> None:  # sees each object once, even in cycles
        if isinstance(node, h5py.Group):
            _refuse_links(node, where)
        elif isinstance(node, h5py.Dataset):
            _refuse_indirect_data(node, where)
            take(path, node)

    _refuse_links(h5, where)
    h5.visititems(visit)


def _refuse_links(group: Any, where: str) -> None:
    import h5py

    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise WeightsError(
                f"{where} has a link at {group.name}/{name} instead of weights; links are not followed. Save the file "
                "again: model.save(path)"
            )


def _refuse_indirect_data(dataset: Any, where: str) -> None:
    if dataset.external or dataset.is_virtual:
        raise WeightsError(
            f"{where} keeps the weights {dataset.name} in another file, which is not read. Save all weights in one "
            "file: model.save(path)"
        )
    # Keras stores plain arrays. An array that declares more bytes than it stores would fill the memory.
    if dataset.nbytes > dataset.id.get_storage_size():
        raise WeightsError(
            f"{where} stores {dataset.id.get_storage_size():,} of the {dataset.nbytes:,} bytes of {dataset.name}: "
            "damaged, or compressed, which Keras does not do"
        )


_TRIALS: dict[Kind, Callable[[Path], None]] = {  # safetensors is read by code that can't crash so
    "pytorch": _try_torch,
    "keras": _try_keras_archive,
    "hdf5": _try_h5_file,
}
_READERS: dict[Kind, Callable[[Path], WeightFile | Checkpoint]] = {
    "safetensors": _read_safetensors,
    "pytorch": read_torch,
    "keras": _read_keras_archive,
    "hdf5": _read_h5_file,
}
