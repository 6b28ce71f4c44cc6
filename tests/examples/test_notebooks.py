"""The notebooks run from top to bottom, and learn; the outputs that they are stored with are small."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
MOST_BYTES = 300_000
LONGEST_S = 1200
# Pattern of a figure in the outputs of each notebook, and the least value of its last match.
FIGURES = {
    "1-fine-tune": (r"fine-tuned: +([\d.]+) %", 60.0),
    "2-segment": (r"mean IoU % +([\d.]+)", 25.0),
    "3-detect": (r"AP \(IoU 0.50 to 0.95\) +([\d.]+)", 20.0),
    "4-quantize-and-ship": (r"onnx-int8 +[\d,]+ +([\d.]+)", 90.0),
    "5-serve": (r"'probabilities': \[([\d.]+)", 0.3),
}
FAST = ("4-quantize-and-ship",)  # the others take longer


def text_of(notebook: Any) -> str:
    """-> what its cells print, without colours."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]
    return re.sub(r"\x1b\[[0-9;]*m", "", "".join(texts))


def test_there_are_five() -> None:
    assert [path.stem for path in NOTEBOOKS] == list(FIGURES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_stored_notebook_has_run_from_top_to_bottom(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert path.stat().st_size < MOST_BYTES
    check_figure(path, notebook)
    assert not re.search(r"/tmp/|/home/|/root/|/work/", text_of(notebook))  # paths of the machine on which it ran


def check_figure(path: Path, notebook: Any) -> None:
    pattern, least = FIGURES[path.stem]
    found = re.findall(pattern, text_of(notebook))
    assert found, f"no output matches {pattern}"
    assert float(found[-1]) >= least


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=() if path.stem in FAST else pytest.mark.slow) for path in NOTEBOOKS],
)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sklearn", "matplotlib", "onnxruntime", "ai_edge_litert", "pycocotools"):
        pytest.importorskip(module)
    if path.stem == "5-serve":
        pytest.importorskip("fastapi", reason="the server is not installed: pip install 'keras-resnet-kit[serve]'")
    # Its cells call `keras-resnet`, which lies beside this Python.
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=LONGEST_S, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    check_figure(path, notebook)
