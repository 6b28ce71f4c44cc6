"""The simulation of 16-bit TFLite files: LiteRT's values within a step, and only where that is proven."""

import keras
import numpy as np
import pytest

from keras_resnet.export import simulated_tflite
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.prepare import prepare
from keras_resnet.export.runtimes import open_runtime, predict
from keras_resnet.export.simulated_tflite import proven, read_simulation
from keras_resnet.export.verify import ask, examine
from keras_resnet.tasks import contract_of

ROW = FORMATS["tflite-int16x8"]
STEP = 1 / 32768  # of a probability


@pytest.fixture(scope="module")
def path(small_exports):
    return small_exports.paths[ROW.name]


def test_each_operation_is_litert_s_within_a_step(path, small_exports):
    simulation, check = proven(path, ROW.runtime, small_exports.calibration[:6])
    assert len(simulation.operations) == 17
    assert check.passed
    assert f"{len(simulation.operations)} operations on 6 images" in check.measured


def test_the_answers_are_litert_s_one_by_one_and_in_batches(path, small_exports):
    images = small_exports.calibration[:12]
    expected = predict(open_runtime(path, ROW), images)["probabilities"]
    assert np.ptp(expected, axis=0).max() > 0.1
    for size in (1, 5):
        answers = predict(read_simulation(path), images, size)["probabilities"]
        assert answers.dtype == np.float32
        assert np.abs(answers - expected).max() < 8 * STEP  # measured: 3 steps


def names_of(path, model, small_exports):
    reference = ask(prepare(model), small_exports.calibration, small_exports.class_names, contract_of(model))
    return {check.name: check for check in examine(path, ROW, reference).checks}


def test_verification_compares_simulated_answers_to_all_images(path, small_exports):
    checks = names_of(path, small_exports.model, small_exports)
    assert "4 images" in checks["simulation"].measured
    assert checks["simulated answers"].passed
    assert all(checks[name].passed for name in ("unexplained variance", "layer noise", "channel noise"))


def test_a_faulty_file_fails_although_its_simulation_is_right(path, small_exports):
    """The file is good here, and the model has the fault."""
    model = keras.models.clone_model(small_exports.model)
    model.set_weights(small_exports.model.get_weights())
    kernel = model.get_layer("stage2_block1_1_conv").kernel
    kernel.assign(np.asarray(kernel) * (np.arange(kernel.shape[-1]) != 3))
    checks = names_of(path, model, small_exports)
    assert checks["simulation"].passed
    assert checks["simulated answers"].passed
    assert not checks["channel noise"].passed
    assert "channel 3 of stage2_block1_1_relu" in checks["channel noise"].measured


def two_steps_more(options, constants, steps):
    compute = simulated_tflite._add(options, constants, steps)
    return lambda *terms: compute(*terms) + 2 * float(steps[-1][0])


@pytest.mark.parametrize("change", [lambda kinds: kinds.pop("MEAN"), lambda kinds: kinds.update(ADD=two_steps_more)])
def test_a_file_whose_simulation_is_not_proven_answers_itself(change, path, small_exports, monkeypatch):
    kinds = dict(simulated_tflite._KINDS)
    change(kinds)
    monkeypatch.setattr(simulated_tflite, "_KINDS", kinds)
    assert proven(path, ROW.runtime, small_exports.calibration[:2]) is None
    checks = names_of(path, small_exports.model, small_exports)
    assert "simulation" not in checks
    assert checks["channel noise"].passed
