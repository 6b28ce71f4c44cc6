"""Hook of MkDocs: the site has the pages of the repository at their own paths, so that their links need no change.

Beside them stand two kinds of generated pages: the notebooks of `examples/`, and the public names of the package.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
from built_functions import BUILT
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

import keras_resnet
import keras_resnet.compress
import keras_resnet.evaluation
import keras_resnet.explain
import keras_resnet.export

ROOT = Path(__file__).parents[2]
COPIED = (
    "README*.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "docs/*.md",
    "docs/images/*",
    "docs/site/*.css",
    "benchmarks/RESULTS.md",
    "benchmarks/plots/*",
    "benchmarks/results/*",
    "examples/*",
)
API = "docs/api.md"
# Headings of the page of public names, with the modules and names under each.
PUBLIC: Mapping[str, tuple[str, Sequence[str]]] = {
    "Networks": ("keras_resnet", BUILT[""]),
    "Images and files": ("keras_resnet", [name for name in keras_resnet.__all__ if name not in BUILT[""]]),
    "Predictors": ("keras_resnet.predictor", ["Predictor"]),
    "Segmentation networks": ("keras_resnet.segmentation", BUILT["segmentation"]),
    "Detectors": ("keras_resnet.detection", BUILT["detection"]),
    "Training": ("keras_resnet.training.fit", ["train", "resume"]),
    "Export": ("keras_resnet.export", keras_resnet.export.__all__),
    "Evaluation": (
        "keras_resnet.evaluation",
        # A module has this function's name, and would be shown in its place.
        ["calibration.calibration" if name == "calibration" else name for name in keras_resnet.evaluation.__all__],
    ),
    "Explanation": ("keras_resnet.explain", keras_resnet.explain.__all__),
    "Compression": ("keras_resnet.compress", keras_resnet.compress.__all__),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Files of the theme and of `docs/` -> those of the theme, and the site's own."""
    found = Files([file for file in files if file.src_dir != config.docs_dir])
    for pattern in COPIED:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file():
                found.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    for path in sorted(ROOT.glob("examples/*.ipynb")):
        for uri, content in notebook_pages(path):
            found.append(File.generated(config, f"examples/{uri}", content=content))
    found.append(File.generated(config, API, content=api_page()))
    return found


def on_page_markdown(markdown: str, **_: object) -> str:
    """-> the page with plain fences; the tests run blocks that are marked `python run`."""
    return re.sub(r"^```python run$", "```python", markdown, flags=re.MULTILINE)


@functools.cache
def notebook_pages(path: Path) -> tuple[tuple[str, str | bytes], ...]:
    """Notebook -> name and content of its page, and of each of its pictures."""
    name = path.stem
    exporter = MarkdownExporter()
    settings = {"unique_key": f"{name}-files", "output_files_dir": f"{name}-files"}
    text, resources = exporter.from_notebook_node(nbformat.read(path, as_version=4), resources=settings)
    title, _, rest = text.partition("\n\n")
    page = f"{title}\n\n[The notebook]({path.name}), to run it yourself.\n\n{rest}"
    return ((f"{name}.md", page), *resources.get("outputs", {}).items())


def api_page() -> str:
    """-> page with each name of `PUBLIC`."""
    lines = ["# Public names", "", "This page is made from the docstrings of the package.", ""]
    for title, (module, names) in PUBLIC.items():
        lines += [f"## {title}", "", f"From `{module}`.", "", *(f"::: {module}.{name}\n" for name in names)]
    return "\n".join(lines)
