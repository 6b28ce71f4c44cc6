"""The kinds of files that this package opens: a whole file of each, how it is mutated, and the reader that opens it."""

import contextlib
import functools
import io
import json
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from mutations import (
    Mutated,
    Mutator,
    Random,
    in_bytes,
    in_flatbuffer,
    in_hdf5,
    in_jpeg,
    in_json,
    in_npy,
    in_pickle,
    in_png,
    in_protobuf,
    in_safetensors,
    in_text,
    in_tiff,
    in_zip,
    one_of,
)
from PIL import Image

SIZE = 16  # pixels a side of the network's input
CLASSES = ("cat", "dog", "owl")
DELETED = 20  # of so many mutations of a folder, one deletes a file


@dataclass(frozen=True)
class Kind:
    """A kind of files."""

    make: Callable[[Path], Path]  # new folder -> a whole file or folder of the kind
    use: Callable[[Path], Any]  # path -> what the package makes of it: arrays, texts, and lists of them
    mutators: Mapping[str, Mutator] = field(
        default_factory=lambda: {"": in_bytes}
    )  # end of a file's name -> its mutator
    share: float = 1.0  # of the mutations, next to the other kinds: less where a reader is slow
    sums: bool = False  # whether sums in the file tell damage, so that only a forged file can give other answers
    seals: bool = False  # whether a forged file gets this package's hash
    native: bool = False  # whether a runtime that trusts its files reads it: it may crash, but only in a child process


def mutate_copy(kind: Kind, whole: Path, number: int, random: Random) -> tuple[Path, Mutated]:
    """Kind, whole file or folder -> a mutated copy beside it, and what was done."""
    copy = whole.with_name(f"{number}-{whole.name}")
    if whole.is_file():
        file = copy
        mutated = _mutator(kind, whole.name)(whole.read_bytes(), random)
    else:
        shutil.copytree(whole, copy)
        suffixes = tuple(kind.mutators)
        files = sorted(file for file in copy.rglob("*") if file.is_file() and file.name.endswith(suffixes))
        file = files[int(random.integers(len(files)))]
        if random.integers(DELETED) == 0:
            file.unlink()
            return copy, Mutated(f"{file.name}: deleted", b"")
        mutated = _mutator(kind, file.name)(file.read_bytes(), random)
        mutated = mutated._replace(name=f"{file.name}: {mutated.name}")
    file.write_bytes(mutated.content)
    if kind.seals and mutated.forged:
        _seal(copy)
    return copy, mutated


def _mutator(kind: Kind, name: str) -> Mutator:
    return next(mutator for suffix, mutator in kind.mutators.items() if name.endswith(suffix))


def _seal(path: Path) -> None:
    from keras_resnet.errors import ExportError
    from keras_resnet.export.integrity import seal

    with contextlib.suppress(ExportError):  # the mutation took the room of the hash
        seal(path)


# --- whole files --------------------------------------------------------------------------------------------------


def tiny_classifier() -> Any:
    """-> a classifier of one residual block, all weights from a seed."""
    import keras

    from keras_resnet.blocks import basic_block, conv_bn
    from keras_resnet.heads.classification import classification_head
    from keras_resnet.preprocessing import normalisation_layer

    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = basic_block(
        conv_bn(normalisation_layer(3)(image), 4, 3, stride=2, name="stem"), 8, stride=2, name="stage2_block1"
    )
    return _seeded(keras.Model(image, classification_head(x, len(CLASSES), "softmax"), name="tiny"))


def tiny_resnet18() -> Any:
    """-> ResNet-18 with every layer under its own name, 4 to 32 channels, 10 classes, all weights from a seed."""
    import keras

    from keras_resnet import layer_names
    from keras_resnet.backbone import resnet_backbone
    from keras_resnet.heads.classification import classification_head
    from keras_resnet.preprocessing import normalisation_layer
    from keras_resnet.variants import IMAGENET, VARIANTS

    narrow = replace(VARIANTS["resnet18"], design=replace(IMAGENET, filters=4))
    image = keras.Input((32, 32, 3), name=layer_names.IMAGE)
    x = resnet_backbone(normalisation_layer(3)(image), narrow, IMAGENET.output_stride)["C5"]
    return _seeded(keras.Model(image, classification_head(x, 10, "softmax"), name="resnet18"))


def _seeded(model: Any) -> Any:
    random = np.random.default_rng(4)
    for variable in model.weights:
        spread = np.sqrt(2 / np.prod(variable.shape[:-1])) if len(variable.shape) > 1 else 0.2
        around = 1 if variable.name in ("gamma", "moving_variance") else 0
        variable.assign(np.clip(random.normal(around, spread, variable.shape), around - 0.7, None))
    return model


def torch_tensors() -> dict[str, np.ndarray]:
    """-> the weights of `tiny_resnet18` under torchvision's names."""
    from keras_resnet.variants import VARIANTS
    from keras_resnet.weights import torchvision_names

    model, tensors = tiny_resnet18(), {}
    for name, (layer, variable) in torchvision_names(VARIANTS["resnet18"]).items():
        value = next(np.asarray(v) for v in model.get_layer(layer).weights if v.name == variable)
        axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim)
        tensors[name] = np.ascontiguousarray(value if axes is None else value.transpose(axes))
    return tensors


def _safetensors(folder: Path) -> Path:
    from safetensors.numpy import save_file

    save_file(torch_tensors(), folder / "whole.safetensors", metadata={"format": "pt"})
    return folder / "whole.safetensors"


def _pth(folder: Path, zipped: bool) -> Path:
    import torch

    tensors = {name: torch.from_numpy(value) for name, value in torch_tensors().items()}
    state = {"state_dict": tensors, "epoch": 3, "arch": "resnet18", "best": 71.5}
    torch.save(state, folder / "whole.pth", _use_new_zipfile_serialization=zipped)
    return folder / "whole.pth"


def _keras(folder: Path, network: bool) -> Path:
    from keras_resnet.model_files import save_model
    from keras_resnet.variants import InputContract

    model = tiny_resnet18() if network else tiny_classifier()
    size = model.input_shape[1]
    names = None if network else CLASSES
    save_model(model, folder / "whole.keras", names, InputContract(size, size), task="classify")
    return folder / "whole.keras"


def _weights_h5(folder: Path) -> Path:
    tiny_classifier().save_weights(folder / "whole.weights.h5")
    return folder / "whole.weights.h5"


def _artifact(folder: Path, format_name: str, other_make: bool = False) -> Path:
    from keras_resnet.export import export, pipeline
    from keras_resnet.export.images import synthetic_images
    from keras_resnet.export.to_savedmodel import write_savedmodel

    model, images = tiny_classifier(), synthetic_images((SIZE, SIZE, 3), count=40, seed=5)
    if other_make and format_name == "saved_model":
        write_savedmodel(model, folder / "saved_model", batch_size=None)
        return folder / "saved_model"
    embed = pipeline.embed
    if other_make:
        pipeline.embed = lambda path, description: None
    try:
        made = export(model, folder, [format_name], calibration=images, class_names=None if other_make else CLASSES)
    finally:
        pipeline.embed = embed
    return made.paths[format_name]


def _manifest(folder: Path) -> Path:
    from keras_resnet.export.manifest import FILE_NAME

    exported = folder / "exported"
    exported.mkdir()
    _artifact(exported, "onnx")
    assert (exported / FILE_NAME).is_file()
    return exported


def picture(random: Random, mode: str = "RGB", size: int = 24) -> Image.Image:
    """-> a smooth picture with some noise."""
    ramp = np.linspace(0, 200, size)[:, None, None] + np.linspace(0, 40, size)[None, :, None]
    return Image.fromarray(np.uint8(ramp + random.integers(0, 16, (size, size, 3)))).convert(mode)


def _picture(folder: Path, suffix: str, mode: str = "RGB", **options: Any) -> Path:
    if suffix == ".heic":
        from keras_resnet.image_files import reads_heic

        reads_heic()
    path = folder / f"picture{suffix}"
    picture(np.random.default_rng(1), mode).save(path, **options)
    return path


def _class_folders(folder: Path) -> Path:
    random = np.random.default_rng(2)
    for name in CLASSES:
        (folder / "images" / name).mkdir(parents=True)
        for index in range(4):
            picture(random, size=9).save(folder / "images" / name / f"{index}.png")
    return folder / "images"


def _listed(folder: Path) -> list[tuple[str, str]]:
    """-> files of new class folders, from the folder above, with their classes."""
    images = _class_folders(folder)
    return [(str(file.relative_to(folder)), file.parent.name) for file in sorted(images.rglob("*.png"))]


def _csv(folder: Path, several: bool) -> Path:
    rows = [("file", "labels" if several else "label", "split", "note")]
    for index, (file, name) in enumerate(_listed(folder)):
        rows.append(
            (file, f"{name}|{CLASSES[index % 3]}" if several else name, ("train", "val")[index % 4 == 0], '"a, b"')
        )
    (folder / "labels.csv").write_text("".join(",".join(row) + "\n" for row in rows))
    return folder / "labels.csv"


def _coco(folder: Path) -> Path:
    listed = _listed(folder)
    content = {
        "images": [{"id": i, "file_name": file, "width": 9, "height": 9} for i, (file, _) in enumerate(listed)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": CLASSES.index(name), "bbox": [1, 2, 3, 4]}
            for i, (_, name) in enumerate(listed)
        ],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    return folder / "coco.json"


def _label_studio(folder: Path) -> Path:
    content = [
        {
            "id": index,
            "data": {"image": file},
            "annotations": [{"result": [{"type": "choices", "from_name": "c", "value": {"choices": [name]}}]}],
        }
        for index, (file, name) in enumerate(_listed(folder))
    ]
    (folder / "tasks.json").write_text(json.dumps(content))
    return folder / "tasks.json"


def _masked(folder: Path) -> Path:
    random = np.random.default_rng(3)
    root = folder / "masked"
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for index in range(6):
        picture(random, size=9).save(root / "images" / f"{index}.png")
        Image.fromarray(random.integers(0, 3, (9, 9), np.uint8)).save(root / "masks" / f"{index}.png")
    (root / "classes.csv").write_text("name,red,green,blue\nroad,128,0,0\ntree,0,128,0\nvoid,0,0,0\n")
    return root


def _packed(folder: Path) -> Path:
    from keras_resnet.packing import pack

    with contextlib.redirect_stdout(io.StringIO()):
        pack(_class_folders(folder), folder / "packed")
    return folder / "packed"


def _npz(folder: Path) -> Path:
    random = np.random.default_rng(4)
    arrays = {f"x_{split}": random.integers(0, 256, (6, 9, 9, 3), np.uint8) for split in ("train", "val")}
    labels = {f"y_{split}": np.arange(6) % 3 for split in ("train", "val")}
    np.savez(folder / "arrays.npz", **(arrays | labels))  # type: ignore[arg-type]  # arrays by name
    return folder / "arrays.npz"


def _list(folder: Path) -> Path:
    (folder / "paths.txt").write_text("".join(f"{folder / file}\n" for file, _ in _listed(folder)))
    return folder / "paths.txt"


def _recipe(folder: Path) -> Path:
    from keras_resnet.training.recipe import Recipe

    recipe = Recipe(network="resnet20", size=32, epochs=4, progressive_sizes=(16, 24), data="images")
    (folder / "recipe.toml").write_text(recipe.to_toml())
    return folder / "recipe.toml"


def _run(folder: Path) -> Path:
    from keras_resnet.training.checkpoint import TrainingProgress, save_checkpoint
    from keras_resnet.training.run_directory import write_history
    from keras_resnet.variants import InputContract

    _class_folders(folder)
    run = folder / "run"
    run.mkdir()
    recipe = _recipe(run).read_text().replace('data = "images"', f'data = "{folder / "images"}"')
    kept = [line for line in recipe.splitlines() if not line.startswith("validation_split")]  # of an earlier version
    (run / "recipe.toml").write_text("\n".join([*kept, ""]))
    (run / "data.json").write_text(json.dumps({"train": {"count": 9}, "val": {"validation": "its own", "count": 3}}))
    row = {"epoch": 1, "step": 3, "loss": 1.5, "val_loss": 1.25, "val_top1_percent": 50.0}
    progress = TrainingProgress(
        step=4,
        epoch=1,
        batch=1,
        best_epoch=1,
        history=[row],
        fingerprint="0" * 64,
        contract=asdict(InputContract(32, 32)),
    )
    progress.problems = [("images/x.png", "broken", False)]
    save_checkpoint(run / "checkpoints", _compiled(), progress, keep=2)
    write_history(run, [row])
    return run


@functools.cache
def _compiled() -> Any:
    import keras

    # The name is in the names of the tensors; Keras would count the models of the process in it.
    layers = [keras.Input((4,)), keras.layers.Dense(3, name="logits")]
    model = keras.Sequential(layers, name="of_a_run")
    model.compile("sgd", "mse")
    model.fit(np.zeros((1, 4)), np.zeros((1, 3)), verbose=0)
    return model


# --- readers ------------------------------------------------------------------------------------------------------


def _weights(path: Path) -> list[np.ndarray]:
    from keras_resnet.variants import VARIANTS
    from keras_resnet.weights import load_weights

    load_weights(_receiver(), VARIANTS["resnet18"], path)
    return list(_receiver().get_weights())


_receiver = functools.cache(tiny_resnet18)


def _tensors(path: Path) -> list[Any]:
    from keras_resnet.torch_files import Checkpoint
    from keras_resnet.weight_files import read_weight_file

    content = read_weight_file(path)
    tensors = content.tensors
    if isinstance(content, Checkpoint):
        tensors = {name: stored.read() for name, stored in content.tensors.items()}
    return [part for name, value in tensors.items() for part in (name, value)]


def _answers(path: Path) -> list[Any]:
    from keras_resnet.export.images import synthetic_images
    from keras_resnet.loading import open_predictor

    predictor = open_predictor(str(path), None, threads=1)
    return [*predictor.run(synthetic_images((SIZE, SIZE, 3), count=2, seed=9)).values(), str(predictor.class_names)]


def _printed(path: Path) -> str:
    from keras_resnet.cli.info import info

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        info(path, False)
    text = printed.getvalue().replace(str(path), "")
    return re.sub(r"\d*-?" + re.escape(re.sub(r"^\d+-", "", path.name)), "", text)  # a mutation has its number in front


def _described(path: Path) -> list[Any]:
    return [_printed(path), *_answers(path)]


def _exported(folder: Path) -> list[Any]:
    from keras_resnet.model_folders import artifacts_in

    return [_printed(folder), str(artifacts_in(folder))]


def _image(path: Path) -> np.ndarray:
    from keras_resnet.data.crop import describe_unusual
    from keras_resnet.preprocessing import load_image
    from keras_resnet.variants import InputContract

    pixels = load_image(path, InputContract(8, 8))
    describe_unusual(path.read_bytes())
    return pixels


def _data(path: Path) -> list[Any]:
    from keras_resnet.errors import ImageError
    from keras_resnet.tasks.sources import open_split

    found: list[Any] = []
    for source in open_split(path, "all"):
        found += [str(source.classes), str([name.replace(str(path), "") for name in source.names])]
        for index in range(min(source.count, 50)):
            try:
                decoded = source.decode(index)
                found += [decoded.pixels, np.asarray(decoded.target)]
            except ImageError:  # the commands count these and name them
                found.append("unreadable")
    return found


def _paths(path: Path) -> list[str]:
    from keras_resnet.cli.images import list_or_name, paths_in

    with contextlib.redirect_stderr(io.StringIO()):
        paths, failed = list_or_name(paths_in(str(path)))
    return [*map(str, paths), *(name for name, _ in failed)]


def _read_recipe(path: Path) -> str:
    from keras_resnet.training.recipe import read_recipe

    return repr(_named_by_its_file(lambda: read_recipe(path), path))


def _named_by_its_file(read: Callable[[], Any], path: Path) -> Any:
    """Calls `read`. A command has one recipe, which some messages call by that word instead of its name."""
    from keras_resnet.errors import ArgumentError

    try:
        return read()
    except ArgumentError as error:
        raise ArgumentError(str(error).replace("the recipe's", f"{path}:", 1)) from error


def _progress(run: Path) -> list[Any]:
    from keras_resnet.training.checkpoint import load_checkpoint, read_progress
    from keras_resnet.training.fit import recipe_of_run
    from keras_resnet.training.run_directory import write_history
    from keras_resnet.variants import contract_of_fields

    recipe = _named_by_its_file(lambda: recipe_of_run(run), run)
    checkpoint, progress, damaged = read_progress(run / "checkpoints")
    # `train --resume` refuses a checkpoint without a contract.
    contract = contract_of_fields(progress.contract) if progress.contract else None
    load_checkpoint(checkpoint, _compiled(), progress)
    write_history(run, progress.history)
    return [repr(recipe), repr(progress), repr(contract), str(len(damaged)), *_compiled().get_weights()]


# --- the table ----------------------------------------------------------------------------------------------------


def _onnx_message() -> Any:
    import onnx

    return onnx.ModelProto()


def _savedmodel_message() -> Any:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    return SavedModel()


def _onnx_description(data: bytes, random: Random) -> Mutated:
    """ONNX file -> the file with a mutated description, whose hash can be made right."""
    from keras_resnet.export.integrity import onnx_with_room

    message = _onnx_message()
    message.ParseFromString(data)
    stated = next(prop for prop in message.metadata_props if prop.key == "keras_resnet.description")
    name, text, _ = in_json(stated.value.encode(), random)
    stated.value = text.decode("utf-8", "replace")
    return Mutated(name, onnx_with_room(message.SerializeToString()), True)


def _of_keras(name: str) -> Mutator:
    if name.endswith(".json"):
        return in_json
    return one_of((1, in_hdf5), (1, in_bytes)) if name.endswith(".h5") else in_bytes


def _of_torch(name: str) -> Mutator:
    return in_pickle if name.endswith(".pkl") else in_bytes


def _of_tflite(name: str) -> Mutator:
    return in_json if name.endswith(".json") else in_text


def _of_npz(name: str) -> Mutator:
    return in_npy


def _image_kind(suffix: str, mutator: Mutator = in_bytes, mode: str = "RGB", **options: Any) -> Kind:
    make = functools.partial(_picture, suffix=suffix, mode=mode, **options)
    return Kind(make, _image, {"": one_of((1, mutator), (1, in_bytes))}, share=0.7)


def _described_kind(format_name: str, mutators: Mapping[str, Mutator], share: float) -> Kind:
    make = functools.partial(_artifact, format_name=format_name)
    return Kind(make, _described, mutators, share=share, sums=True, seals=True)


def _native_kind(format_name: str, mutators: Mapping[str, Mutator], share: float) -> Kind:
    make = functools.partial(_artifact, format_name=format_name, other_make=True)
    return Kind(make, _answers, mutators, share=share, native=True)


_BOTH_TFLITE = {"": one_of((2, in_flatbuffer), (1, in_bytes))}
_BOTH_ONNX = {"": one_of((2, in_protobuf(_onnx_message)), (1, in_bytes))}
_BOTH_SAVED = {".pb": one_of((2, in_protobuf(_savedmodel_message)), (1, in_bytes)), "": in_bytes}
_DESCRIBED_SAVED = {"description.json": in_json, "": in_bytes}
_TABLE = {"": in_text}

KINDS: dict[str, Kind] = {
    "safetensors": Kind(_safetensors, _weights, {"": one_of((3, in_safetensors()), (1, in_bytes))}),
    "safetensors, read alone": Kind(
        _safetensors, _tensors, {"": one_of((3, in_safetensors()), (1, in_bytes))}, share=2
    ),
    "pth": Kind(
        functools.partial(_pth, zipped=True), _tensors, {"": one_of((3, in_zip(_of_torch)), (1, in_bytes))}, share=2
    ),
    "pth of old PyTorch": Kind(
        functools.partial(_pth, zipped=False), _tensors, {"": one_of((1, in_pickle), (1, in_bytes))}
    ),
    "keras, its weights": Kind(
        functools.partial(_keras, network=True),
        _weights,
        {"": one_of((3, in_zip(_of_keras)), (1, in_bytes))},
        share=0.5,
        sums=True,
    ),
    "keras, as a model": Kind(
        functools.partial(_keras, network=False),
        _described,
        {"": one_of((3, in_zip(_of_keras)), (1, in_bytes))},
        share=0.3,
        sums=True,
    ),
    "weights.h5": Kind(_weights_h5, _tensors, {"": one_of((1, in_hdf5), (1, in_bytes))}),
    "tflite": _described_kind("tflite", {"": one_of((3, in_zip(_of_tflite, start=-1)), (1, in_bytes))}, 1.0),
    "onnx": _described_kind("onnx", {"": one_of((3, _onnx_description), (1, in_bytes))}, 1.0),
    "saved_model": _described_kind("saved_model", _DESCRIBED_SAVED, 0.1),
    "manifest": Kind(_manifest, _exported, {"manifest.json": in_json}),
    "tflite of other make": _native_kind("tflite", _BOTH_TFLITE, 0.6),
    "tflite-int8 of other make": _native_kind("tflite-int8", _BOTH_TFLITE, 0.6),
    "onnx of other make": _native_kind("onnx", _BOTH_ONNX, 0.6),
    "saved_model of other make": _native_kind("saved_model", _BOTH_SAVED, 0.05),
    "jpeg": _image_kind(".jpg", in_jpeg),
    "jpeg, progressive, CMYK": _image_kind(".jpg", in_jpeg, "CMYK", progressive=True),
    "png": _image_kind(".png", in_png),
    "png with a palette": _image_kind(".png", in_png, "P"),
    "png of 16 bits": _image_kind(".png", in_png, "I;16"),
    "gif": _image_kind(".gif"),
    "bmp": _image_kind(".bmp"),
    "tiff": _image_kind(".tif", in_tiff, compression="tiff_lzw"),
    "tiff, stored": _image_kind(".tif", in_tiff),
    "webp": _image_kind(".webp"),
    "avif": _image_kind(".avif"),
    "heic": _image_kind(".heic"),
    "ppm": _image_kind(".ppm"),
    "csv": Kind(functools.partial(_csv, several=False), _data, _TABLE),
    "csv with several classes": Kind(functools.partial(_csv, several=True), _data, _TABLE),
    "coco": Kind(_coco, _data, {"": in_json}),
    "label studio": Kind(_label_studio, _data, {"": in_json}),
    "images and masks": Kind(_masked, _data, {".png": one_of((1, in_png), (1, in_bytes)), ".csv": in_text}),
    "packed set": Kind(
        _packed, _data, {".json": in_json, ".npz": one_of((3, in_zip(_of_npz)), (1, in_bytes)), "": in_bytes}
    ),
    "npz": Kind(_npz, _data, {"": one_of((3, in_zip(_of_npz)), (1, in_bytes))}),
    "list of paths": Kind(_list, _paths, _TABLE, share=0.5),
    "recipe": Kind(_recipe, _read_recipe, _TABLE),
    "run folder": Kind(
        _run,
        _progress,
        {".toml": in_text, ".json": in_json, ".safetensors": one_of((3, in_safetensors(in_json)), (1, in_bytes))},
    ),
}


def make_all(folder: Path, names: Any) -> dict[str, Path]:
    """Makes a whole file of each kind -> their paths; kinds of an optional package that is not here are left out."""
    made = {}
    for name in names:
        place = folder / name.replace(" ", "-").replace(",", "")
        place.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                made[name] = KINDS[name].make(place)
            except ValueError:
                if name != "heic":
                    raise
    return made
