"""Integrity of artifacts: a SHA-256 inside each artifact, which is checked before a runtime opens it.

The runtimes trust their files. A flipped bit silently changes answers, and a truncated file can end the process.

| format | place of the hash | hashed files |
| --- | --- | --- |
| TFLite | 128 bytes after the identifier, to which no offset of the flatbuffer points | the file |
| ONNX | the first field of the file, an entry of `metadata_props` | the file |
| SavedModel, OpenVINO, page | `assets.extra/keras_resnet.sha256`, which `sha256sum -c` reads | each other file |

A file's hash is computed with zeros in its place. It stands at the front, where a truncated file still has it. The hash
finds damage but not forgery: whoever changes a file on purpose can write its hash too. A file from other software has
no hash and is opened unchecked. Its runtime refuses most damage; other damage changes answers or ends the process
(`checks/mutated_files.py`).
"""

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path

from keras_resnet.errors import ExportError

KEY = b"keras_resnet.sha256"
FOLDER_FILE = "assets.extra/keras_resnet.sha256"  # folder for files that TensorFlow ignores
DESCRIBED_FILES = ("assets/description.json", "model.xml", "description.json")  # in a SavedModel, OpenVINO, a page
OWN_NAME = b"keras-resnet-kit"  # part of each description: a file with it and without a hash is damaged

_BLANK = b"0" * 64
_ROOM_BYTES = 128  # a multiple of 16, the alignment of TFLite's buffers
_HEAD_BYTES = 256
_LARGEST_LISTING_BYTES = 1_000_000


def tflite_with_room(model: bytes) -> bytes:
    """Flatbuffer -> flatbuffer with room for a hash. All its offsets are relative, except for the root's."""
    root = int.from_bytes(model[:4], "little") + _ROOM_BYTES
    room = (KEY + b": " + _BLANK).ljust(_ROOM_BYTES, b"\0")
    return root.to_bytes(4, "little") + model[4:8] + room + model[8:]


def onnx_with_room(proto: bytes) -> bytes:
    """Serialized `ModelProto` -> `ModelProto` with room for a hash. Fields of a message may be in any order."""
    entry = b"\x0a" + bytes([len(KEY)]) + KEY + b"\x12" + bytes([len(_BLANK)]) + _BLANK  # StringStringEntryProto
    return b"\x72" + bytes([len(entry)]) + entry + proto  # field 14 of ModelProto


def seal(path: Path) -> None:
    """Writes the hash into a finished file that has room for it, or the hashes of its files into a folder."""
    if path.is_dir():
        listing = path / FOLDER_FILE
        listing.parent.mkdir(exist_ok=True)
        listing.write_text("".join(f"{line}\n" for line in _listed(path)), encoding="utf-8")
        return
    with path.open("r+b") as stream:
        place = _place(stream.read(_HEAD_BYTES))
        if place is None:
            raise ExportError(f"{path}: can't be sealed: it has no room for a hash")
        digest = _file_digest(path, place)
        stream.seek(place)
        stream.write(digest)


def check_whole(path: Path) -> None:
    """Raises `ExportError` if an artifact with a hash has changed since its export, or has lost its hash."""
    problem = _folder_problem(path) if path.is_dir() else _file_problem(path)
    if problem:
        raise ExportError(
            f"{path}: damaged: its contents have changed since the export ({problem}). Export or fetch it again; if "
            "another program changed it on purpose, open it with its own runtime"
        )


def _file_problem(path: Path) -> str | None:
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
        place = _place(head)
        if place is not None:
            digest = _file_digest(path, place)
            stored = head[place : place + len(_BLANK)]
            return None if digest == stored else f"SHA-256 {digest.decode()[:16]}..., not {_shown(stored[:16])}..."
        if not head:
            return None
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as contents:
            return "its hash is gone" if contents.find(OWN_NAME) >= 0 else None


def _folder_problem(path: Path) -> str | None:
    listing = path / FOLDER_FILE
    if not listing.is_file():
        described = [path / name for name in DESCRIBED_FILES if (path / name).is_file()]
        return "its hashes are gone" if any(OWN_NAME in file.read_bytes() for file in described) else None
    if listing.stat().st_size > _LARGEST_LISTING_BYTES:
        return f"{FOLDER_FILE} is too large"
    stored = listing.read_bytes().decode("utf-8", "backslashreplace").splitlines()
    different = sorted({line[66:] for line in set(stored) ^ set(_listed(path))})
    return f"{_shown(', '.join(different[:3]).encode())}: changed, missing or new" if different else None


def _listed(folder: Path) -> Iterator[str]:
    """Folder -> line `<hash>  <name>` for each file that its runtime reads."""
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        if file.is_file() and name.parts[0] != "assets.extra" and not file.name.startswith("."):
            with file.open("rb") as stream:
                yield f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {name.as_posix()}"


def _place(head: bytes) -> int | None:
    """First bytes of a file -> position of the hash's first digit."""
    found = head.find(KEY)
    return None if found < 0 else found + len(KEY) + 2


def _file_digest(path: Path, place: int) -> bytes:
    """-> hexadecimal digits of the file's hash, computed with zeros at `place`."""
    with path.open("rb") as stream:
        digest = hashlib.sha256(stream.read(place) + _BLANK)
        stream.seek(place + len(_BLANK))
        return hashlib.file_digest(stream, lambda: digest).hexdigest().encode()


def _shown(text: bytes) -> str:
    """Bytes of a damaged file -> one line of printable text."""
    return "".join(c if c.isprintable() else "?" for c in text.decode("utf-8", "replace"))
