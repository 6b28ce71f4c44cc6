"""Builds `keras-resnet-runtime`: all files of the full package, with fewer requirements.

The version and all bounds of versions are those of the full package, whose pyproject.toml is read here.
"""

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from setuptools import find_packages, setup

ROOT = ".."  # setuptools takes paths relative to this folder
REQUIRED = ("numpy", "pillow", "typer", "rich")
EXTRAS = ("detect", "heic", "sign", "serve", "plots")  # as in the full package
RUNTIMES = {"onnx": "onnxruntime", "tflite": "ai-edge-litert", "openvino": "openvino"}  # extras of one requirement


def arguments_of(full: dict[str, Any]) -> dict[str, Any]:
    """The full package's pyproject.toml -> arguments of `setup`."""
    project, extras = full["project"], full["project"]["optional-dependencies"]
    runtimes = {extra: chosen(extras[extra], [package]) for extra, package in RUNTIMES.items()}
    return {
        "install_requires": chosen(project["dependencies"], REQUIRED),
        "extras_require": {**runtimes, **{extra: extras[extra] for extra in EXTRAS}},
        "entry_points": {"console_scripts": [f"{name} = {what}" for name, what in project["scripts"].items()]},
        "python_requires": project["requires-python"],
        "classifiers": project["classifiers"],
        "keywords": project["keywords"],
        "package_data": full["tool"]["setuptools"]["package-data"],
    }


def chosen(requirements: list[str], packages: Iterable[str]) -> list[str]:
    """Requirements, names of packages -> the requirement of each package."""
    by_name = {re.split(r"[^\w.-]", requirement, maxsplit=1)[0]: requirement for requirement in requirements}
    return [by_name[package] for package in packages]


def version_in(file: Path) -> str:
    """`keras_resnet/__init__.py` -> its version; the package is not imported."""
    [version] = re.findall(r'^__version__ = "(.+)"$', file.read_text("utf-8"), re.MULTILINE)
    return version


setup(
    version=version_in(Path(ROOT, "keras_resnet", "__init__.py")),
    package_dir={"": ROOT},
    packages=find_packages(ROOT, include=["keras_resnet*"]),
    **arguments_of(tomllib.loads(Path(ROOT, "pyproject.toml").read_text("utf-8"))),
)
