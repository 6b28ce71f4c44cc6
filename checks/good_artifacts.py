"""Good artifacts of random networks and options: `export` must write them, and `verify` must accept them.

The networks are narrow ResNets of both families with random weights and BatchNorm statistics. So that their answers
vary as those of a trained network do, the last layer is fitted: by least squares on the features of pictures of random
classes, each class a picture of its own that is mixed with others; the logits are then 2 to 8 for the right class.
"""

import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PICTURES = 64  # for calibration and verification
# Checks by which `export` refuses a network that loses too much in integers, as it must.
LOSSES = ("unexplained variance", "top-1 agreement", "mean error")
FORMATS_OF_A_NETWORK = 3  # formats in which each network is written
TASKS = ("classify", "classify", "classify", "tag", "regress", "embed", "segment")
ACTIVATIONS = {"classify": "softmax", "tag": "sigmoid", "segment": "softmax", "regress": None}


def pictures(random: np.random.Generator, size: int, classes: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """-> pixels uint8 `[count, size, size, 3]`, classes `[count]`."""
    from keras_resnet.export.images import synthetic_images

    shape = (size, size, 3)
    prototypes = synthetic_images(shape, count=classes, seed=int(random.integers(2**31))).astype("float32")
    others = synthetic_images(shape, count=count, seed=int(random.integers(2**31))).astype("float32")
    labels = random.integers(classes, size=count)
    share = random.uniform(0.2, 0.6, (count, 1, 1, 1))
    mixed = (1 - share) * prototypes[labels] + share * others
    return mixed.round().clip(0, 255).astype("uint8"), labels


def fill(model: Any, random: np.random.Generator) -> None:
    """Random weights and statistics under which activations stay bounded."""
    for layer in model.layers:
        for variable in layer.weights:
            shape, kind = tuple(variable.shape), variable.name
            if kind == "gamma":
                low, high = (0.2, 0.5) if layer.name.endswith(("_2_bn", "_3_bn")) else (0.7, 1.3)
                values = random.uniform(low, high, shape)
            elif kind == "moving_variance":
                values = random.uniform(0.5, 2.0, shape)
            elif kind in ("beta", "moving_mean", "bias"):
                values = random.normal(0, 0.2, shape)
            else:
                values = random.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
            variable.assign(values.astype("float32"))


def network_of(random: np.random.Generator, task: str) -> tuple[Any, np.ndarray, int]:
    """-> network, pictures, number of classes."""
    import keras

    from keras_resnet import layer_names
    from keras_resnet.backbone import resnet_backbone
    from keras_resnet.heads.classification import classification_head
    from keras_resnet.heads.segmentation import segmentation_head
    from keras_resnet.preprocessing import normalisation_layer
    from keras_resnet.variants import CIFAR, IMAGENET, VARIANTS

    cifar = bool(random.integers(2)) and task != "segment"
    design = replace(CIFAR if cifar else IMAGENET, filters=int(random.integers(2, 9)))
    variant = replace(VARIANTS["resnet20" if cifar else "resnet18"], design=design)
    classes, size = int(random.integers(2, 21)), int(random.choice([32, 48, 64] if not cifar else [24, 32]))
    blocks = tuple(int(random.integers(1, 3)) for _ in variant.blocks_per_stage)
    variant = replace(variant, blocks_per_stage=blocks)
    image = keras.Input((size, size, 3), name=layer_names.IMAGE)
    stride = 8 if task == "segment" else design.output_strides[-1]
    x = list(resnet_backbone(normalisation_layer(3)(image), variant, stride).values())[-1]
    if task == "embed":
        answer = keras.layers.GlobalAveragePooling2D(name=layer_names.POOL)(x)
    elif task == "segment":
        answer = segmentation_head(x, image, classes, "softmax")
    else:
        answer = classification_head(x, classes, ACTIVATIONS[task])
    model = keras.Model(image, answer, name=variant.name)
    fill(model, random)
    pixels, labels = pictures(random, size, classes, PICTURES)
    if task != "embed":
        fit_last(model, pixels, labels, classes, random)
    return model, pixels, classes


def fit_last(model: Any, pixels: np.ndarray, labels: np.ndarray, classes: int, random: np.random.Generator) -> None:
    """Fits the last layer with a kernel, so that answers vary with the picture."""
    import keras

    from keras_resnet import layer_names

    logits = model.get_layer(layer_names.LOGITS)
    features = np.asarray(keras.Model(model.input, logits.input)(pixels.astype("float32")), "float64")
    kernel, bias = (variable.numpy().astype("float64") for variable in logits.weights)
    high = float(random.uniform(2, 8))
    if features.ndim == 4:  # of pixels: random directions, whose answers are centred and have this spread
        flat = features.reshape(-1, features.shape[-1])
        spread = (flat @ kernel[0, 0]).std(0) + 1e-6
        kernel = kernel / spread * high / 2
        bias = -(flat @ kernel[0, 0]).mean(0)
    else:
        wanted = high * (2 * np.eye(classes)[labels] - 1) / 2
        mean = features.mean(0)
        centred = features - mean
        ridge = 1e-2 * np.trace(centred.T @ centred) / len(mean) + 1e-9
        kernel = np.linalg.solve(centred.T @ centred + ridge * np.eye(len(mean)), centred.T @ wanted)
        bias = wanted.mean(0) - mean @ kernel
    logits.set_weights([kernel.astype("float32"), bias.astype("float32")])


def options_of(random: np.random.Generator, task: str, formats: list[str], kernels: list[str]) -> Any:
    """-> options, each with a chance of one in three, of which at least one format takes each."""
    from keras_resnet.export.formats import CHOICES, Options, takers_of

    given: dict[str, Any] = {}
    for name, values in CHOICES.items():
        if name == "argmax" and task != "segment":
            continue
        if name == "output_dtype" and task not in ("classify", "tag", "segment"):
            continue
        allowed = [v for v in values if name != "opset" or v >= 13]
        if random.integers(3) == 0 and (name == "argmax" or any(f in takers_of(name) for f in formats)):
            given[name] = allowed[int(random.integers(len(allowed)))]
    if given.get("argmax"):
        given.pop("output_dtype", None)
    if task != "classify":  # the SavedModels of other tasks have no signature for image files
        given.pop("default_signature", None)
    if random.integers(6) == 0 and any(f in takers_of("keep_float") for f in formats) and kernels:
        given["keep_float"] = [kernels[int(random.integers(len(kernels)))]]
    return Options(**given)


def one_network(seed: int, chosen: tuple[str, ...]) -> list[dict[str, Any]]:
    """Seed -> what became of each artifact of its network."""
    from planted_faults import judged

    from keras_resnet.errors import KerasResnetError
    from keras_resnet.export import export
    from keras_resnet.export.fold import fold
    from keras_resnet.export.formats import FORMATS, all_formats
    from keras_resnet.export.prepare import checked, prepare
    from keras_resnet.loading import open_network
    from keras_resnet.model_files import save_model
    from keras_resnet.tasks.outputs import Stated
    from keras_resnet.variants import InputContract, WholeImage

    random = np.random.default_rng([seed, 7])
    task = TASKS[int(random.integers(len(TASKS)))]
    model, pixels, classes = network_of(random, task)
    count = min(FORMATS_OF_A_NETWORK, len(chosen or all_formats()))
    formats = [str(name) for name in random.choice(list(chosen or all_formats()), count, replace=False)]
    size = pixels.shape[1]
    contract = WholeImage(size, size) if task == "segment" else InputContract(size, size)
    names = [f"thing {index}" for index in range(classes)] if task in ("classify", "tag", "segment") else None
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "pictures").mkdir()
        for number, picture in enumerate(pixels):
            Image.fromarray(picture).save(folder / "pictures" / f"{number:03d}.png")
        stated = checked(model, task, None)
        kernels = [layer.name for layer in fold(prepare(stated, contract)).layers if hasattr(layer, "kernel")]
        options = options_of(random, task, formats, kernels[:-1])
        file = folder / "model.keras"
        save_model(stated, file, names, contract)
        network, read_contract = open_network(str(file), None, Stated(task, None))
        about = {"seed": seed, "task": task, "classes": classes, "size": size, "options": options.given()}
        for name in formats:
            start = time.perf_counter()
            takes = {
                k: v
                for k, v in options.given().items()
                if k in FORMATS[name].options or (k == "argmax" and name != "tflite-int16x8")
            }
            try:
                made = export(
                    network,
                    folder / "out",
                    [name],
                    calibration=str(folder / "pictures"),
                    class_names=names,
                    contract=read_contract,
                    options=replace(type(options)(), **takes),
                    overwrite=True,
                )
                failed = judged(made.paths[name], network, str(folder / "pictures"), read_contract)
                step = "verify"
            except KerasResnetError as error:
                failed, step = [str(line).replace(scratch, "").strip()[:300] for line in error.lines], "export"
                losses = [line.startswith(LOSSES) for line in failed[1:]]
                if losses and all(losses) and FORMATS[name].bytes_per_parameter == 1:
                    step = "loss"
            row = {**about, "format": name, "failed": failed, "step": step if failed else None}
            rows.append({**row, "seconds": round(time.perf_counter() - start, 1)})
    return rows


def _work(seed: int, chosen: tuple[str, ...]) -> list[dict[str, Any]]:
    import keras

    from keras_resnet.quiet import quiet_stderr

    keras.backend.clear_session()
    with quiet_stderr():
        try:
            return one_network(seed, chosen)
        except Exception as error:  # noqa: BLE001  reported with its seed
            return [
                {"seed": seed, "format": None, "failed": [f"{type(error).__name__}: {error}"[:300]], "step": "script"}
            ]


def examine_good(count: int, seed: int, jobs: int, chosen: tuple[str, ...] = ()) -> dict[str, Any]:
    """Number of artifacts -> how many were examined, and those that were refused, each with its seed and reason.

    Apart from these stand the networks that lose too much in integers, which `export` refused with the figures.
    """
    import multiprocessing

    networks = -(-count // FORMATS_OF_A_NETWORK)
    start = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, maxtasksperchild=30) as pool:
        results = [pool.apply_async(_work, (seed + number, chosen)) for number in range(networks)]
        rows = [row for result in results for row in result.get()]
    refused = [row for row in rows if row["failed"] and row["step"] != "loss"]
    reasons = Counter(f"{row['step']}: {row['failed'][-1]}"[:120] for row in refused)
    return {
        "examined": len(rows),
        "by_format": dict(Counter(str(row["format"]) for row in rows)),
        "refused": refused,
        "too_lossy_in_integers": [row for row in rows if row["step"] == "loss"],
        "reasons": dict(reasons),
        "seconds": round(time.perf_counter() - start),
    }
