"""Non-maximum suppression and RoIAlign on 1,000 boxes, beside torchvision's operations, by turns.

Suppression gets random boxes, and boxes that crowd around 50 objects as proposals do. Ours must keep the boxes that
torchvision keeps, and RoIAlign may differ by 1e-3, before they are timed.

    python benchmarks/box_operations.py --out benchmarks/results/box_operations.json
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import typer
from shared import finish

from keras_resnet.measure.latency import call_ms
from keras_resnet.measure.process import in_a_process
from keras_resnet.measure.turns import by_turns, ratio, spread

BOXES, OBJECTS, CLASSES, CHANNELS, SIDE = 1000, 50, 90, 256, 800
STRIDES = (4, 8, 16, 32)
COMPILERS = {"tensorflow": ("tf.function", "tf.function with XLA"), "jax": ("jax.jit",)}


def main(
    out: Annotated[Path | None, typer.Option(help="Record to write.")] = None,
    rounds: int = 15,
    threads: int = os.cpu_count() or 1,
) -> None:
    """Measures both, in a process for each backend."""
    results: dict[str, Any] = {}
    for backend in COMPILERS:
        given = {"backend": backend, "rounds": rounds, "threads": threads}
        results |= in_a_process("box_operations:measured", given, environment={"KERAS_BACKEND": backend})
    finish(out, "box_operations", {"boxes": BOXES, "side": SIDE, "rounds": rounds, "threads": threads}, results)


def measured(backend: str, rounds: int, threads: int) -> dict[str, Any]:
    """Keras backend -> "operation, compiler": milliseconds of ours and of torchvision's, and their ratio by rounds."""
    import torch

    torch.set_num_threads(threads)
    results = {}
    for operation, (ours, arrays, theirs) in {**suppressions(), **alignment()}.items():
        for compiler in COMPILERS[backend]:
            run = compiled(ours, compiler, arrays)
            np.testing.assert_allclose(run(), theirs(), atol=1e-3)
            subjects = {"ours": partial(turn_ms, run), "torchvision": partial(turn_ms, theirs)}
            turns = by_turns(subjects, rounds, lambda line: None)
            results[f"{operation}, {compiler}"] = {
                **{f"{name}_ms": spread(times_ms) for name, times_ms in turns.items()},
                "ours_to_torchvision": ratio(turns["ours"], turns["torchvision"]),
            }
    return results


def turn_ms(run: Callable[[], Any]) -> float:
    """Callable -> milliseconds of its second call, when the caches no longer hold the other's arrays."""
    run()
    return call_ms(run)


def compiled(function: Callable[..., Any], compiler: str, arrays: list[np.ndarray]) -> Callable[[], np.ndarray]:
    """Function of arrays -> function without arguments that returns when its work is done."""
    if compiler == "jax.jit":
        import jax

        on_device = [jax.numpy.asarray(array) for array in arrays]
        jitted = jax.jit(function)
        return lambda: np.asarray(jitted(*on_device))
    import tensorflow as tf

    tensors = [tf.constant(array) for array in arrays]
    graph = tf.function(function, jit_compile="XLA" in compiler)
    return lambda: np.asarray(graph(*tensors))


def suppressions() -> dict[str, tuple[Callable[..., Any], list[np.ndarray], Callable[[], Any]]]:
    """-> by name: our suppression, its arrays, torchvision's; both give which boxes are kept, bool `[BOXES]`."""
    import torch
    from torchvision.ops import batched_nms, nms

    from keras_resnet.boxes import not_suppressed

    random = np.random.default_rng(0)
    scores = np.sort(random.uniform(0.01, 1, BOXES).astype("float32"))[::-1].copy()
    labels = random.integers(0, CLASSES, BOXES).astype("int32")

    def places(kept: Any) -> np.ndarray:
        found = np.zeros(BOXES, bool)
        found[kept.numpy()] = True
        return found

    def ours(boxes: Any, scores: Any) -> Any:
        return not_suppressed(boxes[None], scores[None] > 0, 0.7)[0]

    def ours_by_class(boxes: Any, scores: Any, labels: Any) -> Any:
        return not_suppressed(boxes[None], scores[None] > 0, 0.5, labels[None])[0]

    found: dict[str, Any] = {}
    for name, boxes in (("random", random_boxes(random)), ("crowded", crowded_boxes(random))):
        tensors = [torch.from_numpy(array) for array in (boxes, scores, labels.astype("int64"))]
        theirs = lambda tensors=tensors: places(nms(*tensors[:2], 0.7))  # noqa: E731
        by_class = lambda tensors=tensors: places(batched_nms(*tensors, 0.5))  # noqa: E731
        found[f"suppression, {name} boxes"] = ours, [boxes, scores], theirs
        found[f"suppression by class, {name} boxes"] = ours_by_class, [boxes, scores, labels], by_class
    return found


def alignment() -> dict[str, tuple[Callable[..., Any], list[np.ndarray], Callable[[], Any]]]:
    """-> RoIAlign of 7 x 7 places; both give `[BOXES, 7, 7, CHANNELS]`."""
    import torch
    from torchvision.ops import MultiScaleRoIAlign

    from keras_resnet.detection_layers.roi_align import RoIAlign

    random = np.random.default_rng(1)
    boxes = random_boxes(random)
    maps = [random.normal(size=(1, SIDE // s, SIDE // s, CHANNELS)).astype("float32") for s in STRIDES]
    align = RoIAlign(7)
    names = [str(level) for level in range(len(STRIDES))]
    pool = MultiScaleRoIAlign(names, 7, 2)
    tensors = {
        name: torch.from_numpy(values).permute(0, 3, 1, 2).contiguous()
        for name, values in zip(names, maps, strict=True)
    }

    def theirs() -> Any:
        return pool(tensors, [torch.from_numpy(boxes)], [(SIDE, SIDE)]).permute(0, 2, 3, 1)

    return {"RoIAlign": (lambda boxes, *maps: align([*maps, boxes[None]]), [boxes, *maps], theirs)}


def random_boxes(random: np.random.Generator) -> np.ndarray:
    """-> `[BOXES, 4]` of 8 to 600 pixels."""
    centres = random.uniform(0, SIDE, (BOXES, 2))
    sides = np.exp(random.uniform(np.log(8), np.log(600), (BOXES, 1))) * np.exp(random.normal(0, 0.4, (BOXES, 2)))
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).clip(0, SIDE).astype("float32")


def crowded_boxes(random: np.random.Generator) -> np.ndarray:
    """-> `[BOXES, 4]`, each near one of 50 objects, its edges off by some tenth of the object's sides."""
    objects = random_boxes(random)[random.integers(0, OBJECTS, BOXES)]
    sides = np.tile(objects[:, 2:] - objects[:, :2], 2)
    return (objects + 0.1 * sides * random.normal(size=objects.shape)).clip(0, SIDE).astype("float32")


if __name__ == "__main__":
    typer.run(main)
