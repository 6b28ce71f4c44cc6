"""Mean IoU of DeepLabV3+ and U-Net after one recipe, with and without ImageNet weights of their backbone.

    python benchmarks/segmentation_training.py camvid/ --void-labels 11 --backbone-weights resnet18.safetensors \
        --runs runs/segmentation --out benchmarks/results/segmentation_training.json

A run that was interrupted goes on when the script is called again.
"""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from shared import finish

RECIPE = "segment"
EPOCHS = {"unet": 30, "deeplabv3plus": 12}  # of about equal time on two CPU cores


def main(
    data: Annotated[str, typer.Argument(help="Images with masks, as `train` takes them.")],
    backbone_weights: Annotated[str, typer.Option(help="Of ResNet-18 on ImageNet: a file or a published tag.")],
    runs: Annotated[Path, typer.Option(help="Folder of the runs.")],
    out: Annotated[Path, typer.Option(help="Record to write.")],
    void_labels: str = "",
    precision: str = "mixed_bfloat16",
) -> None:
    """Trains all four, one after the other."""
    results: dict[str, Any] = {}
    for architecture, epochs in EPOCHS.items():
        for start, weights in (("imagenet", backbone_weights), ("random", "")):
            run = runs / f"{architecture}-{start}"
            arguments = ["--resume", str(run)]
            if not (run / "recipe.toml").exists():
                arguments = [RECIPE, "--out", str(run), "--data", data, "--void-labels", void_labels]
                arguments += ["--architecture", architecture, "--backbone-weights", weights]
                arguments += ["--epochs", str(epochs), "--precision", precision]
            subprocess.run([sys.executable, "-m", "keras_resnet.cli", "train", *arguments], check=True)
            with (run / "history.csv").open(newline="") as stream:
                history = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
            results[run.name] = {
                "best_val_mean_iou_percent": max(row["val_mean_iou_percent"] for row in history),
                "minutes": sum(row["seconds"] for row in history) / 60,
                "history": history,
            }
    described = json.loads((run / "data.json").read_text())
    images = {f"{split}_images": described[split]["count"] for split in ("train", "val")}
    finish(out, "segmentation_training", {"recipe": f"{RECIPE}.toml", "precision": precision, **images}, results)


if __name__ == "__main__":
    typer.run(main)
