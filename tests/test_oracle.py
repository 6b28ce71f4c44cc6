"""Logits and C2..C5 of all networks, and of both lowered output strides, against an independent PyTorch forward.

Weights go in through `weights=<safetensors file>`, so that the name map is under test as well.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from oracle.make_references import CASES, COMMAND, REFERENCES, digest, input_shape, reference
from oracle.seeded import pixels, state_dict
from safetensors.numpy import save_file

from keras_resnet.backbone import feature_maps
from keras_resnet.models import BUILDERS
from keras_resnet.variants import VARIANTS

TOLERANCE = 1e-5  # of max |difference| / max |reference|; measured at most 3.3e-6

Outputs = dict[str, np.ndarray]  # logits and levels
Case = tuple[str, int, Callable[[np.ndarray], Outputs], Outputs]


def relative_error(result: np.ndarray, expected: np.ndarray) -> float:
    assert result.shape == expected.shape
    assert np.isfinite(result).all()
    return float(np.abs(result - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """Network, output stride, its prediction, and what it predicts for the two images of the stored results."""
    network, output_stride = request.param
    path = tmp_path_factory.mktemp("seeded") / f"{network}.safetensors"
    save_file(state_dict(network), path)
    try:
        model = BUILDERS[network](
            weights=path,
            input_shape=(None, None, 3),
            classes=1000,
            classifier_activation=None,
            output_stride=output_stride,
        )
    finally:
        path.unlink()  # up to 240 MB, which pytest would keep for three runs
    maps = feature_maps(model)
    both = keras.Model(maps.input, {**maps.output, "logits": model.output})

    def predict(images: np.ndarray) -> Outputs:
        outputs = both(images, training=False)
        return {key: keras.ops.convert_to_numpy(value) for key, value in outputs.items()}

    yield network, output_stride, predict, predict(pixels(*input_shape(network)))
    keras.backend.clear_session()


def test_equals_the_stored_pytorch_results(case: Case) -> None:
    network, output_stride, _, of_two = case
    results = digest(of_two)
    with np.load(REFERENCES) as stored:
        errors = {
            key: relative_error(result, stored[f"{network}/{output_stride}/{key}"]) for key, result in results.items()
        }
    wrong = {key: error for key, error in errors.items() if not error <= TOLERANCE}
    assert not wrong, (
        f"relative errors above {TOLERANCE}: {wrong}. The first level in the list is where the network goes wrong; "
        f"only if the oracle itself was changed on purpose, regenerate with: {COMMAND}"
    )


def test_an_image_gets_the_same_result_in_every_batch_size(case: Case) -> None:
    network, _, predict, of_two = case
    third = pixels(3, *input_shape(network)[1:])[2:]
    of_one = predict(third)
    of_three = predict(np.concatenate([pixels(*input_shape(network)), third]))
    for key, values in of_three.items():
        for index, expected in enumerate([*of_two[key], *of_one[key]]):
            assert relative_error(values[index], expected) <= TOLERANCE, key


def test_the_stored_results_are_still_what_the_oracle_computes() -> None:
    pytest.importorskip("torch", reason="the oracle itself needs torch (the extra `torch`)")
    with np.load(REFERENCES) as stored:
        for network, output_stride in (("resnet18", 32), ("resnet20", 4)):
            for key, value in reference(network, output_stride).items():
                error = relative_error(value, stored[f"{network}/{output_stride}/{key}"])
                assert error <= TOLERANCE, (
                    f"{network}'s {key} in {Path(REFERENCES).name} is stale ({error}); regenerate with: {COMMAND}"
                )


def test_every_network_has_a_stored_reference() -> None:
    with np.load(REFERENCES) as stored:
        assert {(network, int(stride)) for network, stride, *_ in (key.split("/") for key in stored)} == set(CASES)
    own_strides = {(network, VARIANTS[network].design.output_stride) for network in BUILDERS}
    assert own_strides <= set(CASES)
