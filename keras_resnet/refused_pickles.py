"""Pickle that PyTorch refuses to read as plain tensors -> what it is, and the lines that convert it; nothing runs."""

import itertools
import pickletools
import struct
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

MOST_OPERATIONS = 1_000_000  # operations of a pickle that are looked at
# Keys of a training file that mostly hold its network, the likeliest first.
_NETWORK_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "params")
_MEMORY = ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE", "FRAME")  # operations that change nothing
# Modules and built-in functions that an attack uses.
_RUNS_CODE = {
    *("os", "posix", "nt", "sys", "subprocess", "importlib", "runpy", "shutil", "socket", "pty", "webbrowser", "code"),
    *("eval", "exec", "compile", "open", "__import__", "builtins"),
}
_CONTAINERS = ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE")
_DICTS = ("collections OrderedDict", "collections defaultdict", "__builtin__ dict")
_STRINGS = ("BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "BINSTRING", "SHORT_BINSTRING")
_PICKLES_BEFORE = 3  # in a file of the old format: a magic number, the format's version, sizes of types


def refusal_of(path: Path, unknown: str) -> list[str]:
    """File that `torch.load(weights_only=True)` refuses, the class that it names or "" -> lines for the user."""
    read = itertools.islice(_operations(path), MOST_OPERATIONS)
    operations = [(name, argument) for name, argument in read if name not in _MEMORY]
    if not zipfile.is_zipfile(path):
        operations = _without_marks_of_modules(operations)
    if not unknown:
        protocol = max([argument for name, argument in operations if name == "PROTO"], default=2)
        if protocol > 3:
            return [
                f"{path} was saved with protocol {protocol} of pickle, which PyTorch does not read without running "
                "code. Save it again, without the argument pickle_protocol: torch.save(tensors, path)"
            ]
        return [f"{path} is damaged, or torch.save did not write it. Save or download it again"]
    place = next((i for i, operation in enumerate(operations) if _names(operation, unknown)), len(operations))
    if not _is_built_empty(operations[place:]):
        cure = (
            "It may be an attack"
            if unknown.partition(".")[0] in _RUNS_CODE
            else "Save only the tensors: torch.save(model.state_dict(), path)"
        )
        return [f"{path} calls {unknown} on loading, which could run code, and is refused. {cure}"]
    is_dict = next(
        (name in _CONTAINERS or argument in _DICTS for name, argument in operations if name != "PROTO"), True
    )
    keys = [str(argument) for name, argument in operations if name in _STRINGS]
    before = [str(argument) for name, argument in operations[:place] if name in _STRINGS]
    key = next((key for key in _NETWORK_KEYS if key in keys), None)
    what, wanted = "beside its weights", f"content[{key!r}]"
    if not is_dict:
        what, wanted = "as a whole model", "content.state_dict()"
    elif key is None:
        wanted = "{name: value for name, value in content.items() if isinstance(value, torch.Tensor)}"
    elif before[-1:] == [key]:
        what, wanted = "as a whole model", f"content[{key!r}].state_dict()"
    new = path.with_name(f"{path.name.partition('.')[0]}-weights.pth")
    return [
        f"{path} holds Python objects other than tensors ({unknown}) {what}; it could run code on loading, and is "
        "refused. If you trust the file, save only its tensors, where the code of these objects is installed "
        "and after `import torch`:",
        f"  content = torch.load({str(path)!r}, map_location='cpu', weights_only=False)",
        f"  torch.save({wanted}, {str(new)!r})",
    ]


def _without_marks_of_modules(operations: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The old format has the word "module" before the class of each module; it is no key of the file."""
    return [
        operation
        for i, operation in enumerate(operations)
        if not (operation[1] == "module" and operations[i - 1][0] == "MARK" and operations[i + 1][0] == "GLOBAL")
    ]


def _names(operation: tuple[str, Any], unknown: str) -> bool:
    name, argument = operation
    return name == "GLOBAL" and argument.replace(" ", ".").removeprefix("__builtin__.") == unknown


def _is_built_empty(operations: Iterable[tuple[str, Any]]) -> bool:
    """Whether the first object that is built is made without arguments, as a module is; a function is called."""
    before = ""
    for name, _ in operations:
        if name in ("NEWOBJ", "NEWOBJ_EX", "REDUCE", "OBJ", "INST"):
            return name == "NEWOBJ" and before == "EMPTY_TUPLE"
        before = name
    return False


def _operations(path: Path) -> Iterator[tuple[str, Any]]:
    """-> name and argument of each operation of the file's pickle, as far as it can be read."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    if member.rpartition("/")[2] == "data.pkl":
                        yield from _operations_of(archive.read(member))
        else:
            with path.open("rb") as file:
                for _ in range(_PICKLES_BEFORE):
                    for _ in pickletools.genops(file):
                        pass
                yield from _operations_of(file)
    # Damaged, or a kind of archive that there is not.
    except (ValueError, OSError, EOFError, IndexError, struct.error, zipfile.BadZipFile, NotImplementedError):
        return


def _operations_of(content: Any) -> Iterator[tuple[str, Any]]:
    for operation, argument, _ in pickletools.genops(content):
        yield operation.name, argument
