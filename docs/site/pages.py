"""Hook of MkDocs: the site has the pages of the repository at their own paths, so that their links need no change.

Beside them stand two kinds of generated pages: the notebooks of `examples/`, and the public names of the package.
"""

import functools
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

import keras_resnet

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
# Modules with public names, each with its heading.
MODULES = {
    "keras_resnet": "Networks, images and files",
    "keras_resnet.segmentation": "Segmentation networks",
    "keras_resnet.detection": "Detectors",
    "keras_resnet.export": "Export",
    "keras_resnet.evaluation": "Evaluation",
    "keras_resnet.explain": "Explanation",
    "keras_resnet.compress": "Compression",
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
    """-> page with each public name of `MODULES`."""
    lines = ["# Public names", "", "This page is made from the docstrings of the package.", ""]
    for module, title in MODULES.items():
        lines += [f"## {title}", "", f"`{module}`", ""]
        for name in public_names(module):
            lines += [f"::: {module}.{name}", ""]
    return "\n".join(lines)


def public_names(module: str) -> Iterator[str]:
    yield from importlib.import_module(module).__all__


assert keras_resnet.__all__
