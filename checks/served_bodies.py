"""Corrupt and hostile requests to `keras-resnet serve`: each must get a 4xx with our text, and the server must live.

    python checks/served_bodies.py model.onnx
    python checks/served_bodies.py model.onnx --count 100 --seed 3 --out /tmp/served_bodies.json

A server is started on this machine. It gets bodies of the kinds in `bodies`, most of them made by a random number
generator from its seed, and after each hundred a good image, whose answer must stay as it was. A status other than 4xx,
an answer without a text, a text with a traceback or a path, and an answer that takes longer than the bound end the
script with exit status 1.
"""

import base64
import io
import json
import re
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import httpx
import numpy as np
import typer
from PIL import Image
from serving_process import Serving

from keras_resnet.measure.record import write_record

LONGEST_S = 30.0
OURS = re.compile(r"[a-z`].{10,600}")  # a sentence, as all errors of the package are
LEAKS = re.compile(r"Traceback|File \"|\.py\b|site-packages")
JSON_TYPE = {"content-type": "application/json"}


class Body(NamedTuple):
    """One request that must be refused."""

    kind: str
    path: str  # `NAME` stands for the name of the model
    content: bytes
    headers: Mapping[str, str] = JSON_TYPE


def bodies(seed: int) -> Iterator[Body]:
    """Seed -> bodies without end, one of each kind in turn."""
    draw = np.random.default_rng(seed)
    while True:
        yield from _fixed_bodies()
        for kind, make in _RANDOM.items():
            yield make(draw)._replace(kind=kind)


def photograph(seed: int = 0) -> bytes:
    """-> JPEG file of a smooth picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def _v1(content: Any) -> Body:
    return Body("", "/v1/models/NAME:predict", content if isinstance(content, bytes) else json.dumps(content).encode())


def _v2(content: Any, **headers: str) -> Body:
    encoded = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Body("", "/v2/models/NAME/infer", encoded, {**JSON_TYPE, **headers})


def _file(encoded: bytes) -> Body:
    return _v1({"instances": [{"b64": base64.b64encode(encoded).decode()}]})


def _tensor(**changed: Any) -> dict[str, Any]:
    tensor = {"name": "image", "shape": [1, 2, 2, 3], "datatype": "UINT8", "data": [*range(12)], **changed}
    return {"inputs": [{key: value for key, value in tensor.items() if value is not None}]}


def _binary(described: Any, rest: bytes, length: str | None = None) -> Body:
    head = json.dumps(described).encode()
    given = {"inference-header-content-length": str(len(head)) if length is None else length}
    return _v2(head + rest, **{**given, "content-type": "application/octet-stream"})


def _png(width: int, height: int, data: bytes = b"\0" * 100) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def _fixed_bodies() -> Iterator[Body]:
    """-> a body of each kind that has nothing random in it."""
    sized = {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 6}}
    for kind, body in (
        ("nothing", _v1(b"")),
        ("no JSON", _v1(b"{'instances': 1}")),
        ("open brackets", _v1(b"[" * 100_000)),
        ("JSON of one number", _v1(b"7")),
        ("JSON with NaN", _v1(b'{"instances": [NaN]}')),
        ("JSON in UTF-16", _v1('{"instances": []}'.encode("utf-16"))),
        ("a JPEG file as the body", Body("", "/v1/models/NAME:predict", photograph(), {"content-type": "image/jpeg"})),
        ("a form", Body("", "/v1/models/NAME:predict", b"a=b", {"content-type": "application/x-www-form-urlencoded"})),
        ("a broken cloud event", _v1(b"\xff")._replace(headers={**JSON_TYPE, "ce-id": "1", "ce-specversion": "9"})),
        ("no instances", _v1({"inputs": []})),
        ("instances that are no list", _v1({"instances": {"b64": ""}})),
        ("zero instances", _v1({"instances": []})),
        ("65 instances", _v1({"instances": [{"b64": ""}] * 65})),
        ("an instance that is a number", _v1({"instances": [3]})),
        ("an instance of None", _v1({"instances": [None]})),
        ("a path as the image", _v1({"instances": [{"b64": "/etc/passwd"}]})),
        ("a path without b64", _v1({"instances": ["/etc/passwd"]})),
        ("an address as the image", _v1({"instances": [{"url": "http://127.0.0.1/"}]})),
        ("b64 of a number", _v1({"instances": [{"b64": 3}]})),
        ("b64 with line breaks", _v1({"instances": [{"b64": "AAAA\nAAAA"}]})),
        ("b64 that is no ASCII", _v1({"instances": [{"b64": "ä"}]})),
        ("an empty file", _file(b"")),
        ("a text as a file", _file(b"<script>alert(1)</script>")),
        ("an SVG file", _file(b'<svg xmlns="http://www.w3.org/2000/svg"/>')),
        ("a bomb of 900 million pixels", _file(_png(30_000, 30_000))),
        ("a PNG file with too few rows", _file(_png(100, 100))),
        ("a picture of no columns", _file(_png(0, 100))),
        ("pixels above 255", _v1({"instances": [[[[1, 2, 300]]]]})),
        ("pixels below 0", _v1({"instances": [[[[1, 2, -3]]]]})),
        ("half a pixel value", _v1({"instances": [[[[1, 2, 0.5]]]]})),
        ("pixels of two channels", _v1({"instances": [[[[1, 2]]]]})),
        ("pixels in ragged rows", _v1({"instances": [[[[1, 2, 3]], [[1, 2, 3], [1, 2, 3]]]]})),
        ("pixels that are text", _v1({"instances": [[[["1", "2", "3"]]]]})),
        ("pixels of 10^400", _v1(b'{"instances": [[[[1' + b"0" * 400 + b", 2, 3]]]]}")),
        ("no pixels", _v1({"instances": [[]]})),
        ("pixels in 40 dimensions", _v1(b'{"instances": [' + b"[" * 40 + b"1" + b"]" * 40 + b"]}")),
        ("V2 without inputs", _v2({})),
        ("V2 with inputs of zeros", _v2({"inputs": [0] * 100_000})),
        ("V2 with two inputs", _v2({"inputs": _tensor()["inputs"] * 2})),
        ("V2 with an unknown input", _v2(_tensor(name="../../etc/passwd"))),
        ("V2 with an unknown datatype", _v2(_tensor(datatype="PICKLE"))),
        ("V2 with another datatype", _v2(_tensor(datatype="INT64"))),
        ("V2 without data", _v2(_tensor(data=None))),
        ("V2 with too few data", _v2(_tensor(data=[1, 2]))),
        ("V2 with a huge shape", _v2(_tensor(shape=[10**9, 10**9, 10**9, 3]))),
        ("V2 with a shape of text", _v2(_tensor(shape=["a"] * 4))),
        ("V2 with a long shape", _v2(_tensor(shape=[1] * 100_000))),
        ("V2 with a shape of three sides", _v2(_tensor(shape=[2, 2, 3]))),
        ("V2 with values above 255", _v2(_tensor(data=[999] * 12))),
        ("V2 with NaN", _v2(b'{"inputs": [{"name": "image", "shape": [1], "datatype": "FP32", "data": [NaN]}]}')),
        ("V2 with an unknown output", _v2({**_tensor(), "outputs": [{"name": "weights"}]})),
        ("V2 with many outputs", _v2({**_tensor(), "outputs": [{"name": "x"}] * 1000})),
        ("V2 binary, a negative length", _binary({"inputs": [sized]}, b"\0" * 6, "-5")),
        ("V2 binary, a length of text", _binary({"inputs": [sized]}, b"\0" * 6, "0x10")),
        ("V2 binary, no inputs", _binary({}, b"")),
        ("V2 binary, a list", _binary([], b"")),
        ("V2 binary, too short", _binary({"inputs": [sized]}, b"\xff\xff\xff\xff")),
        ("V2 binary, a string of 4 GB", _binary({"inputs": [sized]}, b"\xff\xff\xff\xff\0\0")),
        ("V2 binary, a raw JPEG file", _binary({"inputs": [sized]}, b"\x02\0\0\0\xff\xd8")),
        ("an unknown model", _v1({})._replace(path="/v1/models/other:predict")),
        ("a path in place of a model", _v1({})._replace(path="/v1/models/..%2f..%2fetc%2fpasswd:predict")),
        ("an unknown version", _v2(_tensor())._replace(path="/v2/models/NAME/versions/99/infer")),
        ("unloading a model", _v1({})._replace(path="/v2/repository/models/NAME/unload")),
        ("an explanation", _v1({})._replace(path="/v1/models/NAME:explain")),
        ("a long name", _v1({})._replace(path=f"/v1/models/{'x' * 5000}:predict")),
    ):
        yield body._replace(kind=kind)


def _torn(draw: np.random.Generator) -> Body:
    encoded = photograph(int(draw.integers(1000)))
    return _file(encoded[: int(draw.integers(1, len(encoded) // 2))])


def _noise(draw: np.random.Generator) -> Body:
    return _file(draw.bytes(int(draw.integers(1, 100_000))))


def _head_of_noise(draw: np.random.Generator) -> Body:
    return _file([b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF"][draw.integers(4)] + draw.bytes(2000))


def _json_with_wrong_bytes(draw: np.random.Generator) -> Body:
    content = bytearray(_file(photograph()).content)
    content[int(draw.integers(10, len(content) - 5))] = int(draw.choice(bytearray(b'"{}[]\\\xff\0')))
    return _v1(bytes(content))


def _cut_json(draw: np.random.Generator) -> Body:
    content = json.dumps(_tensor()).encode()
    return _v2(content[: int(draw.integers(1, len(content) - 1))])


def _tensor_with_wrong_shape(draw: np.random.Generator) -> Body:
    shape = [int(side) for side in draw.integers(-3, 50, int(draw.integers(1, 7)))]
    return _v2(_tensor(shape=[*shape, 5]))  # the last side is the number of channels


def _wrong_binary(draw: np.random.Generator) -> Body:
    tensor = {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 100}}
    return _binary({"inputs": [tensor]}, b"\xff" + draw.bytes(99))


_RANDOM: dict[str, Callable[[np.random.Generator], Body]] = {
    "a torn JPEG file": _torn,
    "noise as a file": _noise,
    "the head of an image, then noise": _head_of_noise,
    "JSON with a wrong byte": _json_with_wrong_bytes,
    "JSON that is cut off": _cut_json,
    "a tensor of random shape": _tensor_with_wrong_shape,
    "V2 binary, noise": _wrong_binary,
}


def wrong_with(status: int, text: str, seconds: float) -> str | None:
    """Status, body and time of an answer to one of `bodies` -> what is wrong with it."""
    if not 400 <= status < 500:
        return f"status {status}: {text[:200]}"
    try:
        told = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return f"no text of ours: {text[:200]}"
    if not OURS.fullmatch(told) or LEAKS.search(told):
        return f"the text {told[:300]!r}"
    return f"{seconds:.1f} s" if seconds > LONGEST_S else None


def main(
    artifact: Annotated[Path, typer.Argument(help="Artifact of a classifier.")],
    count: Annotated[int, typer.Option(help="Number of bodies.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the random bodies.")] = 0,
    out: Annotated[Path | None, typer.Option(help="File for the record.")] = None,
) -> None:
    kinds, wrong, longest_s = Counter[str](), [], 0.0
    with Serving([f"model={artifact}"]) as serving, httpx.Client(base_url=serving.address, timeout=120) as client:

        def answer_to_a_good_image() -> str:
            good = _file(photograph())
            response = client.post(good.path.replace("NAME", "model"), content=good.content, headers=good.headers)
            return f"{response.status_code} {response.text}"

        expected = answer_to_a_good_image()
        for number, body in zip(range(count), bodies(seed), strict=False):
            start = time.perf_counter()
            try:
                path = body.path.replace("NAME", "model")
                response = client.post(path, content=body.content, headers=body.headers)
                problem = wrong_with(response.status_code, response.text, time.perf_counter() - start)
            except httpx.HTTPError as error:
                problem = f"no answer: {error!r}"
            longest_s = max(longest_s, time.perf_counter() - start)
            kinds[body.kind] += 1
            if problem:
                wrong.append(f"{body.kind}: {problem}")
            if number % 100 == 99 and answer_to_a_good_image() != expected:
                wrong.append(f"after {body.kind}: another answer to a good image")
        peak_mb = serving.peak_mb()
    if "Traceback" in serving.errors:
        wrong.append(f"the server's log has a traceback: {serving.errors[-2000:]}")
    results = {
        "bodies": count,
        "kinds": len(kinds),
        "wrong": len(wrong),
        "longest_s": round(longest_s, 2),
        "peak_mb": round(peak_mb),
    }
    print("\n".join(wrong))
    print(f"{count} bodies of {len(kinds)} kinds: {len(wrong)} wrong, the longest answer {longest_s:.2f} s")
    if out is not None:
        write_record(out, "served_bodies", {"count": count, "seed": seed}, results)
    if wrong or not expected.startswith("200"):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
