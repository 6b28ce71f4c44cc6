"""Mutations of files: content, random numbers -> another content that a careless reader would stumble over.

Some know the structure of a format and keep its sums right, as an attacker would; others change bytes anywhere.
"""

import ast
import copy
import io
import json
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

FEW_BYTES = 4096  # at either end of a file, where most of its structure stands
TRIES = 20  # choices of a field, until one can be written

Random = np.random.Generator


class Mutated(NamedTuple):
    """A mutated content."""

    name: str  # of the mutation
    content: bytes
    forged: bool = False  # whether the sums inside are right again, so that a reader can't know it for damage


Mutator = Callable[[bytes, Random], Mutated]

NUMBERS: tuple[Any, ...] = (
    *(-1, 0, 1, 2, 3, 7, 255, 256, 65535, 10**9, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -(2**31), -(2**63)),
    *(10**30, 0.5, -0.5, 1e-30, 1e300, float("nan"), float("inf"), float("-inf")),
)
TEXTS = (
    *(
        "",
        " ",
        "\0",
        "a\0b",
        "0",
        "-1",
        "nan",
        "1e999",
        "9" * 5000,
        "x" * 70_000,
        "../../x",
        "/etc/passwd",
        "/dev/zero",
    ),
    *(
        "a\nb",
        "\r",
        "\x1b]0;title\x07\x1b[2J",
        "[/red]",
        "[link=https://example.org]x",
        "\u202ex",
        "=1+1",
        "²",
        "$x_{$",
    ),
    *("\ufeff", "\U0001f600", "float32", "int8", "NoneType", "__class__", "{}", "%s%n", "con", "a;b", 'a"b', "a,b"),
)
SURROGATE = "\ud800"  # JSON can write it, and UTF-8 can't


def pick(random: Random, choices: Sequence[Any]) -> Any:
    return choices[int(random.integers(len(choices)))]


def one_of(*weighted: tuple[float, Mutator]) -> Mutator:
    """Mutators with their weights -> mutator that draws one of them for each file."""
    weights = np.array([weight for weight, _ in weighted])

    def mutate(data: bytes, random: Random) -> Mutated:
        return weighted[int(random.choice(len(weighted), p=weights / weights.sum()))][1](data, random)

    return mutate


# --- bytes --------------------------------------------------------------------------------------------------------


def in_bytes(data: bytes, random: Random) -> Mutated:
    """Any content -> bits flipped, blocks overwritten, cut, moved or inserted, or a number exchanged for an odd one."""
    mutations: dict[str, Callable[[], bytes]] = {
        "cut short": lambda: data[: _place(data, random)],
        "one bit": lambda: _flip(data, random, 1),
        "64 bits": lambda: _flip(data, random, 64),
        "random block": lambda: _overwrite(data, random, random.bytes),
        "block of zeros": lambda: _overwrite(data, random, bytes),
        "blocks swapped": lambda: _swap(data, random),
        "bytes repeated": lambda: _insert(data, random, repeated=True),
        "bytes inserted": lambda: _insert(data, random, repeated=False),
        "odd number": lambda: _number(data, random),
        "empty": lambda: b"",
    }
    weights = np.array([1 if name == "empty" else 5 for name in mutations], float)
    name = str(random.choice(list(mutations), p=weights / weights.sum()))
    return Mutated(name, mutations[name]())


def _place(data: bytes, random: Random) -> int:
    """-> an offset: every other one near either end."""
    if len(data) > 2 * FEW_BYTES and random.integers(2):
        offset = int(random.integers(FEW_BYTES))
        return offset if random.integers(2) else len(data) - 1 - offset
    return int(random.integers(max(len(data), 1)))


def _flip(data: bytes, random: Random, count: int) -> bytes:
    changed = bytearray(data)
    for _ in range(count if data else 0):
        changed[_place(data, random)] ^= 1 << int(random.integers(8))
    return bytes(changed)


def _overwrite(data: bytes, random: Random, block_of: Callable[[int], bytes]) -> bytes:
    start = _place(data, random)
    block = block_of(int(random.integers(1, 513)))[: len(data) - start]
    return data[:start] + block + data[start + len(block) :]


def _number(data: bytes, random: Random) -> bytes:
    width = pick(random, (1, 2, 4, 8))
    number = pick(random, [value for value in NUMBERS if isinstance(value, int)]) % 256**width
    start = _place(data, random)
    return data[:start] + number.to_bytes(width, pick(random, ("little", "big"))) + data[start + width :]


def _swap(data: bytes, random: Random) -> bytes:
    length = int(random.integers(1, max(2, min(513, len(data) // 2))))
    first, second = sorted((_place(data, random), _place(data, random)))
    if second < first + length or second + length > len(data):
        return data[length:] + data[:length]
    swapped, between = data[second : second + length], data[first + length : second]
    return data[:first] + swapped + between + data[first : first + length] + data[second + length :]


def _insert(data: bytes, random: Random, repeated: bool) -> bytes:
    place, length = _place(data, random), int(random.integers(1, 513))
    block = data[place : place + length] if repeated else random.bytes(length)
    return data[:place] + block + data[place:]


# --- trees of dicts and lists -------------------------------------------------------------------------------------


def odd_value(random: Random, value: Any) -> Any:
    """Value of a field -> another one, more often than not of the same type."""
    if isinstance(value, bool) and random.integers(2):
        return not value
    if isinstance(value, (int, float)) and random.integers(3):
        near = [value + 1, value - 1, -value, value * 2]
        return pick(random, [*NUMBERS, *near])
    if isinstance(value, str) and random.integers(3):
        return pick(random, [*TEXTS, SURROGATE, value + "x", value[:-1], value.upper(), value * 2])
    if isinstance(value, list) and value and random.integers(3):
        one = pick(random, value)
        return pick(random, [value[:-1], [*value, one], value[::-1], [], [one] * 1000, [value], value[1:]])
    nested: Any = 0
    for _ in range(100):
        nested = [nested]
    return pick(random, [None, True, [], {}, [None], {"": None}, "", -1, 1.5, [[0]], nested, *NUMBERS, *TEXTS])


def in_tree(tree: Any, random: Random) -> tuple[str, Any]:
    """JSON value -> what was done, and a copy in which one to three fields are changed."""
    tree, done = copy.deepcopy(tree), []
    for _ in range(pick(random, (1, 1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            return "replaced", odd_value(random, tree)
        holder, key = pick(random, places)
        action = pick(random, ("changed", "changed", "changed", "changed", "removed", "renamed", "copied"))
        value = holder[key]
        if action == "removed":
            del holder[key]
        elif action == "renamed" and isinstance(holder, dict):
            holder[pick(random, TEXTS)] = holder.pop(key)
        elif action == "copied":
            other, place = pick(random, places)
            if place in other if isinstance(other, dict) else place < len(other):
                other[place] = copy.deepcopy(value)
        else:
            holder[key] = odd_value(random, value)
        done.append(f"{action} {str(key)[:40]}")
    return ", ".join(done), tree


def _places(tree: Any, depth: int = 0) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items)[:200]:
        yield tree, key
        if depth < 8:
            yield from _places(value, depth + 1)


def in_json(data: bytes, random: Random) -> Mutated:
    """JSON text -> other values, other syntax, or other bytes."""
    if random.integers(10) == 0:
        text = pick(
            random,
            (
                *(
                    b"[" * 100_000,
                    b"{" * 2000,
                    b'{"a":' * 100_000,
                    b"",
                    b"null",
                    b"0",
                    b"[]",
                    b"{}",
                    b'""',
                    b"NaN",
                    b"[1]",
                ),
                *(b"\xff\xfe" + data, b"\xef\xbb\xbf" + data, data.decode().encode("utf-16"), b"9" * 5000, data + data),
            ),
        )
        return Mutated("other JSON", text, True)
    if random.integers(5) == 0:
        return in_bytes(data, random)._replace(forged=True)
    name, tree = in_tree(json.loads(data), random)
    return Mutated(name, json.dumps(tree, ensure_ascii=bool(random.integers(4))).encode("utf-8", "replace"), True)


# --- text ---------------------------------------------------------------------------------------------------------


def in_text(data: bytes, random: Random) -> Mutated:
    """Lines of text with cells -> other cells, lines, separators, quotes or encodings."""
    lines = data.decode().splitlines()
    place = int(random.integers(len(lines)))
    separator = next((each for each in (" = ", ",", ":", ";", "\t") if each in lines[place]), " ")
    cells = lines[place].split(separator)
    cell = int(random.integers(len(cells)))

    def joined() -> bytes:
        return "\n".join([*lines[:place], separator.join(cells), *lines[place + 1 :], ""]).encode("utf-8", "replace")

    def with_cell(value: str) -> bytes:
        cells[cell] = value
        return joined()

    odd = [*TEXTS, *map(str, NUMBERS), '"', '""', '"a', "a\n", "[]", "[1]", "true", "{a = 1}", "1979-05-27", "0x1F"]
    mutations: dict[str, Callable[[], bytes]] = {
        "another cell": lambda: with_cell(pick(random, odd)),
        "another value": lambda: with_cell(str(odd_value(random, cells[cell]))),
        "a cell more": lambda: with_cell(cells[cell] + separator + pick(random, TEXTS)),
        "a cell less": lambda: (cells.pop(cell), joined())[1],
        "a line less": lambda: (lines.__setitem__(slice(place, place + 1), []), "\n".join(lines).encode())[1],
        "lines repeated": lambda: "\n".join([*lines[: place + 1], *lines[place:]]).encode(),
        "lines in disorder": lambda: "\n".join(random.permutation(lines)).encode(),
        "another separator": lambda: data.replace(b",", pick(random, (b";", b"\t", b"|", b",,", b"\0"))),
        "another end of line": lambda: data.replace(b"\n", pick(random, (b"\r", b"\r\n", b"\n\n", b"\0", b"\x0b"))),
        "quotes": lambda: with_cell(f'"{cells[cell]}'),
        "another encoding": lambda: data.decode().encode(pick(random, ("utf-16", "utf-16-be", "utf-32", "utf-8-sig"))),
        "a byte beyond ASCII": lambda: data[:1] + b"\xe9" + data[1:],
        "bytes": lambda: in_bytes(data, random).content,
    }
    name = pick(random, list(mutations))
    return Mutated(name, mutations[name](), True)


# --- archives -----------------------------------------------------------------------------------------------------


def in_zip(inner: Callable[[str], Mutator], start: int = 0) -> Mutator:
    """Name of a member -> its mutator -> mutator of archives: a member, or the list of members, with right sums.

    Args:
        start: Bytes before the archive that may stay, as in a TFLite file; -1 for those that the archive itself tells.
    """

    def mutate(data: bytes, random: Random) -> Mutated:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            kept = min(info.header_offset for info in archive.infolist()) if start < 0 else start
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
        place = int(random.integers(len(members)))
        name, content = members[place]
        compression = zipfile.ZIP_STORED
        action = str(
            random.choice(["changed", "removed", "twice", "renamed", "compressed", "added"], p=[0.7, *[0.06] * 5])
        )
        if action == "changed":
            done, content, _ = inner(name)(content, random)
            members[place] = (name, content)
            action = f"{name.rpartition('/')[2]}: {done}"
        elif action == "removed":
            del members[place]
        elif action == "twice":
            members.append((name, pick(random, [b"", b"{}", content[:-1], content])))
        elif action == "renamed":
            members[place] = (pick(random, [text for text in TEXTS if text] + [f"../{name}", f"/{name}"]), content)
        elif action == "compressed":
            compression = pick(random, (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        else:
            members.append((pick(random, ("../../x", "/x", "x/", "assets/x")), bytes(pick(random, (0, 10, 100_000)))))
        stream = io.BytesIO()
        stream.write(data[:kept])
        with zipfile.ZipFile(stream, "a", compression) as archive:
            for name, content in members:
                entry = zipfile.ZipInfo(name[:60_000] if name else "x", (2024, 1, 1, 0, 0, 0))
                entry.compress_type = compression
                archive.filelist = [each for each in archive.filelist if each.filename != entry.filename]
                archive.NameToInfo.pop(entry.filename, None)  # two members of one name, without a warning
                archive.writestr(entry, content)
        return Mutated(action, stream.getvalue(), True)

    return mutate


def in_npy(data: bytes, random: Random) -> Mutated:
    """NumPy array -> another type, shape or order in its header, or other bytes."""
    if random.integers(4) == 0:
        return in_bytes(data, random)
    length = int.from_bytes(data[8:10], "little")
    header = data[10 : 10 + length].decode().strip()
    description = ast.literal_eval(header)
    key = pick(random, list(description))
    types = ("<f4", "<f8", "<i1", "<u8", "|O", "|S5", "<U3", "|b1", "<M8[s]", ">i8", "|V4", [("a", "<i4")], "x", None)
    sizes = ((), (0,), (1,), (2**40,), (-1,), (1, 2, 3), (2**62, 4), [3], "x", (1.5,))
    values = {"descr": types, "shape": (*sizes, *((n,) for n in range(30))), "fortran_order": (True, 1, None)}
    description[key] = pick(random, values[key])
    text = (repr(description) + " \n").encode()
    return Mutated(f"array's {key}", data[:8] + struct.pack("<H", len(text)) + text + data[10 + length :], True)


def in_pickle(data: bytes, random: Random) -> Mutated:
    """Pickle -> operations that are removed, repeated, exchanged or have another argument."""
    try:
        operations = list(pickletools.genops(data))
    except (ValueError, IndexError):
        return in_bytes(data, random)
    place = int(random.integers(len(operations) - 1))
    operation, argument, start = operations[place]
    end = operations[place + 1][2]
    piece = data[start:end]
    mutations: dict[str, bytes] = {
        "operation removed": b"",
        "operation repeated": piece * 2,
        "operation exchanged": pick(random, pickletools.opcodes).code.encode("latin-1") + piece[1:],
        "operation inserted": pick(random, (b"0", b"2", b"(", b"t", b"}", b"]", b"N", b"R", b"b", b"Q", b"\x85", b"."))
        + piece,
        "a number": b"\x8a\x09"
        + pick(random, [n for n in NUMBERS if isinstance(n, int)]).to_bytes(20, "little", signed=True)[:9],
        "a text": b"X" + struct.pack("<I", 3) + b"a\nb",
        "another object": b"c"
        + pick(random, (b"os\nsystem", b"builtins\neval", b"torch\nload", b"torch\nFloatStorage"))
        + b"\n",
    }
    if operation.name.startswith(("BININT", "LONG")):
        width = len(piece) - 1
        mutations["another number"] = piece[:1] + random.bytes(width) if width else piece
    name = pick(random, list(mutations))
    return Mutated(f"{name} ({operation.name} {str(argument)[:30]})", data[:start] + mutations[name] + data[end:], True)


def in_safetensors(metadata: Mutator | None = None) -> Mutator:
    """-> mutator of safetensors files: fields of the header, or its length; `metadata` changes a text of metadata."""

    def mutate(data: bytes, random: Random) -> Mutated:
        length = struct.unpack("<Q", data[:8])[0]
        header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
        if metadata is not None and random.integers(4):
            key = pick(random, list(header["__metadata__"]))
            done, text, _ = metadata(header["__metadata__"][key].encode(), random)
            header["__metadata__"][key] = text.decode("utf-8", "replace")
        elif random.integers(6) == 0:
            length = pick(random, [0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1, len(data), 10**8])
            return Mutated("length of the header", struct.pack("<Q", length) + data[8:])
        elif random.integers(3) == 0:
            entry = header[pick(random, [name for name in header if name != "__metadata__"])]
            entry["dtype"] = pick(
                random, ("F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "C64", "F4", "f32", None)
            )
            done = "dtype"
        else:
            done, header = in_tree(header, random)
        text = json.dumps(header).encode()
        return Mutated(done, struct.pack("<Q", len(text)) + text + body, True)

    return mutate


# --- images -------------------------------------------------------------------------------------------------------


def in_png(data: bytes, random: Random) -> Mutated:
    """PNG -> chunks with other fields and right sums, or chunks removed, repeated, exchanged or added."""
    chunks, place = [], 8
    while place + 8 <= len(data):
        length = struct.unpack(">I", data[place : place + 4])[0]
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    chosen = int(random.integers(len(chunks)))
    kind, content = chunks[chosen]
    action = pick(random, ("fields", "fields", "fields", "removed", "twice", "exchanged", "added", "inflated"))
    if action == "fields" and content:
        if kind == b"IHDR" and random.integers(2):
            sizes = [pick(random, (0, 1, 7, 8, 9, 2**16, 2**20, 2**31 - 1, 2**32 - 1)) for _ in range(2)]
            content = struct.pack(">II", *sizes) + content[8:] if random.integers(3) else content[:8] + random.bytes(5)
        else:
            content = in_bytes(content, random).content
        chunks[chosen] = (kind, content)
    elif action == "removed":
        del chunks[chosen]
    elif action == "twice":
        chunks.insert(chosen, chunks[chosen])
    elif action == "exchanged":
        other = int(random.integers(len(chunks)))
        chunks[chosen], chunks[other] = chunks[other], chunks[chosen]
    elif action == "inflated":
        inflated = in_bytes(zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT")), random).content
        chunks = [(name, zlib.compress(inflated) if name == b"IDAT" else body) for name, body in chunks]
    else:
        names = (
            b"tEXt",
            b"zTXt",
            b"iTXt",
            b"eXIf",
            b"iCCP",
            b"PLTE",
            b"tRNS",
            b"acTL",
            b"fcTL",
            b"fdAT",
            b"gAMA",
            b"pHYs",
        )
        bodies = (
            b"",
            b"a\0\0" + zlib.compress(bytes(100_000)),
            random.bytes(26),
            b"\0" * 8,
            b"Exif\0\0II*\0\x08\0\0\0\1\0",
        )
        chunks.insert(chosen, (pick(random, names), pick(random, bodies)))
    packed = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return Mutated(f"{kind.decode()} {action}", data[:8] + b"".join(packed), True)


def in_jpeg(data: bytes, random: Random) -> Mutated:
    """JPEG -> segments with other fields, or segments removed, repeated, exchanged or added."""
    segments, place = [], 2
    while data[place + 1] != 0xDA:
        length = struct.unpack(">H", data[place + 2 : place + 4])[0]
        segments.append((data[place + 1], data[place + 4 : place + 2 + length]))
        place += 2 + length
    chosen = int(random.integers(len(segments)))
    marker, body = segments[chosen]
    action = pick(random, ("fields", "fields", "fields", "removed", "twice", "another marker", "added"))
    if action == "fields":
        segments[chosen] = (marker, in_bytes(body, random).content)
    elif action == "removed":
        del segments[chosen]
    elif action == "twice":
        segments.insert(chosen, segments[chosen])
    elif action == "another marker":
        segments[chosen] = (
            pick(random, (0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xDB, 0xC4, 0xDD, 0xE0, 0xE1, 0xE2, 0xEE)),
            body,
        )
    else:
        exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + random.bytes(8)
        bodies = (
            exif,
            b"Adobe\0\x64" + random.bytes(5),
            b"ICC_PROFILE\0\1\1" + random.bytes(20),
            b"JFIF\0",
            b"MPF\0II*\0",
        )
        segments.insert(chosen, (pick(random, (0xE0, 0xE1, 0xE2, 0xEE)), pick(random, bodies)))
    head = b"".join(b"\xff" + bytes([m]) + struct.pack(">H", (len(b) + 2) % 65536) + b for m, b in segments)
    return Mutated(f"{marker:02X} {action}", data[:2] + head + data[place:], True)


def in_tiff(data: bytes, random: Random) -> Mutated:
    """Little-endian TIFF -> another type, count or value of a tag, or a tag more or less."""
    start = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[start : start + 2])[0]
    tags = [list(struct.unpack("<HHII", data[start + 2 + 12 * i : start + 14 + 12 * i])) for i in range(count)]
    chosen, field = pick(random, tags), int(random.integers(4))
    name = f"tag {chosen[0]}, field {field}"
    limit = 2**16 if field < 2 else 2**32
    chosen[field] = pick(
        random, [*(n % limit for n in NUMBERS if isinstance(n, int)), int(random.integers(1, 20)), 259, 258]
    )
    table = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return Mutated(name, data[: start + 2] + table + data[start + 2 + 12 * count :], True)


# --- messages -----------------------------------------------------------------------------------------------------


def in_protobuf(make: Callable[[], Any]) -> Mutator:
    """Function that makes an empty message -> mutator of such messages, by their fields."""

    def mutate(data: bytes, random: Random) -> Mutated:
        for _ in range(TRIES):
            message = make()
            message.ParseFromString(data)
            holder, field = pick(random, list(_fields(message)))
            try:
                done = _change_field(holder, field, random)
            except (ValueError, TypeError):  # a value that the field can't hold
                continue
            return Mutated(f"{field.name} {done}", message.SerializeToString(), True)
        return in_bytes(data, random)

    return mutate


def _fields(message: Any) -> Any:
    for field, value in message.ListFields():
        yield message, field
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            inner = [value[key] for key in list(value)[:50]]
        else:
            inner = list(value[:300]) if field.is_repeated else [value]
        for each in inner:
            if hasattr(each, "ListFields"):
                yield from _fields(each)


def _change_field(holder: Any, field: Any, random: Random) -> str:
    value = getattr(holder, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        del value[pick(random, list(value))]
        return "removed"
    if field.is_repeated and (field.message_type is not None or random.integers(2)):
        kept = [copy.deepcopy(each) for each in value]
        changed = pick(random, [kept[:-1], kept[1:], kept[::-1], [*kept, pick(random, kept)], kept * 3, []])
        del value[:]
        value.extend(changed)
        return "in another number or order"
    if field.message_type is not None:
        holder.ClearField(field.name)
        return "removed"

    def changed_value(old: Any) -> Any:
        if isinstance(old, bytes):
            return in_bytes(old, random).content
        if isinstance(old, str):
            return pick(random, [*TEXTS, old + "x", old[:-1]])
        numbers = [n for n in NUMBERS if isinstance(n, type(old))]
        return not old if isinstance(old, bool) else pick(random, [*numbers, old + 1, old - 1])

    if field.is_repeated:
        place = int(random.integers(len(value)))
        value[place] = changed_value(value[place])
    else:
        setattr(holder, field.name, changed_value(value))
    return "changed"


def in_flatbuffer(data: bytes, random: Random) -> Mutated:
    """TFLite model -> another value of a field anywhere in its tree of objects."""
    from tensorflow.lite.tools import flatbuffer_utils

    for _ in range(TRIES):
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
        places = [place for place in _attributes(model) if place[1] != "metadata"]
        kinds = sorted({(type(holder).__name__, name) for holder, name in places})
        kind = pick(random, kinds)  # tensors and buffers are many, and the rest is as interesting
        holder, name = pick(random, [each for each in places if (type(each[0]).__name__, each[1]) == kind])
        value = getattr(holder, name)
        array = isinstance(value, np.ndarray)
        plain = value.tolist() if array else value
        if isinstance(plain, list) and plain and not hasattr(plain[0], "__dict__") and random.integers(3):
            plain[int(random.integers(len(plain)))] = pick(random, NUMBERS)
        elif isinstance(plain, bytes) or (array and len(plain) > 64):
            plain = in_bytes(bytes(value), random).content
        elif hasattr(plain, "__dict__"):
            plain = None
        else:
            plain = odd_value(random, plain)
        try:
            setattr(holder, name, np.array(plain, value.dtype) if array and isinstance(plain, list) else plain)
            content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
        except Exception:  # noqa: BLE001  the writer can't write such a value
            continue
        return Mutated(f"{kind[0]}.{name}", content, True)
    return in_bytes(data, random)


def _attributes(node: Any) -> Any:
    for name, value in vars(node).items():
        if value is not None:
            yield node, name
        for each in value if isinstance(value, list) else [value]:
            if hasattr(each, "__dict__") and not isinstance(each, type):
                yield from _attributes(each)


def in_hdf5(data: bytes, random: Random) -> Mutated:
    """HDF5 file of Keras -> arrays or attributes that are removed, renamed, of another type or shape, or links."""
    import h5py

    stream = io.BytesIO(data)
    with h5py.File(stream, "r+") as file:
        arrays: list[str] = []
        groups: list[str] = []
        file.visititems(lambda name, node: (arrays if isinstance(node, h5py.Dataset) else groups).append(name))
        array, group = pick(random, arrays), pick(random, groups)
        shape, kind, values = file[array].shape, file[array].dtype, file[array][()]
        action = pick(
            random, ("removed", "moved", "type", "shape", "huge", "link", "attribute", "name", "values", "virtual")
        )
        if action == "removed":
            del file[pick(random, (array, group))]
        elif action == "moved":
            file.move(array, f"{group}/{pick(random, ('0', 'x', '99'))}{random.integers(9)}")
        elif action == "attribute":
            file[pick(random, (array, group))].attrs[pick(random, ("name", "dtype", "x"))] = pick(
                random, ("", "bfloat16", "x" * 1000, 3, np.zeros(5), "conv2d", np.bytes_(b"\xff\xfe"))
            )
        elif action == "name":
            named = [each for each in groups if "name" in file[each].attrs]
            if named:
                file[pick(random, named)].attrs["name"] = file[pick(random, named)].attrs["name"]
        elif action == "values":
            file[array][...] = np.asarray(pick(random, (np.nan, np.inf, 0, 1e30))).astype(kind)
        else:
            del file[array]
            if action == "type":
                other = pick(random, ("float16", "float64", "int8", "uint64", "S4", "complex64", h5py.string_dtype()))
                file.create_dataset(array, shape, other)
            elif action == "shape":
                file[array] = values.reshape(-1) if random.integers(2) else np.zeros((2, *shape), kind)
            elif action == "huge":
                file.create_dataset(array, (10**6, 10**6), kind, chunks=(1, 1000))
            elif action == "link":
                link = pick(
                    random, (h5py.SoftLink("/" + arrays[0]), h5py.ExternalLink("/etc/passwd", "/x"), file[group])
                )
                file[array] = link
            else:
                layout = h5py.VirtualLayout(shape, kind)
                layout[...] = h5py.VirtualSource("x.h5", "a", shape)
                file.create_virtual_dataset(array, layout)
    return Mutated(action, stream.getvalue(), True)
