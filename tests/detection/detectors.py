"""What the tests of detectors share: references of torchvision, and models from them."""

import json
from pathlib import Path

import keras
import numpy as np
from oracle.make_detector_references import FOLDER, MASKS_STORED
from oracle.seeded_detectors import CASES, Case, detector_state, images
from safetensors.numpy import save_file

from keras_resnet import detection

# torchvision's names -> the names in files that were saved before its modules had version 2.
EARLIER = {
    **{
        f"backbone.fpn.{kind}_blocks.{i}.0.": f"backbone.fpn.{kind}_blocks.{i}."
        for kind in ("inner", "layer")
        for i in range(4)
    },
    "rpn.head.conv.0.0.": "rpn.head.conv.",
    **{f"roi_heads.mask_head.{i}.0.": f"roi_heads.mask_head.mask_fcn{i + 1}." for i in range(4)},
}


def reference(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as stored:
        return dict(stored)


def state_of(name: str) -> dict[str, np.ndarray]:
    """Case -> its state dict in the present names, with torchvision's own names and shapes."""
    return detector_state(json.loads(str(reference(name)["state"])))


def earlier_names(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """State dict -> as it was saved before version 2 of the modules."""
    renamed = {}
    for name, value in state.items():
        prefix = next((prefix for prefix in EARLIER if name.startswith(prefix)), "")
        renamed[EARLIER.get(prefix, "") + name.removeprefix(prefix)] = value
    return renamed


def file_of(name: str, folder: Path) -> Path:
    path, state = folder / f"{name}.safetensors", state_of(name)
    save_file(earlier_names(state) if CASES[name].earlier_names else state, path)
    return path


def canvas(case: Case) -> tuple[int, int]:
    """-> the largest height and width of the case's images."""
    height, width = np.max(case.sizes, axis=0).tolist()
    return height, width


def build(name: str, weights: Path | None, **arguments) -> keras.Model:
    case = CASES[name]
    arguments = {
        "input_shape": (*canvas(case), 3),
        "image_sizes": True,
        "min_size": case.min_size,
        "max_size": case.max_size,
        "channels": case.channels,
        "units": case.units,
        "anchor_sizes": case.anchor_sizes,
        "proposals": case.proposals,
        **arguments,
    }
    builder = getattr(detection, case.function)
    return builder(case.backbone, case.outputs - 1, version=case.version, weights=weights, **arguments)


def batch(case: Case) -> dict[str, np.ndarray]:
    """-> the images of the case in one array, in its top left corner beside noise that must not be read."""
    pixels = np.random.RandomState(0).randint(0, 256, (len(case.sizes), *canvas(case), 3)).astype(np.uint8)
    for place, image in zip(pixels, images(case.sizes), strict=True):
        place[: image.shape[0], : image.shape[1]] = image
    return {"image": pixels, "image_size": np.array(case.sizes, np.int32)}


def check_detections(answers: dict[str, np.ndarray], name: str) -> None:
    """Asserts that detections equal torchvision's, in their order."""
    expected = reference(name)
    for i in range(len(CASES[name].sizes)):
        count = len(expected[f"scores/{i}"])
        assert int(answers["num_detections"][i]) == count
        np.testing.assert_array_equal(answers["labels"][i][:count], expected[f"labels/{i}"] - 1)
        np.testing.assert_allclose(answers["boxes"][i][:count], expected[f"boxes/{i}"], rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(answers["scores"][i][:count], expected[f"scores/{i}"], rtol=0, atol=1e-4)
        assert (answers["labels"][i][count:] == -1).all()
        assert not answers["scores"][i][count:].any()
        assert not answers["boxes"][i][count:].any()
        if "masks" in answers:
            masks = answers["masks"][i]
            np.testing.assert_allclose(masks[:MASKS_STORED], expected[f"masks/{i}"], rtol=0, atol=1e-4)
            means = masks[:count].mean((1, 2))
            np.testing.assert_allclose(means, expected[f"mask_means/{i}"], rtol=0, atol=1e-4)
            assert not masks[count:].any()
