"""Writes `detectors/*.npz`: what torchvision makes of seeded detectors, boxes and masks. Needs torchvision 0.28.0.

python tests/oracle/make_detector_references.py
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from oracle.seeded_detectors import CASES, Case, detector_state, images

FOLDER = Path(__file__).with_name("detectors")
COMMAND = "python tests/oracle/make_detector_references.py"
MASKS_STORED = 12  # of each image; the other masks are stored as their means


def torchvision_model(case: Case) -> Any:
    """Case -> torchvision's model of random values, in inference."""
    import torch
    from torchvision.models import resnet
    from torchvision.models.detection import anchor_utils, backbone_utils, faster_rcnn, mask_rcnn, rpn

    norm = torch.nn.BatchNorm2d
    v2 = case.version == "v2"
    body = getattr(resnet, case.backbone)(weights=None)
    backbone = backbone_utils._resnet_fpn_extractor(body, 5, norm_layer=norm if v2 else None)
    if case.channels != backbone.out_channels:
        inputs = [len(body.layer1[-1].bn2.weight) * 2**i for i in range(4)]
        backbone = backbone_utils.BackboneWithFPN(
            body,
            {f"layer{i + 1}": str(i) for i in range(4)},
            inputs,
            case.channels,
            norm_layer=norm if v2 else None,
        )
    anchors = anchor_utils.AnchorGenerator(tuple((size,) for size in case.anchor_sizes), ((0.5, 1.0, 2.0),) * 5)
    heads: dict[str, Any] = {
        "rpn_anchor_generator": anchors,
        "rpn_head": rpn.RPNHead(case.channels, 3, conv_depth=2 if v2 else 1),
        "box_head": faster_rcnn.FastRCNNConvFCHead(
            (case.channels, 7, 7), [case.channels] * 4, [case.units], norm_layer=norm
        )
        if v2
        else faster_rcnn.TwoMLPHead(case.channels * 7**2, case.units),
        "box_predictor": faster_rcnn.FastRCNNPredictor(case.units, case.outputs),
    }
    settings = {
        "min_size": case.min_size,
        "max_size": case.max_size,
        "rpn_pre_nms_top_n_test": case.proposals,
        "rpn_post_nms_top_n_test": case.proposals,
    }
    if case.function == "FasterRCNN":
        return faster_rcnn.FasterRCNN(backbone, **heads, **settings).eval()
    heads["mask_head"] = mask_rcnn.MaskRCNNHeads(case.channels, [case.channels] * 4, 1, norm_layer=norm if v2 else None)
    heads["mask_predictor"] = mask_rcnn.MaskRCNNPredictor(case.channels, case.channels, case.outputs)
    return mask_rcnn.MaskRCNN(backbone, **heads, **settings).eval()


def detector_reference(case: Case) -> dict[str, np.ndarray]:
    """One case -> the names and shapes of its state dict, and its detections, rows of zeros behind the last."""
    import torch

    model = torchvision_model(case)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    state = {name: torch.from_numpy(np.asarray(value)) for name, value in detector_state(shapes).items()}
    model.load_state_dict(state)
    postprocess = model.transform.postprocess
    small: list[Any] = []

    def keep_small_masks(results: Any, *others: Any) -> Any:
        small.extend(result["masks"].numpy().copy() for result in results if "masks" in result)
        return postprocess(results, *others)

    model.transform.postprocess = keep_small_masks
    pixels = [torch.from_numpy(image.transpose(2, 0, 1) / np.float32(255)) for image in images(case.sizes)]
    with torch.no_grad():
        results = model(pixels)
    stored = {"state": np.array(json.dumps(shapes))}
    for key, dtype in (("boxes", np.float32), ("scores", np.float32), ("labels", np.int16)):
        for i, result in enumerate(results):
            stored[f"{key}/{i}"] = result[key].numpy().astype(dtype)
    for i, masks in enumerate(small):
        stored[f"masks/{i}"] = masks[:MASKS_STORED, 0]
        stored[f"mask_means/{i}"] = masks.mean((1, 2, 3))
        stored[f"pasted/{i}"] = results[i]["masks"].numpy()[:2, 0]
    return stored


def box_reference() -> dict[str, np.ndarray]:
    """What `torchvision.ops` make of seeded boxes, ties and empty boxes included."""
    import torch
    from torchvision import ops
    from torchvision.models.detection import _utils, roi_heads

    random = np.random.RandomState(0)
    stored: dict[str, np.ndarray] = {}
    corners, sides = random.uniform(0, 70, (240, 2)), random.uniform(0, 40, (240, 2))
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    boxes[100:140] = boxes[:40] + random.normal(0, 2, (40, 4)).astype(np.float32)
    boxes[140:150] = boxes[150:160]  # equal boxes
    boxes[160:166, 2] = boxes[160:166, 0]  # without width
    boxes[[170, 171, 172, 173]] = [[0, 0, 10, 10], [0, 0, 10, 3], [0, 0, 10, 5], [0, 0, 10, 7]]  # IoU of 0.3, 0.5, 0.7
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    scores = np.round(random.uniform(0, 1, 240), 2).astype(np.float32)  # with ties
    scores[170] = 1.0
    groups = random.randint(0, 3, 240)
    stored |= {"boxes": boxes, "scores": scores, "groups": groups}
    for threshold in (0.3, 0.5, 0.7):
        kept = ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
        stored[f"nms/{threshold}"] = kept.numpy().astype(np.int16)
        kept = ops.boxes._batched_nms_vanilla(*map(torch.from_numpy, (boxes, scores, groups)), threshold)
        stored[f"grouped_nms/{threshold}"] = np.sort(kept.numpy()).astype(np.int16)  # its order of ties is not stable
    with np.errstate(invalid="ignore"):
        stored["iou"] = ops.box_iou(torch.from_numpy(boxes[:40]), torch.from_numpy(boxes[150:180])).numpy()
    clipped = ops.clip_boxes_to_image(torch.from_numpy(boxes - 20), (40, 55))
    stored["clipped"] = clipped.numpy()

    deltas = random.normal(0, 1, (240, 4)).astype(np.float32)
    deltas[:20, 2:] += 5  # beyond the largest scale
    coder = _utils.BoxCoder((10.0, 10.0, 5.0, 5.0))
    stored["deltas"] = deltas
    stored["decoded"] = coder.decode(torch.from_numpy(deltas), [torch.from_numpy(boxes)])[:, 0].numpy()
    gaps = boxes + np.array([0, 0, 1, 1], np.float32)  # without empty boxes
    stored["encoded"] = coder.encode_single(torch.from_numpy(gaps), torch.from_numpy(gaps[::-1].copy())).numpy()

    maps = [random.normal(0, 1, (2, 3, side, 2 * side - 1)).astype(np.float32) for side in (24, 12, 6, 3)]
    large = np.concatenate([boxes[:60] * 2, boxes[160:166] * 2, boxes[60:80] * 9 - 60]).astype(np.float32)
    level = np.floor(
        4 + np.log2(np.sqrt((large[:, 2] - large[:, 0]) * (large[:, 3] - large[:, 1])) / 224 + 1e-30) + 1e-6
    )
    level = np.clip(level, 2, 5).astype(int) - 2
    rois = torch.from_numpy(np.concatenate([np.arange(len(large))[:, None] % 2, large], axis=1).astype(np.float32))
    pooled = np.zeros((len(large), 3, 7, 7), np.float32)
    for index, features in enumerate(maps):
        chosen = level == index
        scale = 0.5 ** (2 + index)
        pooled[chosen] = ops.roi_align(torch.from_numpy(features), rois[chosen], (7, 7), scale, 2, False).numpy()
    stored |= {f"map{i}": features.transpose(0, 2, 3, 1) for i, features in enumerate(maps)}
    stored |= {"rois": large, "pooled": pooled.transpose(0, 2, 3, 1)}

    masks = random.uniform(0, 1, (5, 1, 28, 28)).astype(np.float32)
    places = np.array(
        [[3, 4, 20, 30], [-5, -6, 10, 9], [30, 20, 70, 50], [8, 8, 8.4, 8.3], [90, 90, 99, 99]], np.float32
    )
    pasted = roi_heads.paste_masks_in_image(torch.from_numpy(masks), torch.from_numpy(places), (40, 60))
    return stored | {"masks": masks[:, 0], "places": places, "pasted": pasted.numpy()[:, 0]}


def main(names: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in names or ["boxes", *CASES]:
        path = FOLDER / f"{name}.npz"
        arrays: Any = box_reference() if name == "boxes" else detector_reference(CASES[name])
        np.savez_compressed(path, **arrays)
        found = [len(arrays[key]) for key in sorted(arrays) if key.startswith("scores/")]
        print(f"{path}: {len(arrays)} arrays, {path.stat().st_size:,} bytes, detections {found}")


if __name__ == "__main__":
    main(sys.argv[1:])
