"""Contenders by turns: what is measured of each is its own, and ratios are those of the same round."""

import numpy as np
import pytest
from test_measure_process import OPENER

from keras_resnet.benchmark import compare as comparison
from keras_resnet.benchmark.compare import Contender, compare
from keras_resnet.measure.latency import Latency
from keras_resnet.predictor import Predictor
from keras_resnet.tasks import TASKS
from keras_resnet.variants import InputContract

SLOW, QUICK = "test_compare:slow_loader", "test_compare:quick_loader"


def slow_loader():
    return _loader(0.03)


def quick_loader():
    return _loader(0.01)


def _loader(seconds: float):
    import time

    from keras_resnet.measure.process import Opened

    def predict(pixels: np.ndarray) -> np.ndarray:
        time.sleep(seconds * len(pixels))
        return pixels[:, 0, 0, :]  # the class is the brightest channel of the first pixel

    return lambda: Opened(predict, (4, 4, 3))


@pytest.fixture(autouse=True)
def _found_by_the_processes(monkeypatch, request):
    monkeypatch.setenv("PYTHONPATH", str(request.path.parent))
    monkeypatch.setattr(comparison, "TURN_S", 0.1)


def test_each_is_measured_in_each_round(tmp_path):
    file = tmp_path / "model"
    file.write_bytes(bytes(1_500_000))
    answers = Predictor("slow", TASKS["classify"], None, InputContract(4, 4), 3, dict)
    contenders = [
        Contender("slow", SLOW, {}, "as it is", file, answers),
        Contender("quick", QUICK, {}, "as it is"),
    ]
    pixels = np.zeros((4, 4, 4, 3), "uint8")
    pixels[range(4), 0, 0, [0, 1, 2, 2]] = 255
    told = []
    compared = compare(
        contenders,
        batch_sizes=(1, 2),
        rounds=3,
        judge=lambda contender, predict: {
            "top1_percent": 100 * float(np.mean(predict(pixels)["probabilities"].argmax(axis=1) == [0, 1, 2, 1]))
        },
        tell=told.append,
    )
    assert compared.failures == {}
    slow, quick = compared.results["slow"], compared.results["quick"]
    for batch_size in (1, 2):
        assert slow.timings[batch_size].latency.median_ms >= 30 * batch_size
        assert quick.timings[batch_size].latency.median_ms >= 10 * batch_size
        assert quick.timings[batch_size].ratio_to_first.median < 1
        assert slow.timings[batch_size].ratio_to_first == comparison.Ratio(1.0, 1.0, 1.0)
    assert slow.timings[2].images_per_s == pytest.approx(2e3 / slow.timings[2].latency.median_ms)
    # Of a tenth of a second, calls of 30 ms fill a third; no turn has fewer than three.
    assert slow.timings[1].latency.repeats == 9
    assert (slow.size_mb, quick.size_mb) == (1.5, None)
    assert (slow.figures, quick.figures) == ({"top1_percent": 75.0}, {})
    assert slow.as_dict()["top1_percent"] == 75.0
    assert slow.peak_memory_mb > 10
    assert "round 3 of 3, batch 2" in told
    assert slow.as_dict()["timings"][1]["latency"]["repeats"] == 9


def test_ratio_is_taken_round_by_round():
    """A round in which everything takes ten times as long leaves it as it is."""
    first, other = [[10.0], [100.0], [10.0]], [[20.0], [200.0], [30.0]]
    timing = comparison._timing(other, first, batch_size=4)
    assert timing.ratio_to_first == comparison.Ratio(2.0, 2.0, 3.0)
    assert timing.latency == Latency.of([20.0, 200.0, 30.0])
    assert timing.images_per_s == pytest.approx(4e3 / 30)


def test_a_contender_that_fails_costs_the_others_nothing():
    """The first can't be opened, the last fails at a batch of two: ratios are to the first that can be measured."""
    contenders = [
        Contender("absent", OPENER, {"fails": "at once"}, ""),
        Contender("good", QUICK, {}, ""),
        Contender("broken", OPENER, {"fails": "later"}, ""),
    ]
    compared = compare(contenders, batch_sizes=(1, 2), rounds=1)
    assert compared.results.keys() == {"good"}
    assert compared.results["good"].timings[2].ratio_to_first.median == 1.0
    assert compared.failures.keys() == {"absent", "broken"}
    assert "no such model" in compared.failures["absent"]
    assert "two are too many" in compared.failures["broken"]
