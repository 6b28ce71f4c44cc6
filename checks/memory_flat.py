"""Memory over a long run: training of three epochs, and `predict` on 20,000 images, must not grow with the images.

    python checks/memory_flat.py
    python checks/memory_flat.py --images 2000 --epochs 3 --train-images 640 --out /tmp/memory_flat.json

Each subject is a process of its own: a training run of ResNet-20, and `predict` by a .keras file and by an .onnx file,
each with answers as lines and as a CSV file. Its resident memory is sampled together with the number of images that it
has taken. After a warm-up, a line is fitted through the samples by least squares; its slope, in MB per 1,000 images,
must stay below a bound. Whatever grows faster ends the script with exit status 1.
"""

import multiprocessing
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from keras_resnet.measure.record import write_record

RECORD = Path(__file__).parents[1] / "benchmarks" / "results" / "memory_flat.json"
SIDE, FILES, CLASSES = 32, 64, 4
WARM_UP = 0.4  # share of the images before the first sample that counts: caches fill, and an epoch ends once
SAMPLE_S = 0.1
MB_PER_1000_IMAGES = 1.0  # bound; an answer of 1,000 classes that is kept takes 4 MB per 1,000 images
SUBJECTS = (
    *(("predict", suffix, output) for suffix in (".onnx", ".keras") for output in ("lines", "csv")),
    ("train", "", ""),
)


class Samples:
    """Resident memory and number of images, sampled by a thread until `stop`."""

    def __init__(self) -> None:
        self.images = 0
        self.rows: list[tuple[int, float]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> list[tuple[int, float]]:
        """-> number of images and MB of each sample."""
        self._stopped.set()
        self._thread.join()
        return self.rows

    def _sample(self) -> None:
        while not self._stopped.wait(SAMPLE_S):
            if self.images:
                self.rows.append((self.images, resident_mb()))


def resident_mb() -> float:
    """-> resident memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024 / 1e6


def slope(rows: list[tuple[int, float]]) -> dict[str, float]:
    """Samples of images and MB -> slope after the warm-up, and the memory where the line starts and ends."""
    by_images: dict[int, float] = {}
    for count, mb in rows:
        by_images.setdefault(count, mb)  # one for each count: between epochs, and at the end, files are written
    images, memory = np.array([*by_images.items()], float).T
    counted = images >= WARM_UP * images.max()
    if counted.sum() < 3 or np.ptp(images[counted]) == 0:
        raise typer.BadParameter("the run was too short for three samples; give more images")
    per_image, at_zero = np.polyfit(images[counted], memory[counted], 1)
    first, last = images[counted].min(), images.max()
    return {
        "mb_per_1000_images": round(1000 * float(per_image), 4),
        "first_mb": round(float(at_zero + per_image * first), 1),
        "last_mb": round(float(at_zero + per_image * last), 1),
        "peak_mb": max(mb for _, mb in rows),
        "samples": int(counted.sum()),
        "images": int(images.max()),
    }


# --- subjects, each in its process --------------------------------------------------------------------------------


def make_files(folder: Path) -> None:
    """Writes class folders of images, and a ResNet-20 as .keras and .onnx."""
    from keras_resnet.quiet import import_keras

    import_keras()
    from keras_resnet import ResNet20
    from keras_resnet.export import export
    from keras_resnet.model_files import save_model
    from keras_resnet.variants import InputContract

    draw = np.random.default_rng(0)
    for index in range(FILES):
        path = folder / "images" / f"class{index % CLASSES}" / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(path)
    model = ResNet20(weights=None, classes=CLASSES)
    contract = InputContract(SIDE, SIDE, "bilinear")
    names = [f"class{index}" for index in range(CLASSES)]
    save_model(model, folder / "model.keras", names, contract)
    export(model, folder, ["onnx"], class_names=names, contract=contract)


def predict(folder: Path, samples: Samples, suffix: str, output: str, images: int) -> None:
    """Runs the command `predict` on so many paths of the same files."""
    import keras_resnet.predictor as predictor
    from keras_resnet.cli.main import app

    decode = predictor.decode_image

    def counted(image: Any) -> np.ndarray:
        samples.images += 1
        return decode(image)

    predictor.decode_image = counted  # type: ignore[assignment]
    files = sorted(map(str, (folder / "images").rglob("*.png")))
    listed = folder / f"list{suffix}.{output}.txt"
    listed.write_text("\n".join(files[index % len(files)] for index in range(images)))
    table = ["--csv", str(folder / f"answers{suffix}.csv")] if output == "csv" else []
    app(
        ["predict", "--files-from", str(listed), "--model", str(folder / f"model{suffix}"), *table],
        standalone_mode=False,
    )


def train(folder: Path, samples: Samples, images: int, epochs: int) -> None:
    """Trains for so many epochs on images in memory."""
    from keras_resnet.quiet import import_keras

    import_keras()
    from keras_resnet.training.fit import Listener
    from keras_resnet.training.fit import train as train_run
    from keras_resnet.training.recipe import Recipe

    draw = np.random.default_rng(1)
    data = folder / "train.npz"
    np.savez(
        data,
        x_train=draw.integers(0, 256, (images, SIDE, SIDE, 3), np.uint8),
        y_train=np.arange(images) % CLASSES,
        x_val=draw.integers(0, 256, (FILES, SIDE, SIDE, 3), np.uint8),
        y_val=np.arange(FILES) % CLASSES,
    )
    batch_size = 32
    recipe = Recipe(
        network="resnet20",
        data=str(data),
        size=SIDE,
        crop="padded",
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=0.05,
        warmup_epochs=0.5,
        xla="off",
    )

    def show(standing: Any) -> None:
        samples.images = standing.step * batch_size

    train_run(recipe, folder / "run", Listener(show=show))


def _measured(subject: tuple[str, str, str], folder: Path, answer: Any, counts: tuple[int, int, int]) -> None:
    images, train_images, epochs = counts
    command, suffix, output = subject
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    samples = Samples()
    if command == "train":
        train(folder, samples, train_images, epochs)
    else:
        predict(folder, samples, suffix, output, images)
    answer.send(samples.stop())
    answer.close()


def in_a_process(run: Callable[..., None], *arguments: Any) -> Any:
    """Function, its arguments -> what it sends through the pipe that it gets last but one; None: it sent nothing."""
    context = multiprocessing.get_context("fork")  # this process has not imported TensorFlow
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=run, args=(*arguments[:-1], send, arguments[-1]))
    process.start()
    send.close()
    try:
        return receive.recv()
    except EOFError:
        return None
    finally:
        process.join()


def _make(folder: Path, answer: Any, _: None) -> None:
    make_files(folder)
    answer.send(True)


def main(
    images: Annotated[int, typer.Option(min=500, help="Images of each `predict`.")] = 20_000,
    train_images: Annotated[int, typer.Option(min=64, help="Training images of an epoch.")] = 6_400,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of the training run.")] = 3,
    out: Annotated[Path, typer.Option(help="JSON file for the record.")] = RECORD,
) -> None:
    """Measure how resident memory grows with the images, in a training run and in `predict`."""
    results, grown = {}, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if in_a_process(_make, folder, None) is None:
            raise SystemExit("the files could not be made")
        for subject in SUBJECTS:
            title = " ".join(filter(None, subject))
            rows = in_a_process(_measured, subject, folder, (images, train_images, epochs))
            if rows is None:
                raise SystemExit(f"{title}: ended without an answer")
            results[title] = found = slope(rows)
            if found["mb_per_1000_images"] > MB_PER_1000_IMAGES:
                grown.append(title)
            print(
                f"{title:22} {found['mb_per_1000_images']:8.3f} MB per 1,000 images, {found['first_mb']:.0f} to "
                f"{found['last_mb']:.0f} MB, {found['images']:,} images",
                flush=True,
            )
    settings = {"images": images, "train_images": train_images, "epochs": epochs, "bound": MB_PER_1000_IMAGES}
    write_record(out, "memory_flat", settings, results)
    if grown:
        print(f"memory grows: {', '.join(grown)}")
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
