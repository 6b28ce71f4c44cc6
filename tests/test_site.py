"""The documentation site: it has every page and every public name, builds without a warning, and asks nothing of other
hosts."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from test_imports import PUBLIC

mkdocs = pytest.importorskip("mkdocs", reason="the site's packages are not installed: pip install -e '.[docs]'")
pytest.importorskip("mkdocstrings")
pytest.importorskip("material")

ROOT = Path(__file__).parents[1]


def nav_pages(entries: list[Any]) -> list[str]:
    """Entries of `nav` -> the pages in them."""
    found = []
    for entry in entries:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        found += nav_pages(value) if isinstance(value, list) else [value]
    return found


def test_every_page_has_a_place() -> None:
    from mkdocs.config import load_config

    config = load_config(str(ROOT / "mkdocs.yml"))
    pages = nav_pages(config["nav"])
    written = [*ROOT.glob("README*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.ipynb")]
    written += [ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "RESULTS.md"]
    expected = [path.relative_to(ROOT).with_suffix(".md").as_posix() for path in written]
    assert sorted(pages) == sorted([*expected, "docs/api.md"])


class Requests(HTMLParser):
    """Addresses that a browser loads with a page, and the identifiers of its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.add(given.get("id") or "")
        if tag == "link" and given.get("rel") in ("canonical", "prev", "next", "alternate"):
            return
        name = {"link": "href", "script": "src", "img": "src", "iframe": "src"}.get(tag)
        if name and given.get(name):
            self.loaded.append(str(given[name]))


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    """MkDocs checks all links, and `strict` makes each warning an error."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "NO_MKDOCS_2_WARNING": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        found = Requests()
        found.feed(page.read_text(encoding="utf-8"))
        assert [address for address in found.loaded if re.match(r"(https?:)?//", address)] == [], page
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style
    api = Requests()
    api.feed((tmp_path / "docs" / "api" / "index.html").read_text(encoding="utf-8"))
    assert {f"keras_resnet.{name}" for name in PUBLIC} <= api.ids
