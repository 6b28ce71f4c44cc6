"""Artifact, server -> a model in a folder, as the server reads it: whole or absent."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from keras_resnet.errors import ArgumentError
from keras_resnet.export.artifact import Artifact, open_artifact
from keras_resnet.export.files import kind_of
from keras_resnet.export.formats import UNVERIFIED
from keras_resnet.layouts import kserve, listings, ovms, saved_models, triton
from keras_resnet.layouts.given import Given
from keras_resnet.layouts.table import KINDS, Layout
from keras_resnet.one_writer import only_writer
from keras_resnet.serve.named_files import ServedFile
from keras_resnet.whole_files import whole_folder, write_whole

Files = Mapping[str, str]  # names, contents


class Written(NamedTuple):
    """What was written, and what its user should know."""

    paths: list[Path]
    notes: list[str]


def lay_out(
    layout: Layout,
    file: ServedFile,
    out: Path,
    version: int = 1,
    storage_uri: str | None = None,
    trust: bool = False,
) -> Written:
    """Server, artifact and its name, folder -> the artifact as a version of a model in that folder.

    Other models in the folder stay, and so do other versions of the model. Nothing is replaced but the lists of all
    models.

    Args:
        version: Number of the version; servers answer with the largest one.
        storage_uri: For KServe: the address to which the user copies the folder.

    Raises:
        ArgumentError: The server does not take such artifacts, the version exists, or it does not fit to the model's
            other versions.
        ExportError: The artifact can't be opened.
        MissingDependencyError: TensorFlow or its protocol for servers is not installed.
    """
    given = Given(_opened(layout, file, trust), kind_of(Path(file.path)), file.name, version, storage_uri)
    if storage_uri is not None and layout.name != "kserve":
        raise ArgumentError(
            f"--storage-uri is only for kserve. Received: --storage-uri {storage_uri} for {layout.name}"
        )
    steps = _STEPS[layout.name](given)
    out.mkdir(parents=True, exist_ok=True)
    with only_writer(out):
        folder = _write_model(out / steps.folder, steps, given)
        lists = {out / name: text for name, text in steps.lists(out).items()}
        for path, text in lists.items():
            write_whole(path, text.encode())
    return Written([folder, *lists], list(steps.notes))


def _opened(layout: Layout, file: ServedFile, trust: bool) -> Artifact:
    path = Path(file.path)
    if path.name.endswith(UNVERIFIED):
        raise ArgumentError(f"{path}: this artifact was not equal to its model, or is not verified. Export it again")
    if path.exists() and kind_of(path) not in layout.kinds:
        takes = " or ".join(KINDS[kind] for kind in layout.kinds)
        raise ArgumentError(f"{layout.name} takes {takes}. Received: {path}, which is {KINDS[kind_of(path)]}")
    return open_artifact(path, trust=trust)


class _Steps(NamedTuple):
    """The parts of a layout."""

    version: Callable[[Given, Path], None]  # writes the content of the version's folder
    folder: str  # the model's folder in the folder of all models
    beside: Files = MappingProxyType({})  # files beside the versions, equal for all of them
    lists: Callable[[Path], Files] = lambda out: {}  # folder of all models -> files in it that are written again
    notes: tuple[str, ...] = ()  # what a user of the server should know about this artifact


def _of_kserve(given: Given) -> _Steps:
    kserve.check_service(given)
    manifest = kserve.manifest(given)
    if given.kind == "saved_model":
        return _Steps(saved_models.write_version, given.name, lists=lambda out: manifest)
    # The service gets a repository of its own: Triton loads all models that it finds.
    folder = f"{given.name}/{given.name}"
    return _Steps(triton.write_version, folder, triton.files_beside(given), lambda out: manifest)


_STEPS: Mapping[str, Callable[[Given], _Steps]] = {
    "tf-serving": lambda given: _Steps(saved_models.write_version, given.name, lists=listings.models_config),
    "triton": lambda given: _Steps(triton.write_version, given.name, triton.files_beside(given)),
    "ovms": lambda given: _Steps(ovms.write_version, given.name, lists=listings.config_json, notes=ovms.notes(given)),
    "kserve": _of_kserve,
    "sagemaker": lambda given: _Steps(saved_models.write_archive, given.name, notes=saved_models.notes(given)),
    "vertex": lambda given: _Steps(saved_models.write_version, given.name, notes=saved_models.notes(given)),
}


def _write_model(folder: Path, steps: _Steps, given: Given) -> Path:
    """Folder of the model -> folder of the new version, which appears whole, and a new model with all its files."""
    version = folder / str(given.version)
    if version.exists():
        raise ArgumentError(
            f"{version} exists already. Give --version {_newest(folder) + 1} to put a newer version beside it"
        )
    if not folder.exists():
        with whole_folder(folder) as partial:
            (partial / version.name).mkdir()
            steps.version(given, partial / version.name)
            for name, text in steps.beside.items():
                (partial / name).write_text(text, encoding="utf-8")
        return version
    for name, text in steps.beside.items():
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text:
            raise ArgumentError(
                f"{folder / name} is for all versions of the model, and {given.artifact.path} needs other "
                "content there. Give another name"
            )
    with whole_folder(version) as partial:
        steps.version(given, partial)
    return version


def _newest(folder: Path) -> int:
    return max((int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()), default=0)
