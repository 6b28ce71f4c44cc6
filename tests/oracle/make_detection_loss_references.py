"""Writes `detectors/losses.npz`: torchvision's losses of seeded answers, and their gradients. Needs torchvision 0.28.0.

The samplers are replaced by one that takes all candidates. One of the three images has no object.

python tests/oracle/make_detection_loss_references.py
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PATH = Path(__file__).with_name("detectors") / "losses.npz"
FRAME, SIZES = (96, 128), ((90, 120), (96, 70), (64, 128))  # height and width of the frame, and of the images in it
COUNTS, ROWS = (9, 4, 0), 10  # objects of the images, and rows of a target
OUTPUTS = 4  # classes with the background
ANCHOR_SIZES, MAP_SIDES = (8, 12, 18, 28, 40), ((24, 32), (12, 16), (6, 8), (3, 4), (2, 2))
PROPOSALS = 40


class Inputs(NamedTuple):
    """Answers of a network, and the objects, in NumPy."""

    logits: list[np.ndarray]  # [N, h, w, 3] of each map
    deltas: list[np.ndarray]  # [N, h, w, 12]
    boxes: np.ndarray  # [N, ROWS, 4]; rows of zeros behind the last object
    classes: np.ndarray  # [N, ROWS], from 0
    instances: np.ndarray  # [N, H, W]: 1 + the row of the object
    proposals: np.ndarray  # [N, PROPOSALS, 4]
    box_logits: np.ndarray  # [N, PROPOSALS + ROWS, OUTPUTS], for the proposals and then the objects' boxes
    box_deltas: np.ndarray  # [N, PROPOSALS + ROWS, 4 * OUTPUTS]
    mask_logits: np.ndarray  # [N, PROPOSALS + ROWS, 28, 28, OUTPUTS]


def inputs() -> Inputs:
    """-> seeded values. Half of the proposals lie near objects."""
    random = np.random.RandomState(0)

    def normal(*shape: int) -> np.ndarray:
        return random.normal(0, 1, shape).astype(np.float32)

    images = len(SIZES)
    boxes, classes = np.zeros((images, ROWS, 4), np.float32), np.zeros((images, ROWS), np.float32)
    proposals = np.zeros((images, PROPOSALS, 4), np.float32)
    instances = np.zeros((images, *FRAME), np.float32)
    y, x = np.meshgrid(np.arange(FRAME[0]) + 0.5, np.arange(FRAME[1]) + 0.5, indexing="ij")
    for i, (size, count) in enumerate(zip(SIZES, COUNTS, strict=True)):
        sides = np.array(size[::-1], np.float32)

        def some(number: int, sides: np.ndarray = sides) -> np.ndarray:
            corner = random.uniform(0, 0.55, (number, 2)) * sides
            return np.concatenate([corner, corner + random.uniform(0.05, 0.45, (number, 2)) * sides], 1)

        boxes[i, :count] = some(count)
        boxes[i, : min(count, 1), 2:] = sides  # the first object fills a corner, at the edges of the image
        classes[i, :count] = np.arange(count) % (OUTPUTS - 1)
        proposals[i] = some(PROPOSALS)
        near = PROPOSALS // 2 if count else 0
        jittered = boxes[i, np.arange(near) % max(count, 1)] + random.normal(0, 2, (near, 4))
        proposals[i, :near] = np.clip(jittered, 0, np.tile(sides, 2))
        for row, (left, top, right, bottom) in enumerate(boxes[i, :count]):
            across, down = (2 * x - left - right) / (right - left), (2 * y - top - bottom) / (bottom - top)
            inside = across**2 + down**2 < 1 if row else np.maximum(abs(across), abs(down)) < 1
            instances[i][inside] = row + 1
    candidates = PROPOSALS + ROWS
    return Inputs(
        [normal(images, *sides, 3) for sides in MAP_SIDES],
        [normal(images, *sides, 12) for sides in MAP_SIDES],
        *(boxes, classes, instances, proposals),
        normal(images, candidates, OUTPUTS),
        normal(images, candidates, 4 * OUTPUTS),
        normal(images, candidates, 28, 28, OUTPUTS),
    )


def reference(given: Inputs) -> dict[str, np.ndarray]:
    """-> the five losses, and the gradients of their sum by the answers of the network."""
    import torch
    from torch import nn
    from torchvision.models.detection import anchor_utils, image_list, roi_heads, rpn

    def all_of(labels: list[Any]) -> tuple[list[Any], list[Any]]:
        return [(each >= 1).to(torch.uint8) for each in labels], [(each == 0).to(torch.uint8) for each in labels]

    def variable(x: np.ndarray) -> Any:
        return torch.from_numpy(x).requires_grad_()

    logits, deltas = ([variable(x) for x in each] for each in (given.logits, given.deltas))
    generator = anchor_utils.AnchorGenerator(tuple((size,) for size in ANCHOR_SIZES), ((0.5, 1.0, 2.0),) * 5)
    maps = [torch.zeros(len(SIZES), 1, *sides) for sides in MAP_SIDES]
    anchors = generator(image_list.ImageList(torch.zeros(len(SIZES), 3, *FRAME), list(SIZES)), maps)
    targets = [
        {
            "boxes": torch.from_numpy(given.boxes[i, :count]),
            "labels": torch.from_numpy(given.classes[i, :count].astype(np.int64)) + 1,
            "masks": torch.from_numpy(
                given.instances[i, : SIZES[i][0], : SIZES[i][1]] == np.arange(1, count + 1)[:, None, None]
            ).to(torch.uint8),
        }
        for i, count in enumerate(COUNTS)
    ]
    top = {"training": 1, "testing": 1}
    network = rpn.RegionProposalNetwork(generator, nn.Identity(), 0.7, 0.3, 256, 0.5, top, top, 0.7)
    network.fg_bg_sampler = all_of
    labels, matched = network.assign_targets_to_anchors(anchors, targets)
    regression = network.box_coder.encode(matched, anchors)
    flat_logits = torch.cat([x.reshape(len(SIZES), -1) for x in logits], 1).reshape(-1, 1)
    flat_deltas = torch.cat([x.reshape(len(SIZES), -1, 4) for x in deltas], 1).reshape(-1, 4)
    losses = dict(
        zip(
            ("rpn_objectness", "rpn_box"),
            network.compute_loss(flat_logits, flat_deltas, labels, regression),
            strict=True,
        )
    )

    heads = roi_heads.RoIHeads(None, None, None, 0.5, 0.5, 512, 0.25, None, 0.05, 0.5, 100, None, None, None)
    heads.has_mask = lambda: True
    heads.fg_bg_sampler = all_of
    proposals = [torch.from_numpy(each) for each in given.proposals]
    drawn, rows, labels, regression = heads.select_training_samples(proposals, targets)
    box_logits, box_deltas, mask_logits = map(variable, (given.box_logits, given.box_deltas, given.mask_logits))
    counts = [len(each) for each in drawn]  # all candidates, in their order: no object's row is a padding
    assert counts == [PROPOSALS + count for count in COUNTS]

    def chosen(x: Any) -> Any:
        return torch.cat([x[i, :count] for i, count in enumerate(counts)])

    pair = roi_heads.fastrcnn_loss(chosen(box_logits), chosen(box_deltas), labels, regression)
    losses |= dict(zip(("box_class", "box"), pair, strict=True))
    shown = [torch.where(each > 0)[0] for each in labels]
    masks = torch.cat([mask_logits[i, index] for i, index in enumerate(shown)]).permute(0, 3, 1, 2)
    losses["mask"] = roi_heads.maskrcnn_loss(
        masks,
        [boxes[index] for boxes, index in zip(drawn, shown, strict=True)],
        [target["masks"] for target in targets],
        [target["labels"] for target in targets],
        [row[index] for row, index in zip(rows, shown, strict=True)],
    )
    sum(losses.values()).backward()
    stored = {name: loss.detach().numpy() for name, loss in losses.items()}
    stored |= {f"logits/{i}": x.grad.numpy() for i, x in enumerate(logits)}
    stored |= {f"deltas/{i}": x.grad.numpy() for i, x in enumerate(deltas)}
    stored |= {"box_logits": box_logits.grad.numpy(), "box_deltas": box_deltas.grad.numpy()}
    return stored | {"mask_logits": mask_logits.grad.numpy()}


if __name__ == "__main__":
    arrays = reference(inputs())
    np.savez_compressed(PATH, **arrays)
    print(f"{PATH}: {PATH.stat().st_size:,} bytes", {name: float(x) for name, x in arrays.items() if not x.ndim})
