"""The files of ONNX Runtime Web for the format `web`: from a folder or fetched by npm, and known by their hashes."""

import hashlib
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from keras_resnet.errors import ExportError, reason
from keras_resnet.page import text_of
from keras_resnet.regular_files import read_regular

PACKAGE = "onnxruntime-web@1.30.0"  # by npm's names
FOLDER = "runtime"  # in the folder of the format
LICENCE, LICENCE_TEXT = "LICENSE.txt", "onnxruntime-web.txt"  # npm's package has no such file
LONGEST_FETCH_S = 600.0


class RuntimeFile(NamedTuple):
    """A file of npm's package that a page loads."""

    source: str  # in the package
    name: str  # in the folder of the format; not every server knows that .mjs is JavaScript
    sha256: str


FILES = (
    RuntimeFile(
        "dist/ort.wasm.bundle.min.mjs", "ort.js", "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90"
    ),
    RuntimeFile(
        "dist/ort-wasm-simd-threaded.wasm",
        "ort.wasm",
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    ),
)


def write_runtime(given: str | None, folder: Path, scratch: Path) -> None:
    """Folder with npm's package, or None to fetch it; folder of the format -> its files in `runtime/`, with a licence.

    Raises:
        ExportError: There is no such package, or it has other files than the pinned version.
    """
    read = _fetched(scratch) if given is None else _reader(Path(given))
    target = folder / FOLDER
    target.mkdir()
    for file in FILES:
        content = read(file.source)
        digest = hashlib.sha256(content).hexdigest()
        if digest != file.sha256:
            raise ExportError(
                f"{given or 'npm'}: {file.source} must be a file of {PACKAGE}, with SHA-256 {file.sha256[:16]}.... "
                f"Received: {digest[:16]}.... `npm pack {PACKAGE}` fetches it"
            )
        (target / file.name).write_bytes(content)
    (target / LICENCE).write_text(text_of(LICENCE_TEXT), encoding="utf-8")


def _reader(given: Path) -> Callable[[str], bytes]:
    """Folder as the user names it -> function that reads a file of the package."""
    places = (given, given / "node_modules" / "onnxruntime-web", given / "package")
    root = next((place for place in places if (place / FILES[0].source).is_file()), None)
    if root is None:
        raise ExportError(
            "`web_runtime` (--web-runtime) must be a folder with npm's package onnxruntime-web: the package itself, or "
            f"a folder in which `npm install {PACKAGE}` was run, or in which `tar xf` has unpacked the file of "
            f"`npm pack {PACKAGE}`. Received: {given}, where {FILES[0].source} is in none of these"
        )

    def read(source: str) -> bytes:
        try:
            return read_regular(root / source)
        except OSError as error:
            raise ExportError(f"{root / source}: {error.strerror or error}") from error

    return read


def _fetched(scratch: Path) -> Callable[[str], bytes]:
    """Folder for the download -> function that reads a file of the package, which npm has fetched."""
    npm = shutil.which("npm")
    how = (
        f"Run `npm pack {PACKAGE}` where it works, unpack the file with `tar xf`, and name the folder: --web-runtime "
        "FOLDER (in Python, Options(web_runtime=...))"
    )
    if npm is None:
        raise ExportError(f"the page needs ONNX Runtime Web, {PACKAGE}, and npm, which fetches it, is not here. {how}")
    command = [npm, "pack", PACKAGE, "--ignore-scripts", "--silent", "--pack-destination", str(scratch)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONGEST_FETCH_S, check=False
        )
        if done.returncode:
            raise OSError((done.stderr or done.stdout).strip() or f"exit status {done.returncode}")
        [archive] = scratch.glob("onnxruntime-web-*.tgz")
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise ExportError(f"npm can't fetch {PACKAGE}: {reason(error)}. {how}") from error

    def read(source: str) -> bytes:
        with tarfile.open(archive) as package:
            content = package.extractfile(f"package/{source}")
            return b"" if content is None else content.read()

    return read
