"""The machine's limits: measured figures that can be true, and the arithmetic on them."""

import io
import stat
import sys

import pytest
from PIL import Image

from keras_resnet.benchmark.layers import Layer
from keras_resnet.benchmark.profile import Profile
from keras_resnet.benchmark.profile_plots import draw_roofline
from keras_resnet.benchmark.roofline import Peak, measure_peak
from keras_resnet.errors import ArgumentError, MeasurementError

PEAK = Peak(gflops=100.0, bandwidth_gb_per_s=20.0, how="by hand")


@pytest.mark.slow
def test_peak_of_this_machine():
    """No core multiplies faster than 64 lanes at 6 GHz, nor slower than one addition a cycle at half a GHz."""
    peak = measure_peak(threads=1)
    assert 0.5 < peak.gflops < 1000
    assert 0.2 < peak.bandwidth_gb_per_s < 500
    assert peak.how.startswith(("numpy: product of", "TensorFlow: product of"))
    assert "threads: 1" in peak.how


def test_the_roof_is_the_lower_of_the_two_limits():
    assert PEAK.roof_gflops(0.5) == 10.0
    assert PEAK.roof_gflops(5.0) == 100.0
    assert PEAK.roof_gflops(500.0) == 100.0


def test_threads_are_at_least_one():
    with pytest.raises(ArgumentError, match=r"`threads` must be at least 1. Received: threads=0"):
        measure_peak(threads=0)


def test_a_process_that_fails_says_why(monkeypatch, tmp_path):
    failing = tmp_path / "python"
    failing.write_text("#!/bin/sh\necho first >&2\necho out of memory >&2\nexit 3\n")
    failing.chmod(failing.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(failing))
    with pytest.raises(MeasurementError, match="can't be measured: exit status 3: out of memory"):
        measure_peak(threads=1)


def test_picture_of_the_roof():
    layers = (
        Layer("stem_conv", "CONV_2D", "a", (1, 112, 112, 64), 118_013_952, 4_000_000, 2.8, 70.0),
        Layer("stage2_block1_add", "ADD", "b", (1, 56, 56, 256), 0, 9_600_000, 0.4, 10.0),
        Layer("logits", "FULLY_CONNECTED", "c", (1, 1000), 2_048_000, 8_200_000, 0.8, 20.0),
    )
    profile = Profile("model.tflite", "tflite", "LiteRT", 1, 1, 5, 4.0, layers)
    picture = Image.open(io.BytesIO(draw_roofline(profile, PEAK)))
    assert picture.format == "PNG"
    assert len(picture.convert("RGB").getcolors(maxcolors=1_000_000)) > 50  # something is drawn
