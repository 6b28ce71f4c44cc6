"""Absent packages name their extra; native chatter is held back, and shown when something fails."""

import os
import subprocess
import sys

import pytest

from keras_resnet.errors import MissingDependencyError
from keras_resnet.optional import require
from keras_resnet.quiet import quiet_stderr, terminal_stderr


def test_require_returns_the_module():
    assert require("os.path", "demo") is os.path


def test_an_absent_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"'onnxruntime'.*pip install 'keras-resnet-kit\[onnx\]'"):
        require("onnxruntime", "onnx")


def test_openvino_is_imported_without_its_telemetry():
    pytest.importorskip("openvino_telemetry")
    program = (
        "import sys\n"
        "from keras_resnet.optional import require\n"
        "openvino = require('openvino', 'openvino')\n"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry')]\n"
        "import openvino_telemetry  # and others can have it\n"
        "print(openvino.tools.ovc.telemetry_utils.tm.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "openvino.tools.ovc.telemetry_stub\n", done.stderr


def test_a_packages_own_missing_dependency_is_not_taken_for_it(monkeypatch, tmp_path):
    (tmp_path / "package_with_a_broken_import.py").write_text("import no_such_package_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package_at_all"):
        require("package_with_a_broken_import", "demo")


def test_quiet_stderr_holds_back_native_output(capfd):
    with quiet_stderr():
        os.write(2, b"chatter\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_quiet_stderr_shows_it_when_the_block_fails(capfd):
    def fail():
        with quiet_stderr():
            os.write(2, b"what the library said\n")
            raise RuntimeError("cause")

    with pytest.raises(RuntimeError, match="cause"):
        fail()
    assert capfd.readouterr().err == "what the library said\n"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
def test_quiet_stderr_leaves_no_descriptor_open():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with quiet_stderr():
            os.write(2, b"chatter\n")
    assert len(os.listdir("/proc/self/fd")) == before


def test_quiet_stderr_does_not_replay_chatter_before_our_own_errors(capfd):
    def fail():
        with quiet_stderr():
            os.write(2, b"chatter\n")
            raise MissingDependencyError("what is wrong")

    with pytest.raises(MissingDependencyError):
        fail()
    assert capfd.readouterr().err == ""


def test_progress_is_shown_while_stderr_is_held_back(capfd):
    stream = terminal_stderr()
    with quiet_stderr():
        print("progress", file=stream)
        os.write(2, b"chatter\n")
    stream.close()
    assert capfd.readouterr().err == "progress\n"
