"""Answers of `keras-resnet serve`, and of layouts for other servers, beside the network's own on photographs.

    python checks/served_answers.py photographs classify=model.onnx segment=unet.onnx detect=detector.onnx
    python checks/served_answers.py photographs classify=model.onnx --count 20 --out /tmp/served_answers.json

One server is started with all artifacts. It gets each photograph in both protocols, and must answer as
`keras_resnet.load` does: by equal numbers in protocol V2, and in V1 by numbers that differ only by their rounding.
Each artifact is also laid out for every server that takes it, and what is found there must answer equally. A SavedModel
needs the package tensorflow-serving-api for that. Any difference ends the script with exit status 1.
"""

import base64
import io
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer
from PIL import Image
from serving_process import Serving

from keras_resnet import load
from keras_resnet.export.files import kind_of
from keras_resnet.layouts.table import LAYOUTS
from keras_resnet.layouts.writing import lay_out
from keras_resnet.measure.record import write_record
from keras_resnet.predictor import Predictor
from keras_resnet.preprocessing import list_images
from keras_resnet.serve.named_files import ServedFile, served_files

ROUNDING = {"probabilities": 6e-7, "score": 6e-7, "box": 6e-3}  # half of the last digit in V1, and float32's own


def difference_v1(prediction: Mapping[str, Any], answer: Mapping[str, np.ndarray]) -> float:
    """Prediction of protocol V1, the network's answer -> largest difference, in units of the rounding."""
    if "objects" in prediction:
        objects = prediction["objects"]
        if [each["predicted_index"] for each in objects] != answer["labels"].astype(int).tolist():
            return float("inf")
        boxes = np.array([[each[side] for side in ("xmin", "ymin", "xmax", "ymax")] for each in objects])
        scores = np.array([each["score"] for each in objects])
        return max(
            _largest(boxes.reshape(-1, 4) - answer["boxes"]) / ROUNDING["box"],
            _largest(scores - answer["scores"]) / ROUNDING["score"],
        )
    if "mask" in prediction:
        mask = np.array(Image.open(io.BytesIO(base64.b64decode(prediction["mask"]))))
        return _largest(mask.astype(int) - answer["probabilities"].argmax(axis=-1))
    best = np.argsort(-answer["probabilities"], kind="stable")[: len(prediction["probabilities"])]
    if prediction["predicted_indices"] != best.tolist():
        return float("inf")
    return _largest(np.array(prediction["probabilities"]) - answer["probabilities"][best]) / ROUNDING["probabilities"]


def difference_v2(outputs: Mapping[str, np.ndarray], answer: Mapping[str, np.ndarray]) -> float:
    """Outputs of protocol V2 for one image, the network's answer -> largest difference."""
    if "mask" in outputs:
        return _largest(outputs["mask"][0].astype(int) - answer["probabilities"].argmax(axis=-1))
    if "boxes" in outputs:
        return max(_largest(outputs[name].astype("f4") - values) for name, values in answer.items())
    return _largest(outputs["probabilities"][0].astype("f4") - answer["probabilities"])


def _largest(differences: np.ndarray) -> float:
    return float(np.abs(differences).max(initial=0))


def served(client: httpx.Client, name: str, predictor: Predictor, files: Sequence[Path]) -> dict[str, Any]:
    """Client of the server, name of a model, the network, image files -> largest differences in both protocols."""
    largest = {"v1": 0.0, "v2": 0.0}
    for file in files:
        text = base64.b64encode(file.read_bytes()).decode()
        [answer] = predictor.predict([file])
        response = client.post(f"/v1/models/{name}:predict", json={"instances": [{"b64": text}]})
        [prediction] = response.raise_for_status().json()["predictions"]
        largest["v1"] = max(largest["v1"], difference_v1(prediction, answer))
        tensor = {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [text]}
        response = client.post(f"/v2/models/{name}/infer", json={"inputs": [tensor]})
        outputs = {
            each["name"]: np.array(each["data"]).reshape(each["shape"])
            for each in response.raise_for_status().json()["outputs"]
        }
        largest["v2"] = max(largest["v2"], difference_v2(outputs, answer))
    return {"v1_in_roundings": round(largest["v1"], 3), "v2": largest["v2"]}


def laid_out(path: Path, predictor: Predictor, files: Sequence[Path]) -> dict[str, float]:
    """Artifact, opened, image files -> for each server that takes it, the largest difference of what is found there."""
    expected, differences = predictor.predict(files), {}
    for layout in LAYOUTS.values():
        if kind_of(path) not in layout.kinds:
            continue
        with tempfile.TemporaryDirectory() as folder:
            uri = "s3://bucket/models" if layout.name == "kserve" else None
            version = lay_out(layout, ServedFile("model", None, str(path)), Path(folder, "models"), 1, uri).paths[0]
            if (version / "model.tar.gz").exists():
                with tarfile.open(version / "model.tar.gz") as archive:
                    archive.extractall(folder, filter="data")
                version = Path(folder, version.name)
            [found] = served_files([f"model={version}"])
            differences[layout.name] = max(
                _largest(received[name].astype("f8") - values) if received[name].shape == values.shape else float("inf")
                for received, answer in zip(load(found.path).predict(files), expected, strict=True)
                for name, values in answer.items()
            )
    return differences


def main(
    images: Annotated[str, typer.Argument(help="Folder of photographs.")],
    artifacts: Annotated[list[str], typer.Argument(help="Artifacts, each as NAME=PATH.")],
    count: Annotated[int, typer.Option(help="Number of photographs, evenly chosen.")] = 20,
    out: Annotated[Path | None, typer.Option(help="File for the record.")] = None,
) -> None:
    files = list_images([images])
    files = [files[place] for place in np.linspace(0, len(files) - 1, min(count, len(files))).astype(int)]
    opened = {file.name: (Path(file.path), load(file.path)) for file in served_files(artifacts)}
    results: dict[str, Any] = {}
    with Serving(artifacts) as serving, httpx.Client(base_url=serving.address, timeout=120) as client:
        for name, (path, predictor) in opened.items():
            results[name] = {"task": predictor.task.name, "artifact": path.name, "images": len(files)}
            results[name] |= served(client, name, predictor, files)
    for name, (path, predictor) in opened.items():
        results[name]["layouts"] = laid_out(path, predictor, files)
        print(name, results[name])
    if out is not None:
        write_record(out, "served_answers", {"count": count}, results)
    if any(row["v1_in_roundings"] > 1 or row["v2"] or any(row["layouts"].values()) for row in results.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
