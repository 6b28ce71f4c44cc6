"""The examples of prediction on many machines: their rows are the predictor's, also after a killed worker or driver."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pictures import jpeg, picture

from keras_resnet import load

pytestmark = pytest.mark.slow
pytest.importorskip("onnxruntime")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install 'ray[data]'")

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests" / "old_files" / "classifier.onnx"
FILES, EMPTY, TORN = 50, 7, 23  # number of image files; places of the files that can't be read
LONGEST_S = 900
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
ENVIRONMENT |= {"TF_CPP_MIN_LOG_LEVEL": "3", "RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0"}
# Ray waits longer than by default for its own processes, because the machine may have other work.
ENVIRONMENT |= {"RAY_raylet_start_wait_time_s": "600", "RAY_agent_register_timeout_ms": "600000"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 files, so large that the work lasts seconds."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(FILES):
        content = jpeg(picture(1500 + number, 2000, number))
        content = {EMPTY: b"", TORN: content[:20_000]}.get(number, content)
        (folder / f"{number:02d}.jpg").write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def expected(images: Path) -> list[dict[str, Any]]:
    """-> the rows that one process gives."""
    paths = sorted(images.iterdir())
    rows = load(MODEL, threads=1).rows(paths)
    assert [place for place, row in enumerate(rows) if row["error"]] == [EMPTY, TORN]
    return [{"path": str(path), **row} for path, row in zip(paths, rows, strict=True)]


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """Folder of Parquet files -> their rows, by path."""
    rows = [row for file in sorted(folder.glob("*.parquet")) for row in parquet.read_table(file).to_pylist()]
    return sorted(rows, key=lambda row: str(row["path"]))


def start(example: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "examples" / example), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def succeed(process: subprocess.Popen[str]) -> None:
    out, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0, out


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONGEST_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


# --- Ray ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ray() -> None:
    pytest.importorskip("ray.data", reason="Ray is not installed: pip install 'ray[data]'")


def ray_arguments(images: Path, out: Path) -> list[object]:
    return ["predict_ray.py", MODEL, images, "--out", out, "--workers", 1, "--blocks", 10, "--batch-size", 5]


def workers_of(process: subprocess.Popen[str]) -> list[Any]:
    """-> processes of Ray that run `Answers`."""
    import psutil

    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "Answers" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.usefixtures("ray")
def test_ray_answers_for_all_files_though_a_worker_is_killed(
    images: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    running = start(*ray_arguments(images, tmp_path))
    answers = tmp_path / "answers"
    wait_for(running, lambda: len(rows_in_finished(answers)) >= 5)
    written = len(rows_in_finished(answers))
    workers = workers_of(running)
    assert workers
    for worker in workers:
        worker.send_signal(signal.SIGKILL)
    assert written < FILES
    succeed(running)
    assert rows_in(answers) == expected


@pytest.mark.usefixtures("ray")
def test_ray_continues_where_a_killed_driver_was(images: Path, expected: list[dict[str, Any]], tmp_path: Path) -> None:
    running = start(*ray_arguments(images, tmp_path))
    answers = tmp_path / "answers"
    wait_for(running, lambda: len(rows_in_finished(answers)) >= 5)
    running.kill()
    running.communicate()
    wait_until_gone(running)
    first = {file.name: file.read_bytes() for file in answers.glob("*.parquet")}
    assert len(rows_in(answers)) < FILES
    succeed(start(*ray_arguments(images, tmp_path)))
    assert rows_in(answers) == expected
    assert {name: (answers / name).read_bytes() for name in first} == first


def rows_in_finished(folder: Path) -> list[dict[str, Any]]:
    """Like `rows_in`, while files are written."""
    try:
        return rows_in(folder)
    except (OSError, ValueError):  # a file that is not whole yet
        return []


def wait_until_gone(process: subprocess.Popen[str]) -> None:
    """Until the processes of a killed driver's session have ended, as Ray ends them."""
    import psutil

    end = time.monotonic() + LONGEST_S
    while any(os.getsid(each.pid) == process.pid for each in psutil.process_iter() if psutil.pid_exists(each.pid)):
        assert time.monotonic() < end
        time.sleep(0.1)


# --- others -------------------------------------------------------------------------------------------------------


def test_beam_gives_the_rows(images: Path, expected: list[dict[str, Any]], tmp_path: Path) -> None:
    pytest.importorskip("apache_beam", reason="Beam is not installed: pip install apache-beam")
    succeed(start("predict_beam.py", MODEL, images / "*", tmp_path / "part", "--runner", "DirectRunner"))
    assert rows_in(tmp_path) == expected


def test_spark_gives_the_rows(images: Path, expected: list[dict[str, Any]], tmp_path: Path) -> None:
    pytest.importorskip("pyspark", reason="Spark is not installed: pip install pyspark")
    succeed(start("predict_spark.py", MODEL, images, tmp_path / "rows"))
    found = [{**row, "path": row["path"].removeprefix("file:")} for row in rows_in(tmp_path / "rows")]
    assert found == expected[:EMPTY] + expected[EMPTY + 1 :]  # Spark's reader leaves out empty files
