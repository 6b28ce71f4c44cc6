"""The hostile inputs: how each is made, the command that is given to it, and what must come of it."""

import functools
import io
import json
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from mutated_kinds import CLASSES, SIZE, make_all, picture
from mutations import TEXTS
from PIL import Image

Wanted = Literal["refused", "answered", "either"]
MARKER = "marker"  # a file beside the inputs that code of an input would write
ESCAPES = "\x1b]0;title\x07\x1b[31mred\n100.00 %  forged\u202e"
MARKUP = "[/red][link=https://example.org]here[/link]"
WHOLE = (
    *("keras, as a model", "onnx", "onnx of other make", "tflite of other make", "saved_model of other make"),
    *("packed set", "images and masks", "csv", "run folder", "manifest"),
)


class Input(NamedTuple):
    """One hostile input."""

    kind: str
    name: str
    make: Callable[[Path], Any]  # writes it into a new folder
    command: Sequence[str]  # run in that folder
    wanted: Wanted = "refused"


class Whole(NamedTuple):
    """The whole files from which the inputs are made."""

    root: Path
    paths: Mapping[str, Path]  # by the names of `mutated_kinds.KINDS`
    picture: str
    state: Path  # weights of resnet20, as a NumPy archive

    @property
    def marker(self) -> str:
        return str(self.root / MARKER)


def make_whole(root: Path) -> None:
    """Writes the whole files into a new folder."""
    import keras

    from keras_resnet.models import BUILDERS
    from keras_resnet.variants import VARIANTS
    from keras_resnet.weights import torchvision_names

    paths = make_all(root, WHOLE)
    picture(np.random.default_rng(1)).save(root / "picture.png")
    keras.utils.set_random_seed(3)
    model = BUILDERS["resnet20"](weights=None, classes=10)
    state = {}
    for name, (layer, variable) in torchvision_names(VARIANTS["resnet20"]).items():
        value = next(np.asarray(v) for v in model.get_layer(layer).weights if v.name == variable)
        axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim)
        state[name] = np.ascontiguousarray(value if axes is None else value.transpose(axes))
    np.savez(root / "state.npz", **state)  # type: ignore[arg-type]  # arrays by name
    (root / "whole.json").write_text(json.dumps({name: str(path) for name, path in paths.items()}))


def whole_in(root: Path) -> Whole:
    """Folder that `make_whole` has filled -> its files."""
    paths = {name: Path(path) for name, path in json.loads((root / "whole.json").read_text()).items()}
    return Whole(root, paths, str(root / "picture.png"), root / "state.npz")


def hostile_inputs(whole: Whole) -> list[Input]:
    """-> all of them."""
    groups = (keras_configs, keras_archives, keras_weights, pickles, safetensors_files, onnx_files, descriptions)
    others = (manifests, tflite_files, saved_models, class_folders, tables, packed_sets, special_files, images, texts)
    return [each for group in (*groups, *others) for each in group(whole)]


class Called:
    """An object whose pickle writes the marker when it is loaded."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


# --- .keras files -------------------------------------------------------------------------------------------------


def _members(whole: Whole) -> dict[str, bytes]:
    with zipfile.ZipFile(whole.paths["keras, as a model"]) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _archive(path: Path, members: Sequence[tuple[Any, bytes]], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)


def keras_configs(whole: Whole) -> Iterator[Input]:
    """Configurations that name code, files of others, or too much memory."""
    marker = whole.marker

    def layer(module: str, class_name: str, /, **config: Any) -> Callable[[dict], Any]:
        def change(tree: dict) -> None:
            last = tree["config"]["layers"][-1]
            last.update(module=module, class_name=class_name, registered_name=class_name)
            last["config"] = {"name": last["name"], "trainable": True, "dtype": "float32", **config}

        return change

    def function(module: str, name: str) -> Callable[[dict], Any]:
        named = {"module": module, "class_name": "function", "config": name, "registered_name": "function"}
        return layer("keras.layers", "Activation", activation=named)

    def whole_config(module: str, class_name: str, /, **config: Any) -> Callable[[dict], Any]:
        return lambda tree: {
            "module": module,
            "class_name": class_name,
            "config": config,
            "registered_name": class_name,
        }

    def code(tree: dict) -> None:
        import base64
        import marshal

        compiled = base64.b64encode(marshal.dumps(compile(f"open({marker!r}, 'w')", "x", "eval"))).decode()
        named = {"class_name": "__lambda__", "config": {"code": compiled, "defaults": None, "closure": None}}
        layer("keras.layers", "Lambda", function=named)(tree)

    def compiled(tree: dict) -> None:
        popen = {"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", marker]}}
        tree["compile_config"] = {"optimizer": popen | {"registered_name": "Popen"}, "loss": "x"}

    def nested(tree: dict) -> None:
        tree["config"]["name"] = json.loads("[" * 900 + "]" * 900)

    def dense(tree: dict) -> None:
        for each in tree["config"]["layers"]:
            if each["class_name"] == "Dense":
                each["config"]["units"] = 10**9

    touch = {"args": ["touch", marker]}
    changes: dict[str, Callable[[dict], Any]] = {
        "lambda": code,
        "function os.system": function("os", "system"),
        "function exec": function("builtins", "exec"),
        "function that allows lambdas": function("keras.config", "enable_unsafe_deserialization"),
        "function that allows lambdas, by its source": function(
            "keras.src.saving.serialization_lib", "enable_unsafe_deserialization"
        ),
        "function that downloads": function("keras.utils", "get_file"),
        "function that loads a model": function("keras.saving", "load_model"),
        "function of this package": function("keras_resnet.weight_files", "read_weight_file"),
        "layer Popen": layer("subprocess", "Popen", **touch),
        "model Popen": whole_config("subprocess", "Popen", **touch),
        "model Path": whole_config("pathlib", "Path", args=["x"]),
        "layer of this package": layer("keras_resnet.export.pipeline", "_Maker"),
        "layer TFSMLayer": layer("keras.layers", "TFSMLayer", filepath=str(whole.paths["saved_model of other make"])),
        "layer that reads /etc/passwd": layer("keras.layers", "StringLookup", vocabulary="/etc/passwd"),
        "layer that reads words of /etc/passwd": layer("keras.layers", "TextVectorization", vocabulary="/etc/passwd"),
        "layer JaxLayer": layer("keras.layers", "JaxLayer", call_fn={"module": "os", "class_name": "function"}),
        "layer with a pickle": layer(
            "keras.layers", "TorchModuleWrapper", module=pickle.dumps(Called(marker)).decode("latin-1")
        ),
        "compiled with Popen": compiled,
        "input of 10^18 pixels": lambda tree: tree["config"]["layers"][0]["config"].update(
            batch_shape=[None, 10**9, 10**9, 3]
        ),
        "dense layer of 10^9 units": dense,
        "built for 10^12 features": lambda tree: tree["config"]["layers"][-1].update(
            build_config={"input_shape": [1, 10**12]}
        ),
        "upsampling by 10^6": layer("keras.layers", "UpSampling1D", size=10**6),
        "markup as a class": lambda tree: tree["config"]["layers"][-1].update(class_name=MARKUP),
        "escapes as a name": lambda tree: tree["config"]["layers"][-1].update(class_name=ESCAPES),
        "lists 900 deep": nested,
    }
    answered = ("compiled with Popen", "built for 10^12 features")
    for name, change in changes.items():

        def make(folder: Path, change: Callable[[dict], Any] = change) -> None:
            members = _members(whole)
            tree = json.loads(members["config.json"])
            members["config.json"] = json.dumps(change(tree) or tree).encode()
            _archive(folder / "model.keras", [*members.items()])

        yield Input(
            "keras config", name, make, _predict(whole, "model.keras"), "either" if name in answered else "refused"
        )


def _predict(whole: Whole, model: str) -> list[str]:
    return ["predict", whole.picture, "--model", model]


def keras_archives(whole: Whole) -> Iterator[Input]:
    """Archives with members for other places, too large, twice or linked; and their descriptions."""
    outside = "../../outside"
    link = zipfile.ZipInfo("assets/link")
    link.external_attr = 0o120777 << 16
    extra: dict[str, tuple[list[tuple[Any, bytes]], int, Wanted]] = {
        "member outside": ([(f"{outside}.txt", b"x"), (whole.marker, b"x")], zipfile.ZIP_STORED, "either"),
        "asset outside": ([(f"assets/../../{outside}", b"x"), ("assets/a", b"x")], zipfile.ZIP_STORED, "either"),
        "link as an asset": ([(link, b"/etc"), ("assets/link/x", b"x")], zipfile.ZIP_STORED, "either"),
        "bomb": ([("assets/big", bytes(50_000_000))], zipfile.ZIP_DEFLATED, "refused"),
        "configuration twice": ([("config.json", b"{}")], zipfile.ZIP_STORED, "refused"),
        "member of 10 MB": ([("assets/big", bytes(10_000_000))], zipfile.ZIP_STORED, "either"),
    }
    for name, (members, compression, wanted) in extra.items():

        def make(folder: Path, members: Any = members, compression: int = compression) -> None:
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a name twice
                _archive(folder / "model.keras", [*_members(whole).items(), *members], compression)

        yield Input("keras archive", name, make, _predict(whole, "model.keras"), wanted)

    def config(folder: Path, content: bytes) -> None:
        _archive(folder / "model.keras", [*(_members(whole) | {"config.json": content}).items()])

    deep = functools.partial(config, content=b"[" * 200_000 + b"]" * 200_000)
    yield Input("keras archive", "JSON 200,000 deep", deep, _predict(whole, "model.keras"))
    stated = json.loads(_members(whole)["keras_resnet.json"])
    size = {"size": SIZE, "resize": SIZE, "interpolation": "bilinear"}
    three = len(CLASSES)
    described: dict[str, tuple[Any, Wanted]] = {
        "labels with escapes": (stated | {"labels": [f"{ESCAPES}{i}" for i in range(three)]}, "answered"),
        "labels with markup": (stated | {"labels": [f"{MARKUP}{i}" for i in range(three)]}, "answered"),
        "labels with NUL": (stated | {"labels": [f"a\0{i}" for i in range(three)]}, "answered"),
        "labels with surrogates": (stated | {"labels": [f"\ud800{i}" for i in range(three)]}, "either"),
        "labels of one MB": (stated | {"labels": ["x" * 1_000_000, "b", "c"]}, "answered"),
        "a label more": (stated | {"labels": ["a", "b", "c", "d"]}, "refused"),
        "labels of numbers": (stated | {"labels": [1, 2, 3]}, "refused"),
        "contract of 10,000": (stated | {"contract": size | {"size": 10_000, "resize": 10_000}}, "refused"),
        "contract of NaN": (stated | {"contract": size | {"size": float("nan")}}, "refused"),
        "contract of floats": (stated | {"contract": size | {"size": float(SIZE)}}, "refused"),
        "contract of true": (stated | {"contract": size | {"size": True, "resize": True}}, "refused"),
        "another task": (stated | {"task": "segment"}, "refused"),
        "unknown task": (stated | {"task": MARKUP}, "refused"),
        "unknown version": (stated | {"schema_version": "2"}, "refused"),
        "facts that are a list": (stated | {"task_facts": [1]}, "refused"),
        "JSON 100,000 deep": (b"[" * 100_000, "refused"),
    }
    for name, (content, wanted) in described.items():

        def describe(folder: Path, content: Any = content) -> None:
            member = content if isinstance(content, bytes) else json.dumps(content).encode()
            _archive(folder / "model.keras", [*(_members(whole) | {"keras_resnet.json": member}).items()])

        yield Input("keras description", name, describe, _predict(whole, "model.keras"), wanted)
        if "labels with" in name:
            yield Input("keras description", f"{name}, info", describe, ["info", "model.keras"], wanted)


def keras_weights(whole: Whole) -> Iterator[Input]:
    """HDF5 files whose arrays lie elsewhere, or are larger than the file."""

    def edited(folder: Path, change: Callable[[Any, str], Any]) -> None:
        import h5py

        members = _members(whole)
        stream = io.BytesIO(members["model.weights.h5"])
        with h5py.File(stream, "r+") as file:
            arrays: list[str] = []
            file.visititems(lambda name, node: arrays.append(name) if isinstance(node, h5py.Dataset) else None)
            change(file, next(name for name in arrays if name.startswith("layers")))
        members["model.weights.h5"] = stream.getvalue()
        _archive(folder / "model.keras", [*members.items()])

    def replaced(make: Callable[[Any, str, Any, Any], Any]) -> Callable[[Any, str], None]:
        def change(file: Any, name: str) -> None:
            shape, kind = file[name].shape, file[name].dtype
            del file[name]
            make(file, name, shape, kind)

        return change

    def virtual(file: Any, name: str, shape: Any, kind: Any) -> None:
        import h5py

        layout = h5py.VirtualLayout(shape, kind)
        layout[...] = h5py.VirtualSource("x.h5", "a", shape)
        file.create_virtual_dataset(name, layout)

    def linked(file: Any, name: str, shape: Any, kind: Any) -> None:
        import h5py

        file[name] = h5py.ExternalLink("/etc/passwd", "/x")

    def soft(file: Any, name: str, shape: Any, kind: Any) -> None:
        import h5py

        file[name] = h5py.SoftLink("/layers")

    def external(file: Any, name: str, shape: Any, kind: Any) -> None:
        import h5py

        file.create_dataset(name, shape, kind, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])

    def filled(file: Any, name: str) -> None:
        file[name][...] = np.nan

    def cycle(file: Any, name: str) -> None:
        file["layers/loop"] = file["layers"]

    changes: dict[str, Callable[[Any, str], Any]] = {
        "array in another file": replaced(external),
        "virtual array": replaced(virtual),
        "soft link": replaced(soft),
        "link to another file": replaced(linked),
        "array of 4 TB": replaced(
            lambda file, name, shape, kind: file.create_dataset(name, (10**6, 10**6), kind, chunks=(1, 1000))
        ),
        "cycle": cycle,
        "NaN": filled,
    }
    for name, change in changes.items():
        make = functools.partial(edited, change=change)
        wanted: Wanted = "either" if name in ("cycle", "NaN") else "refused"
        yield Input("keras weights", name, make, _predict(whole, "model.keras"), wanted)


# --- weights of PyTorch's side ------------------------------------------------------------------------------------


def pickles(whole: Whole) -> Iterator[Input]:
    """PyTorch files with objects, odd tensors, odd names."""
    import torch

    def state() -> dict[Any, Any]:
        with np.load(whole.state) as archive:
            return {name: torch.from_numpy(archive[name]) for name in archive.files}

    def zeros(*shape: int) -> Any:
        return torch.zeros(1).as_strided(shape, (0,) * len(shape))

    def cycle() -> dict[str, Any]:
        content: dict[str, Any] = {}
        content["state_dict"] = content
        return content

    called = Called(whole.marker)
    sparse = functools.partial(torch.sparse_coo_tensor, torch.zeros(4, 1, dtype=torch.long), torch.ones(1))
    contents: dict[str, tuple[Callable[[], Any], Wanted]] = {
        "whole": (state, "answered"),
        "object": (lambda: state() | {"x": called}, "refused"),
        "tensor of 57 TB by stride 0": (lambda: state() | {"conv1.weight": zeros(16, 3, 3, 10**11)}, "refused"),
        "tensor of 11 GB by stride 0": (lambda: state() | {"conv1.weight": zeros(16, 3, 3, 2 * 10**7)}, "refused"),
        "11 GB under another name": (lambda: state() | {"x": zeros(16, 3, 3, 2 * 10**7)}, "either"),
        "sparse tensor": (lambda: state() | {"conv1.weight": sparse((16, 3, 3, 3))}, "refused"),
        "tensor without values": (
            lambda: state() | {"conv1.weight": torch.empty((16, 3, 3, 3), device="meta")},
            "refused",
        ),
        "complex tensor": (lambda: state() | {"conv1.weight": state()["conv1.weight"].to(torch.complex64)}, "refused"),
        "whole numbers as keys": (lambda: state() | {3: torch.zeros(1)}, "either"),
        "objects as keys": (lambda: state() | {(1, 2): torch.zeros(1), None: torch.zeros(1)}, "either"),
        "escapes in a name": (lambda: state() | {ESCAPES: torch.zeros(1)}, "either"),
        "markup in a name": (lambda: state() | {MARKUP: torch.zeros(1)}, "either"),
        "20,000 names": (lambda: state() | {f"{'x' * 100}{i}": torch.zeros(1) for i in range(20_000)}, "either"),
        "cycle": (cycle, "refused"),
        "NaN": (lambda: state() | {"conv1.weight": state()["conv1.weight"] * float("nan")}, "refused"),
        "no tensors": (lambda: {"a": 1}, "refused"),
        "a list": (lambda: [1, "a"], "refused"),
    }
    command = ["predict", whole.picture, "--model", "resnet20", "--weights", "weights.pth"]
    for name, (content, wanted) in contents.items():

        def make(folder: Path, content: Callable[[], Any] = content) -> None:
            torch.save(content(), folder / "weights.pth")

        yield Input("pth", name, make, command, wanted)

    def legacy(folder: Path) -> None:
        torch.save(state() | {"x": called}, folder / "weights.pth", _use_new_zipfile_serialization=False)

    def tar(folder: Path) -> None:
        with tarfile.open(folder / "weights.pth", "w") as archive:
            for name in ("sys_info", "pickle", "storages", "tensors"):
                entry = tarfile.TarInfo(name)
                entry.size = len(pickle.dumps(called))
                archive.addfile(entry, io.BytesIO(pickle.dumps(called)))

    def script(folder: Path) -> None:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), folder / "weights.pth")

    yield Input("pth", "pickle", lambda folder: (folder / "weights.pth").write_bytes(pickle.dumps(called)), command)
    yield Input("pth", "object, of old PyTorch", legacy, command)
    yield Input("pth", "tar", tar, command)
    yield Input("pth", "TorchScript", script, command)


def safetensors_files(whole: Whole) -> Iterator[Input]:
    """Headers that lie."""
    from safetensors.numpy import save

    with np.load(whole.state) as archive:
        content = save({name: archive[name] for name in archive.files})
    length = struct.unpack("<Q", content[:8])[0]
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]

    def with_fields(name: str, **fields: Any) -> bytes:
        changed = json.loads(json.dumps(header))
        changed.setdefault(name, {}).update(fields)
        return json.dumps(changed).encode()

    def file(text: bytes, values: bytes = body, stated: int | None = None) -> bytes:
        return struct.pack("<Q", len(text) if stated is None else stated) + text + values

    def nan() -> bytes:
        start = header["bn1.weight"]["data_offsets"][0]
        return body[:start] + struct.pack("<f", float("nan")) + body[start + 4 :]

    plain, first = json.dumps(header).encode(), "conv1.weight"
    end = header[first]["data_offsets"][1]
    twice = plain[:-1] + b"," + json.dumps({first: header["bn1.weight"]}).encode()[1:]
    files: dict[str, tuple[bytes, Wanted]] = {
        "whole": (file(plain), "answered"),
        "overlapping arrays": (
            file(with_fields("bn1.weight", data_offsets=header["bn1.bias"]["data_offsets"])),
            "refused",
        ),
        "negative offset": (file(with_fields(first, data_offsets=[-4, end])), "refused"),
        "offset of 2^63": (file(with_fields(first, data_offsets=[0, 2**63])), "refused"),
        "shape of 2^64": (file(with_fields(first, shape=[2**32, 2**32, 0])), "refused"),
        "header of 2^63 bytes": (file(plain, stated=2**63), "refused"),
        "header of 99 MB": (file(b"{" + b" " * 99_000_000 + b"}", b""), "refused"),
        "name twice": (file(twice), "refused"),
        "metadata of metadata": (file(with_fields("__metadata__", a={"b": 1})), "refused"),
        "no type": (file(with_fields(first, dtype=None)), "refused"),
        "type of 8 bits": (file(with_fields(first, dtype="F8_E4M3")), "refused"),
        "bytes at the end": (file(plain, body + b"x" * 10), "refused"),
        "bytes missing": (file(plain, body[:-4]), "refused"),
        "NaN": (file(plain, nan()), "refused"),
        "JSON 100,000 deep": (file(b"[" * 100_000, b""), "refused"),
        "escapes in a name": (
            file(with_fields(ESCAPES, dtype="F32", shape=[0], data_offsets=[len(body)] * 2)),
            "either",
        ),
        "empty": (b"", "refused"),
    }
    command = ["predict", whole.picture, "--model", "resnet20", "--weights", "weights.safetensors"]
    for name, (data, wanted) in files.items():

        def make(folder: Path, data: bytes = data) -> None:
            (folder / "weights.safetensors").write_bytes(data)

        yield Input("safetensors", name, make, command, wanted)


# --- artifacts ----------------------------------------------------------------------------------------------------


def onnx_files(whole: Whole) -> Iterator[Input]:
    """Graphs that read other files, ask for memory, or have odd names."""
    from onnx import TensorProto, helper, numpy_helper

    def external(location: str, offset: int = 0) -> Callable[[Any], None]:
        def change(model: Any) -> None:
            tensor = next(each for each in model.graph.initializer if each.raw_data)
            length = len(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in {"location": location, "offset": offset, "length": length}.items():
                tensor.external_data.add(key=key, value=str(value))

        return change

    def dims(*sizes: int) -> Callable[[Any], None]:
        def change(model: Any) -> None:
            tensor = model.graph.initializer[0]
            del tensor.dims[:]
            tensor.dims.extend(sizes)

        return change

    def allocate(model: Any) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.array([200_000, 200_000], np.int64), "sides"))
        model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["sides"], ["large"]))
        model.graph.node.insert(1, helper.make_node("ReduceMax", ["large"], ["largest"], keepdims=0))
        output = model.graph.output[0].name
        last = next(node for node in model.graph.node if output in node.output)
        last.output[list(last.output).index(output)] = "before"
        model.graph.node.append(helper.make_node("Add", ["before", "largest"], [output]))

    def custom(model: Any) -> None:
        model.graph.node[0].domain, model.graph.node[0].op_type = "hostile", "Run"

    def renamed(model: Any) -> None:
        old, new = model.graph.input[0].name, f"{MARKUP}{ESCAPES}"
        for node in model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
        model.graph.input[0].name = new

    def loop(model: Any) -> None:
        first, last = model.graph.node[0], model.graph.node[-1]
        first.input[0] = last.output[0]

    def nan(model: Any) -> None:
        tensor = next(each for each in model.graph.initializer if each.data_type == TensorProto.FLOAT)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.nan, tensor.name))

    def described(text: str) -> Callable[[Any], None]:
        return lambda model: model.metadata_props.add(key="keras_resnet.description", value=text)

    changes: dict[str, tuple[Callable[[Any], Any], Wanted]] = {
        "whole": (lambda model: None, "answered"),
        "values of /etc/passwd": (external("/etc/passwd"), "refused"),
        "values above the folder": (external("../../../../../../../../../../etc/passwd"), "refused"),
        "values of a link": (external("link.bin"), "refused"),
        "values of /dev/zero": (external("/dev/zero"), "refused"),
        "values that are missing": (external("missing.bin"), "refused"),
        "values at 2^62": (external("model.onnx", 2**62), "refused"),
        "array of 2^62 values": (dims(2**31, 2**31, 3, 3), "refused"),
        "negative array": (dims(-5, 3, 3, 3), "refused"),
        "160 GB at run time": (allocate, "refused"),
        "unknown operation": (custom, "refused"),
        "markup and escapes as the input": (renamed, "refused"),
        "cycle": (loop, "refused"),
        "NaN": (nan, "either"),
        "description that is no JSON": (described("{"), "refused"),
        "description that is a list": (described("[1, 2]"), "refused"),
        "description 100,000 deep": (described("[" * 100_000), "refused"),
    }
    for name, (change, wanted) in changes.items():

        def make(folder: Path, change: Callable[[Any], Any] = change) -> None:
            import onnx

            (folder / "link.bin").symlink_to("/etc/services")
            model = onnx.load(str(whole.paths["onnx of other make"]))
            change(model)
            (folder / "model.onnx").write_bytes(model.SerializeToString())

        yield Input("onnx", name, make, _predict(whole, "model.onnx"), wanted)


def descriptions(whole: Whole) -> Iterator[Input]:
    """Descriptions that lie, in a file whose hash is right."""
    three = len(CLASSES)
    lies: dict[str, tuple[dict[str, Any], Wanted]] = {
        "labels with escapes": ({"labels": [f"{ESCAPES}{i}" for i in range(three)]}, "answered"),
        "labels with markup": ({"labels": [f"{MARKUP}{i}" for i in range(three)]}, "answered"),
        "labels of another number": ({"labels": ["a"]}, "refused"),
        "classes of another number": ({"output.classes": 7}, "refused"),
        "resize below the crop": ({"input.resize_short_side": 8}, "refused"),
        "crop of 5,000": ({"input.resize_short_side": 5000, "input.centre_crop": 5000}, "refused"),
        "crop without a resize": ({"input.resize_short_side": None}, "refused"),
        "interpolation that is a list": ({"input.interpolation": ["bilinear"]}, "refused"),
        "size of texts": ({"input.size": ["a", 1, 2]}, "refused"),
        "quantization that is a text": ({"quantization": "x"}, "refused"),
        "quantization that is a list": ({"quantization": [1]}, "refused"),
        "output that is a mask": ({"output.name": "mask"}, "refused"),
        "10,000,000 classes": ({"output.name": "mask", "output.classes": 10_000_000}, "refused"),
        "format of TFLite": ({"format": "tflite-int8"}, "refused"),
        "format of TensorFlow": ({"format": "saved_model"}, "refused"),
        "version that is a text": ({"schema_version": "2"}, "refused"),
        "another layout": ({"input.layout": "NCHW"}, "either"),
        "no input": ({"input": None}, "refused"),
        "another task": ({"task": "segment"}, "refused"),
        "facts that are a list": ({"task_facts": [1]}, "refused"),
    }

    def make(folder: Path, lie: dict[str, Any]) -> None:
        import onnx

        from keras_resnet.export.integrity import onnx_with_room, seal

        model = onnx.load(str(whole.paths["onnx"]))
        stated = next(each for each in model.metadata_props if each.key == "keras_resnet.description")
        description = json.loads(stated.value)
        for key, value in lie.items():
            holder, _, field = key.rpartition(".")
            (description[holder] if holder else description)[field] = value
        onnx.helper.set_model_props(model, {"keras_resnet.description": json.dumps(description)})
        (folder / "model.onnx").write_bytes(onnx_with_room(model.SerializeToString()))
        seal(folder / "model.onnx")

    for name, (lie, wanted) in lies.items():
        yield Input("description", name, functools.partial(make, lie=lie), _predict(whole, "model.onnx"), wanted)
    printed: dict[str, dict[str, Any]] = {
        "labels with markup": {"labels": [MARKUP] * three},
        "network with links": {"network": f"{MARKUP}\x1b]8;;https://example.org\x07x"},
        "source with markup": {"weights": {"source": "cats[/b].keras", "repository": None}},
        "hidden licence": {"weights": {"source": "[black on black]x", "licence": "[bold]MIT"}},
        "time with escapes": {"created": ESCAPES},
    }
    for name, lie in printed.items():
        yield Input("description", f"{name}, info", functools.partial(make, lie=lie), ["info", "model.onnx"], "either")


def manifests(whole: Whole) -> Iterator[Input]:
    """Manifests that lie."""
    stated = json.loads((whole.paths["manifest"] / "manifest.json").read_text())
    description = next(iter(stated["artifacts"].values()))["description"]

    def of(file: str, described: Any) -> bytes:
        return json.dumps(
            {"schema_version": 2, "artifacts": {"onnx": {"file": file, "description": described}}}
        ).encode()

    contents: dict[str, tuple[bytes, Wanted]] = {
        "markup as a file": (of("[/red]", description), "either"),
        "escapes as a file": (of(ESCAPES, description), "either"),
        "labels that are a text": (of("m", {"labels": "abc", "x": [1]}), "either"),
        "labels that are numbers": (of("m", {"labels": [1, 2]}), "either"),
        "JSON 100,000 deep": (b"[" * 100_000, "refused"),
        "a list": (b"[1]", "refused"),
        "not UTF-8": (b"\xff\xfe{", "refused"),
        "file outside": (of("../../../../../../etc/passwd", description), "either"),
    }
    for name, (content, wanted) in contents.items():

        def make(folder: Path, content: bytes = content) -> None:
            (folder / "manifest.json").write_bytes(content)

        yield Input("manifest", name, make, ["info", "."], wanted)
    yield Input("manifest", "file outside, benchmark", make, ["benchmark", "."])


def tflite_files(whole: Whole) -> Iterator[Input]:
    """Graphs with odd shapes and indices; archives behind them."""

    def changed(folder: Path, change: Callable[[Any], Any]) -> None:
        from tensorflow.lite.tools import flatbuffer_utils

        model = flatbuffer_utils.read_model(str(whole.paths["tflite of other make"]))
        change(model)
        (folder / "model.tflite").write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))

    def input_shape(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.tensors[graph.inputs[0]].shape = [1, 30_000, 30_000, 3]
        graph.tensors[graph.inputs[0]].shapeSignature = None

    def large(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            if model.buffers[tensor.buffer].data is None:
                tensor.shape = [1, 100_000, 100_000, 64]

    def indices(model: Any) -> None:
        model.subgraphs[0].operators[0].inputs = [10**6] * 3

    def flex(model: Any) -> None:
        code = model.operatorCodes[0]
        code.builtinCode = code.deprecatedBuiltinCode = 32
        code.customCode = b"FlexReadFile"

    changes: dict[str, tuple[Callable[[Any], Any], Wanted]] = {
        "whole": (lambda model: None, "answered"),
        "input of 30,000 x 30,000": (input_shape, "either"),
        "tensors of 2.5 TB": (large, "either"),
        "negative shape": (
            lambda model: setattr(model.subgraphs[0].tensors[3], "shape", [-5, 7, 7, 2**31 - 1]),
            "refused",
        ),
        "tensors that are not there": (indices, "refused"),
        "buffer that is not there": (lambda model: setattr(model.subgraphs[0].tensors[2], "buffer", 10**6), "refused"),
        "operation FlexReadFile": (flex, "refused"),
    }
    for name, (change, wanted) in changes.items():
        make = functools.partial(changed, change=change)
        yield Input("tflite", name, make, _predict(whole, "model.tflite"), wanted)

    def zipped(folder: Path, content: bytes, lie: bool = False) -> None:
        shutil.copy(whole.paths["tflite of other make"], folder / "model.tflite")
        with zipfile.ZipFile(folder / "model.tflite", "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("description.json", content)
        if lie:
            data = bytearray((folder / "model.tflite").read_bytes())
            place = data.rfind(b"PK\x01\x02") + 24
            data[place : place + 4] = struct.pack("<I", 10)
            (folder / "model.tflite").write_bytes(data)

    archives: dict[str, tuple[bytes, bool]] = {
        "description of 16 MB of blanks": (b" " * 15_900_000 + b"1", False),
        "description of 400 MB": (b" " * 400_000_000, False),
        "description of 400 MB that states 10": (b" " * 400_000_000, True),
        "description that is a list": (b"[1, 2]", False),
        "description 100,000 deep": (b"[" * 100_000, False),
    }
    for name, (content, lie) in archives.items():
        make = functools.partial(zipped, content=content, lie=lie)
        yield Input("tflite", name, make, _predict(whole, "model.tflite"))


def saved_models(whole: Whole) -> Iterator[Input]:
    """Graphs that read, write, print, or call Python."""

    def make(folder: Path, body: Callable[[Any], Any]) -> None:
        import tensorflow as tf

        module = tf.Module()

        @tf.function(input_signature=[tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32, name="image")])
        def serve(image: Any) -> Any:
            with tf.control_dependencies([body(tf)]):
                return {"probabilities": tf.ones((tf.shape(image)[0], len(CLASSES))) / len(CLASSES)}

        module.serve = serve
        tf.saved_model.save(module, str(folder / "model"), signatures={"serving_default": serve})

    marker, secret = whole.marker, "/etc/passwd"
    bodies: dict[str, Callable[[Any], Any]] = {
        "WriteFile": lambda tf: tf.raw_ops.WriteFile(filename=marker, contents="x"),
        "ReadFile": lambda tf: tf.raw_ops.ReadFile(filename=secret),
        "MatchingFiles": lambda tf: tf.raw_ops.MatchingFiles(pattern="/etc/*"),
        "PyFunc": lambda tf: tf.py_function(lambda: np.float32(0), [], tf.float32),
        "PrintV2": lambda tf: tf.print(ESCAPES),
        "SaveV2": lambda tf: tf.raw_ops.SaveV2(
            prefix=marker, tensor_names=["a"], shape_and_slices=[""], tensors=[[1.0]]
        ),
        "WriteFile in a branch": lambda tf: tf.cond(
            tf.random.uniform([]) < 2.0,
            lambda: (tf.raw_ops.WriteFile(filename=marker, contents="x"), tf.constant(0))[1],
            lambda: tf.constant(0),
        ),
    }
    for name, body in bodies.items():
        yield Input("saved_model", name, functools.partial(make, body=body), _predict(whole, "model"))
    write = functools.partial(make, body=bodies["WriteFile"])
    yield Input("saved_model", "WriteFile, info", write, ["info", "model"])
    images, model = str(whole.paths["csv"].parent / "images"), str(whole.paths["keras, as a model"])
    yield Input("saved_model", "WriteFile, evaluate", write, ["evaluate", "model", images])
    yield Input("saved_model", "WriteFile, verify", write, ["verify", "model", "--model", model])
    yield Input("saved_model", "WriteFile, benchmark", write, ["benchmark", "model"])


# --- data ---------------------------------------------------------------------------------------------------------


def _folders(folder: Path, names: Sequence[str | bytes] = ("a", "b")) -> Path:
    """-> a new folder of class folders with four images each."""
    random = np.random.default_rng(6)
    for name in names:
        inside = os.path.join(os.fsencode(folder / "images"), name if isinstance(name, bytes) else os.fsencode(name))
        os.makedirs(inside)
        for index in range(4):
            picture(random, size=12).save(os.fsdecode(os.path.join(inside, b"%d.png" % index)))
    return folder / "images"


def class_folders(whole: Whole) -> Iterator[Input]:
    """Names of files and classes that a terminal, a shell or a table would obey."""
    model = str(whole.paths["keras, as a model"])
    names: dict[str, str | bytes] = {
        "escapes": ESCAPES.replace("/", ""),
        "markup": "[red]",
        "bytes that are no UTF-8": b"caf\xe9",
        "end of line": "a\nb",
        "formula": "=cmd|x!A1",
        "mathematics": "$x_{$",
        "superscript": "²",
        "right to left": "\u202ecat",
    }
    for name, hostile in names.items():

        def make(folder: Path, hostile: str | bytes = hostile) -> None:
            _folders(folder, ("a", "b", hostile))
            (folder / "files").mkdir()
            inside = os.path.join(os.fsencode(folder / "files"), os.fsencode(hostile) + b".png")
            shutil.copy(whole.picture, os.fsdecode(inside))

        yield Input("names", f"class of {name}", make, ["data", "check", "images"], "answered")
        yield Input("names", f"file of {name}", make, ["predict", "files", "--model", model], "answered")
        yield Input(
            "names", f"class of {name}, evaluate", make, ["evaluate", model, "images", "--out", "out"], "either"
        )


def tables(whole: Whole) -> Iterator[Input]:
    """CSV files, JSON files and recipes."""
    rows = "".join(f"images/{name}/{index}.png,{name}\n" for name in ("a", "b") for index in range(4))
    contents: dict[str, tuple[str, bytes, Wanted]] = {}

    def csv(name: str, content: str | bytes, wanted: Wanted = "refused") -> None:
        contents[name] = ("data.csv", content.encode() if isinstance(content, str) else content, wanted)

    csv("whole", f"file,label\n{rows}", "answered")
    csv("cells without a header", "foo,bar\n1,2,3\n")
    csv("more cells than headers", f"file,label\n{rows.replace(',a', ',a,c,d')}", "either")
    csv("fewer cells than headers", f"file,label,split\n{rows}", "either")
    csv("NUL in a name", f"file,label\nimages/a/0.png\0z,a\n{rows}", "either")
    csv("cell of 200,000 characters", f"file,label\n{'x' * 200_000},a\n{rows}", "either")
    csv("header of 200,000 characters", f"file,label,{'y' * 200_000}\n{rows}", "either")
    csv("files outside", f"file,label\n/etc/passwd,a\n../../../../../../etc/hostname,b\n{rows}", "either")
    csv("index of 24 digits", f"file,index\nimages/a/0.png,{'9' * 24}\n")
    csv("index of 4,400 digits", f"file,index\nimages/a/0.png,{'9' * 4400}\n")
    csv("negative index", "file,index\nimages/a/0.png,-1\nimages/b/0.png,0\n", "either")
    csv("/dev/zero as an image", f"file,label\n/dev/zero,a\n{rows}", "either")
    csv("UTF-16", "file,label\n".encode("utf-16"))
    csv("escapes as a split", f"file,label,split\nimages/a/0.png,a,{ESCAPES!r}\n", "either")
    csv("header twice", f"file,label,label\n{rows}", "either")
    csv("open quote", f'file,label\n"images/a/0.png,a\n{rows}', "either")
    csv("empty", "")
    csv("lines of NUL", b"\0" * 1000)
    json_files: dict[str, Any] = {
        "COCO without names": {"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1}]},
        "COCO of lists": {"images": [[]], "annotations": [[]], "categories": [[]]},
        "COCO with lists as keys": {"images": [{"id": [1], "file_name": "a"}], "annotations": [], "categories": []},
        "COCO that is empty": {"images": [], "annotations": [], "categories": []},
        "Label Studio of numbers": [{"data": 1, "annotations": 3}],
        "Label Studio with texts as results": [
            {"data": {"image": "images/a/0.png"}, "annotations": [{"result": ["x"]}]}
        ],
        "Label Studio with numbers as choices": [
            {"data": {"image": "images/a/0.png"}, "annotations": [{"result": [{"value": {"choices": [1, [2]]}}]}]}
        ],
        "objects of lists": [{"file": ["x"], "label": {"a": 1}}],
        "number": 3,
    }
    for name, tree in json_files.items():
        contents[name] = ("data.json", json.dumps(tree).encode(), "refused")
    contents["JSON 100,000 deep"] = ("data.json", b"[" * 100_000, "refused")
    contents["JSON that is no UTF-8"] = ("data.json", b'{"a": "\xff"}', "refused")
    for name, (file, content, wanted) in contents.items():
        make = functools.partial(_beside_images, file=file, content=content)
        yield Input("tables", name, make, ["data", "check", file], wanted)
    recipes: dict[str, bytes] = {
        "unknown key with escapes": f"{json.dumps(ESCAPES)} = 1\n".encode(),
        "value with escapes": f"network = {json.dumps(ESCAPES)}\n".encode(),
        "size of 10^30": b"size = 1000000000000000000000000000000\n",
        "batch of 4,400 digits": b"batch_size = " + b"9" * 4400 + b"\n",
        "lists 10,000 deep": b"size = " + b"[" * 10_000 + b"]" * 10_000 + b"\n",
        "tables 10,000 deep": b"[" + b"a." * 10_000 + b"a]\n",
        "not UTF-8": b"\xff\xfe",
        "NaN": b"learning_rate = nan\n",
    }
    for name, content in recipes.items():
        make = functools.partial(_beside_images, file="recipe.toml", content=content)
        yield Input("recipes", name, make, ["train", "recipe.toml", "--data", "images", "--out", "run"])
    names_file = functools.partial(_beside_images, file="names.txt", content=b"caf\xe9\nb\n")
    model = str(whole.paths["keras, as a model"])
    export = ["export", "--model", model, "--formats", "tflite", "--out", "out", "--class-names", "names.txt"]
    yield Input("tables", "class names that are no UTF-8", names_file, export)


def _beside_images(folder: Path, file: str, content: bytes) -> None:
    _folders(folder)
    (folder / file).write_bytes(content)


def packed_sets(whole: Whole) -> Iterator[Input]:
    """Packed sets with damaged descriptions and indices."""

    def described(change: Callable[[dict], Any]) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            content = json.loads((folder / "dataset.json").read_text())
            change(content)
            (folder / "dataset.json").write_text(json.dumps(content))

        return make

    def indexed(column: str, change: Callable[[np.ndarray], Any]) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            with np.load(folder / "index.npz") as archive:
                arrays = dict(archive)
            arrays[column] = np.asarray(change(arrays[column]))
            np.savez(folder / "index.npz", **arrays)

        return make

    def elsewhere(content: dict) -> None:
        size_bytes = os.path.getsize("/etc/passwd")
        content["splits"]["train"]["shards"][0].update(file="/etc/passwd", bytes=size_bytes)

    changes: dict[str, tuple[Callable[[Path], None], Wanted]] = {
        "whole": (lambda folder: None, "answered"),
        "no splits": (described(lambda content: content.pop("splits")), "refused"),
        "classes that are numbers": (described(lambda content: content.update(classes=[1, 2, 3])), "refused"),
        "too few classes": (described(lambda content: content.update(classes=["a"])), "refused"),
        "unknown task": (described(lambda content: content.update(task=MARKUP)), "refused"),
        "shard outside": (described(elsewhere), "refused"),
        "shards of another index": (indexed("train_shard", lambda values: values + 99), "refused"),
        "negative offsets": (indexed("train_offset", lambda values: values - 10**9), "refused"),
        "lengths of 2^40": (indexed("train_length", lambda values: values + 2**40), "refused"),
        "labels of another index": (indexed("train_label", lambda values: values + 99), "refused"),
        "a name less": (indexed("train_name_ends", lambda values: values[:-1]), "refused"),
        "a length less": (indexed("train_length", lambda values: values[:-1]), "refused"),
        "offsets with fractions": (indexed("train_offset", lambda values: values * 1.5), "refused"),
        "labels that are objects": (indexed("train_label", lambda values: np.array([os.system])), "refused"),
        "labels of two dimensions": (indexed("train_label", lambda values: values[:, None]), "refused"),
    }
    for name, (change, wanted) in changes.items():

        def make(folder: Path, change: Callable[[Path], None] = change) -> None:
            shutil.copytree(whole.paths["packed set"], folder / "packed")
            change(folder / "packed")

        yield Input("packed set", name, make, ["data", "check", "packed"], wanted)


# --- files that are no files --------------------------------------------------------------------------------------


def special_files(whole: Whole) -> Iterator[Input]:
    """Pipes, devices and links, among images and where a command writes."""

    def plant(path: Path, what: str) -> None:
        if what == "pipe":
            os.mkfifo(path)
        elif what == "folder":
            path.mkdir()
        elif what == "loop":
            path.symlink_to(path.name)
            (path.parent / "again").symlink_to(".")
        else:
            path.symlink_to(what)

    kinds = {
        "pipe": "pipe",
        "link to /dev/zero": "/dev/zero",
        "folder": "folder",
        "broken link": "/missing",
        "loop": "loop",
    }
    model = str(whole.paths["keras, as a model"])
    for name, what in kinds.items():

        def make(folder: Path, what: str = what) -> None:
            plant(_folders(folder) / "a" / "z.jpg", what)

        def as_model(folder: Path, what: str = what) -> None:
            for suffix in (".keras", ".onnx", ".tflite", ".pth", ".safetensors"):
                plant(folder / f"model{suffix}", what) if what != "loop" else plant(
                    folder / f"model{suffix}", "/missing"
                )

        yield Input("special files", f"{name}, check", make, ["data", "check", "images"], "either")
        yield Input("special files", f"{name}, pack", make, ["data", "pack", "images", "packed"], "either")
        yield Input(
            "special files", f"{name}, predict", make, ["predict", "images/a/z.jpg", "--model", model], "refused"
        )
        for suffix in (".keras", ".onnx", ".tflite"):
            yield Input("special files", f"{name} as {suffix}", as_model, _predict(whole, f"model{suffix}"))
        for suffix in (".pth", ".safetensors"):
            command = ["predict", whole.picture, "--model", "resnet20", "--weights", f"model{suffix}"]
            yield Input("special files", f"{name} as {suffix}", as_model, command)

    def partials(folder: Path) -> None:
        (folder / "out").mkdir()
        for name in ("predictions.csv", "evaluation.json", "manifest.json", "model.onnx", "environment.json"):
            for planted in (f".{name}.partial", f"{name}.partial", f"{name}.unverified"):
                (folder / "out" / planted).symlink_to("../../../../victim")
        _folders(folder, CLASSES)

    evaluate = ["evaluate", model, "images", "--out", "out"]
    yield Input("special files", "links under temporary names, evaluate", partials, evaluate, "either")
    export = ["export", "--model", model, "--formats", "onnx", "--out", "out"]
    yield Input("special files", "links under temporary names, export", partials, export, "either")


def images(whole: Whole) -> Iterator[Input]:
    """Images of many pixels in few bytes."""

    def png(width: int, height: int) -> bytes:
        row, compress = bytes(1 + 3 * width), zlib.compressobj(9)
        body = b"".join([*(compress.compress(row) for _ in range(height)), compress.flush()])
        chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", body), (b"IEND", b""))
        packed = (
            struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
            for name, part in chunks
        )
        return b"\x89PNG\r\n\x1a\n" + b"".join(packed)

    def saved(width: int, height: int, format_name: str, **options: Any) -> bytes:
        stream = io.BytesIO()
        Image.new("RGB", (width, height)).save(stream, format_name, **options)
        return stream.getvalue()

    model = str(whole.paths["keras, as a model"])
    makers: dict[str, tuple[Callable[[], bytes], Wanted]] = {
        "PNG of 13,000 x 13,000": (lambda: png(13_000, 13_000), "either"),
        "PNG of 60,000 x 60,000 by its header": (lambda: png(60_000, 1).replace(*_heights(60_000)), "refused"),
        "PNG of 4,000 x 4,000": (lambda: png(4000, 4000), "answered"),
        "TIFF of 9,000 x 9,000": (lambda: saved(9000, 9000, "TIFF", compression="tiff_deflate"), "either"),
        "PNG of 1 x 60,000": (lambda: saved(1, 60_000, "PNG"), "either"),
        "PNG of one pixel": (lambda: saved(1, 1, "PNG"), "answered"),
        "GIF of 20,000 x 20,000 by its header": (
            lambda: saved(1, 1, "GIF")[:6] + struct.pack("<HH", 20_000, 20_000) + saved(1, 1, "GIF")[10:],
            "either",
        ),
        "text": (lambda: b"no image", "refused"),
        "EPS": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "refused"),
        "SVG": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "refused"),
    }
    for name, (content, wanted) in makers.items():

        def make(folder: Path, content: Callable[[], bytes] = content) -> None:
            (folder / "image.png").write_bytes(content())

        yield Input("images", name, make, ["predict", "image.png", "--model", model], wanted)


def _heights(height: int) -> tuple[bytes, bytes]:
    """-> the header of a PNG of one row, and of one with `height` rows, with their sums."""
    old, new = (b"IHDR" + struct.pack(">IIBBBBB", 60_000, rows, 8, 2, 0, 0, 0) for rows in (1, height))
    return tuple(part + struct.pack(">I", zlib.crc32(part)) for part in (old, new))  # type: ignore[return-value]


def texts(whole: Whole) -> Iterator[Input]:
    """Odd texts as arguments."""
    model = str(whole.paths["keras, as a model"])
    for text in TEXTS:
        if "\0" in text or len(text) > 10_000 or text.startswith(("-", "/dev", "/etc")) or not text.strip():
            continue
        shown = ascii(text)[1:30]
        yield Input("arguments", f"image {shown}", lambda folder: None, ["predict", text, "--model", model])
        yield Input("arguments", f"model {shown}", lambda folder: None, ["predict", whole.picture, "--model", text])
        yield Input("arguments", f"data {shown}", lambda folder: None, ["data", "check", text])
