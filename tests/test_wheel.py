"""The wheel: it has every file of the package, and works where there is no checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import keras_resnet
from keras_resnet import recipes
from keras_resnet.cli.main import COMMANDS

PACKAGE = Path(keras_resnet.__file__).parent
ROOT = PACKAGE.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, since a build leaves files in the folder of its source."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(PACKAGE, source / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-build-isolation", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", out, source], check=True)
    [path] = out.iterdir()
    return path


def test_the_wheel_has_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    there = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    there = {path for path in there if "__pycache__" not in path}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        described = message_from_bytes(archive.read(metadata))
    folder = metadata.partition("/")[0]
    assert {name for name in names if not name.startswith(f"{folder}/")} == there
    assert {"keras_resnet/py.typed", "keras_resnet/imagenet_classes.tsv", "keras_resnet/recipes/smoke.toml"} <= there
    assert f"{folder}/licenses/LICENSE" in names
    assert described["Version"] == keras_resnet.__version__


@pytest.mark.slow
def test_the_wheel_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """In a new environment, whose other packages are those of this one."""
    venv.create(tmp_path / "environment", with_pip=True)
    python = tmp_path / "environment" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel], check=True)
    where = [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]
    packages = Path(subprocess.run(where, check=True, capture_output=True, text=True).stdout.strip())
    # A folder in a .pth file adds its packages, but not the checkouts that its own .pth files name.
    (packages / "others.pth").write_text(sysconfig.get_paths()["purelib"])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [python.with_name("keras-resnet"), *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    code = "import keras_resnet; print(keras_resnet.__file__)"
    found = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert Path(found.stdout.strip()).parent == packages / "keras_resnet"
    for command in COMMANDS:
        run(command.name, "--help")
    assert [line.split()[0] for line in run("recipes").splitlines()] == recipes.names()
    assert "resnet50" in run("list", "--compare")
