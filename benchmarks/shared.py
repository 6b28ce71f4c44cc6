"""What several benchmarks share: names that an option chooses, records, int8 files."""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import typer

from keras_resnet.measure.record import write_record


def chosen(option: str, text: str, known: Collection[str]) -> list[str]:
    """Value of an option, names with commas between them -> these names; "" is all of them."""
    names = text.split(",") if text else list(known)
    if not set(names) <= set(known):
        raise typer.BadParameter(f"{option} must be some of {', '.join(known)}. Received: {text}")
    return names


def finish(out: Path | None, name: str, settings: dict[str, Any], results: dict[str, Any]) -> None:
    """Prints the results, a line for each, and writes the record if there is a path for it."""
    for key, result in results.items():
        print(key, json.dumps(result), flush=True)
    if out is not None:
        write_record(out, name, settings, results)


def recorded(out: Path | None, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Record, its name, settings of this run -> the results of earlier runs, which must have had the same settings."""
    if out is None or not out.exists():
        return {}
    record = json.loads(out.read_text())
    if record["name"] != name or record["settings"] != settings:
        raise typer.BadParameter(f"--out holds a record of other settings; give another path. Received: {out}")
    return dict(record["results"])


def int8_file(converter: Any, images: np.ndarray | None = None, ends: str = "uint8") -> bytes:
    """TensorFlow's converter of a model -> int8 file, of that type at both ends; with `images`, it finds the ranges."""
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if images is not None:
        converter.representative_dataset = lambda: ([image[None].astype("float32")] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.as_dtype(ends)
    return bytes(converter.convert())


def litert_answers(file: bytes, values: np.ndarray) -> np.ndarray:
    """Integer file, what its input stands for, `[N, ...]` -> what its answers stand for, `[N, ...]`, in LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=file, num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    [given], [answer] = interpreter.get_input_details(), interpreter.get_output_details()
    limits, answers = np.iinfo(given["dtype"]), []
    for value in values:
        scale, zero_point = given["quantization"]
        integers = np.clip(np.round(value / scale) + zero_point, limits.min, limits.max)
        interpreter.set_tensor(given["index"], integers.astype(given["dtype"])[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(answer["index"])[0].astype("float32"))
    scale, zero_point = answer["quantization"]
    return (np.stack(answers) - zero_point) * scale
