"""PyTorch or safetensors file -> its tensors, each under one dotted name. No object of a file is built, nothing runs.

The name has the keys of all dicts that lead to the tensor: "state_dict.module.conv1.weight".
"""

import pickle
import re
import tempfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.errors import WeightsError
from keras_resnet.optional import require
from keras_resnet.printable import printable
from keras_resnet.refused_pickles import refusal_of

DEEPEST = 20  # dicts and lists in each other
MOST_ENTRIES = 50_000  # a small file can refer to one dict over and over
LARGEST_PICKLE_BYTES = 64_000_000  # each byte can become a dict of 64 bytes; tensors do not count, and lie elsewhere
LONGEST_TEXT = 80


class StoredTensor(NamedTuple):
    """A tensor that was not read yet."""

    shape: tuple[int, ...]
    size_bytes: int  # bytes of all its values
    stored_bytes: int  # bytes in the file; fewer than `size_bytes` if values are repeated
    read: Callable[[], np.ndarray]


class Checkpoint(NamedTuple):
    """What a file of PyTorch's side holds."""

    path: Path
    tensors: dict[str, StoredTensor]  # by dotted name, in the order of the file
    folder: dict[str, str]  # dotted name of a tensor -> name of the dict that holds it, with a dot at its end
    entries: dict[str, str]  # top-level key -> what is under it: "122 tensors", "int"
    architecture: str = ""  # name of the network that the file states, as timm's training does under "arch"


def escaped(text: object) -> str:
    """Text from a file -> text for a terminal: control characters are escaped, and a long text is shortened."""
    shown = printable(text)
    return shown if len(shown) <= LONGEST_TEXT else f"{shown[: LONGEST_TEXT - 3]}..."


# --- what is left unread ------------------------------------------------------------------------------------------


class Unread:
    """Stand-in for an object that a pickle asks for: it accepts any arguments and does nothing."""

    def __new__(cls, *_: object, **__: object) -> "Unread":
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


class _UnreadDict:
    """Stand-in for a subclass of dict: it becomes a plain dict, since PyTorch puts items into nothing else."""

    def __new__(cls, *_: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


_BUILTINS = (
    *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set"),
    *("slice", "str", "tuple"),
)
# Classes by which packages for training keep records, settings and losses beside the tensors.
_RECORDS = (
    *("functools.partial", "types.SimpleNamespace", "typing.Any"),
    *("datetime.datetime", "datetime.date", "datetime.timedelta"),
    *(f"builtins.{name}" for name in _BUILTINS),
    "mmengine.logging.history_buffer.HistoryBuffer",
    *("omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig"),
    *(f"omegaconf.base.{name}" for name in ("ContainerMetadata", "Metadata")),
    *(
        f"omegaconf.nodes.{kind}Node"
        for kind in ("Any", "Boolean", "Bytes", "Enum", "Float", "Integer", "Path", "String")
    ),
    *(
        f"{package}.callbacks.{module}"
        for package in ("pytorch_lightning", "lightning.pytorch")
        for module in ("model_checkpoint.ModelCheckpoint", "early_stopping.EarlyStopping")
    ),
)
_DICTS = (
    *(f"{package}.utilities.parsing.AttributeDict" for package in ("pytorch_lightning", "lightning.pytorch")),
    *(f"{package}.utilities.data.AttributeDict" for package in ("lightning_fabric", "lightning.fabric")),
    *("collections.defaultdict", "easydict.EasyDict", "yacs.config.CfgNode"),
)


def _harmless(torch: Any) -> list[tuple[Callable[..., Any], str]]:
    """-> the stand-in under the name of each class and function that training files hold beside their tensors."""
    paths = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
    arrays = ("_reconstruct", "scalar")
    names = [
        "argparse.Namespace",
        *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in paths),
        *(f"{module}.{name}" for module in ("numpy.core.multiarray", "numpy._core.multiarray") for name in arrays),
        *("numpy.dtype", "numpy.ndarray"),
        *sorted({f"numpy.{scalar.__name__}" for scalar in np.sctypeDict.values()}),
        *(f"numpy.dtypes.{name}" for name in np.dtypes.__all__),
        *_RECORDS,
        *(f"torch.nn.modules.loss.{name}" for name in torch.nn.modules.loss.__all__),
        *(f"{kind.__module__}.{name}" for name, kind in vars(torch.optim).items() if isinstance(kind, type)),
    ]
    return [*((Unread, name) for name in names), *((_UnreadDict, name) for name in _DICTS)]


# --- files --------------------------------------------------------------------------------------------------------


def read_torch(path: Path) -> Checkpoint:
    """PyTorch file, as torch.save writes it -> its tensors.

    Raises:
        WeightsError: It holds other objects than tensors, numbers, texts and what is harmless, or more than it stores.
        MissingDependencyError: There is no PyTorch.
    """
    torch = require("torch", "torch")
    in_archive = zipfile.is_zipfile(path)
    if in_archive:
        _check_members(path)
    try:
        with torch.serialization.safe_globals(_harmless(torch)), warnings.catch_warnings(), _renamed(path) as file:
            warnings.filterwarnings("ignore", message="Detected pickle protocol|pickle_load_args")
            # Mapped, so that a tensor which lies outside its storage is refused; PyTorch would make room for it.
            # Python 2 wrote NumPy's values as plain bytes, which only latin1 always reads as text.
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=in_archive, encoding="latin1")
    except pickle.UnpicklingError as error:
        # PyTorch's own message recommends weights_only=False, without a word about what is in the file.
        unknown = re.search(r"GLOBAL (\S+)", str(error))
        raise WeightsError(*refusal_of(path, escaped(unknown[1]) if unknown else "")) from error
    if isinstance(content, (list, tuple)):
        content = {str(place): value for place, value in enumerate(content)}
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path} must hold a state dict (names and tensors); it holds {type(content).__name__}")
    return _checkpoint(path, content, torch)


@contextmanager
def _renamed(path: Path) -> Iterator[Path]:
    """PyTorch takes each file that is named .safetensors for one, whatever it holds."""
    if not path.name.endswith(".safetensors"):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, "weights.pth")
        link.symlink_to(path.resolve())
        yield link


def _check_members(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        declared_bytes, size_bytes = sum(member.file_size for member in archive.infolist()), path.stat().st_size
        pickle_bytes = max(
            (member.file_size for member in archive.infolist() if member.filename.endswith("data.pkl")), default=0
        )
    if declared_bytes > size_bytes:
        raise WeightsError(
            f"{path} has {size_bytes:,} bytes and declares {declared_bytes:,}: damaged, or compressed, which PyTorch "
            "does not do"
        )
    if pickle_bytes > LARGEST_PICKLE_BYTES:
        raise WeightsError(
            f"{path}: {pickle_bytes:,} bytes describe its tensors, more than the limit of {LARGEST_PICKLE_BYTES:,}. "
            "Save only the tensors: torch.save(model.state_dict(), path)"
        )


def _checkpoint(path: Path, content: Mapping[Any, Any], torch: Any) -> Checkpoint:
    tensors: dict[str, StoredTensor] = {}
    folders: dict[str, str] = {}
    storages: dict[int, int] = {}
    places: list[tuple[str, int, Any]] = [("", 0, content)]
    entries = 0
    while places:
        folder, depth, container = places.pop()
        items = container.items() if isinstance(container, Mapping) else enumerate(container)
        inner = []
        for key, value in items:
            if not isinstance(value, (torch.Tensor, Mapping, list, tuple)):
                continue
            entries += 1
            if depth >= DEEPEST or entries > MOST_ENTRIES:
                raise WeightsError(f"{path} has too many dicts in each other, or too many entries, for a checkpoint")
            name = f"{folder}{_text_of(key)}"
            if not isinstance(value, torch.Tensor):
                inner.append((f"{name}.", depth + 1, value))
                continue
            if name in tensors:
                raise WeightsError(f"{path} has two tensors named {escaped(name)}")
            kind = _unreadable_kind(value, torch)
            if kind:
                tensors[name] = StoredTensor(tuple(value.shape), 0, 0, _refuser(path, name, kind))
                folders[name] = folder
            else:
                storage = value.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
                size_bytes = value.numel() * value.element_size()
                tensors[name] = StoredTensor(tuple(value.shape), size_bytes, storage.nbytes(), _reader(value, torch))
                folders[name] = folder
        places += reversed(inner)
    stored_bytes, size_bytes = sum(storages.values()), path.stat().st_size
    if stored_bytes > size_bytes:
        raise WeightsError(f"{path} has {size_bytes:,} bytes, and its tensors ask for {stored_bytes:,}: it is damaged")
    architecture = content.get("arch")
    stated = architecture if isinstance(architecture, str) else ""
    return Checkpoint(path, tensors, folders, _entries(content, tensors), stated)


def _unreadable_kind(tensor: Any, torch: Any) -> str:
    """-> what hinders that a tensor is read, and the cure; empty for an ordinary one."""
    if tensor.is_quantized:
        return "is quantized; save the network before its quantization, or tensor.dequantize()"
    if tensor.layout is not torch.strided:
        return "is sparse; save tensor.to_dense()"
    return "" if tensor.device.type == "cpu" else f"is on the device {tensor.device.type}, without values"


def _refuser(path: Path, name: str, kind: str) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        raise WeightsError(f"{path}: the tensor {escaped(name)} {kind}. Nothing was loaded")

    return read


def _reader(tensor: Any, torch: Any) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        narrow = tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64)
        array: np.ndarray = (tensor.float() if narrow else tensor).detach().resolve_conj().resolve_neg().numpy()
        return array

    return read


def of_arrays(path: Path, tensors: Mapping[str, StoredTensor]) -> Checkpoint:
    """Tensors of a file without nested dicts -> checkpoint."""
    return Checkpoint(path, dict(tensors), dict.fromkeys(tensors, ""), _entries(tensors, tensors))


def _entries(content: Mapping[Any, Any], tensors: Mapping[str, StoredTensor]) -> dict[str, str]:
    """Content of a file -> its keys, and what is under each."""
    counts: dict[str, int] = {}
    keys = {_text_of(key) for key in content}
    for name in tensors:
        parts = name.split(".")
        starts = (".".join(parts[:count]) for count in range(1, len(parts) + 1))  # a key can have dots itself
        key = next(start for start in starts if start in keys)
        counts[key] = counts.get(key, 0) + 1
    texts = [(_text_of(key), value) for key, value in content.items()]
    return {text: _described(value, counts.get(text, 0), text in tensors) for text, value in texts}


def _text_of(key: Any) -> str:
    return "object" if key is Unread or isinstance(key, Unread) else str(key)


def _described(value: Any, count: int, is_tensor: bool) -> str:
    if is_tensor:
        return "a tensor"
    if count:
        return f"{count} tensors" if count > 1 else "1 tensor"
    return "not read" if isinstance(value, Unread) else type(value).__name__
