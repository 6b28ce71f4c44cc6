"""Average precision and recall of detections, by pycocotools. Images are added one by one, and only the matches of each
are kept, so that memory does not grow with their masks."""

import contextlib
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.evaluation.run_lengths import RunLengths
from keras_resnet.optional import require

AREAS = ("all", "small", "medium", "large")  # objects up to 32 x 32 pixels, up to 96 x 96, and larger ones
MAX_DETECTIONS = 100  # COCO's
NOT_COUNTED = -1  # instead of the object of a detection


class Truth(NamedTuple):
    """The objects of one image."""

    boxes: np.ndarray  # [G, 4]: x1, y1, x2, y2 in pixels
    classes: np.ndarray  # int [G]
    ignored: np.ndarray  # bool [G]
    masks: Sequence[RunLengths] | None  # one for each object; None: they have only boxes


class Found(NamedTuple):
    """The detections in one image."""

    boxes: np.ndarray  # [D, 4]: x1, y1, x2, y2 in pixels
    classes: np.ndarray  # int [D]
    scores: np.ndarray  # [D]
    masks: Sequence[RunLengths] | None


class Averages(NamedTuple):
    """Precision and recall by IoU 0.5, 0.55 to 0.95, class and `AREAS`. Classes without objects of an area have NaN."""

    precision: np.ndarray  # float64 [10, 101, classes, 4], at the recall 0, 0.01 to 1
    recall: np.ndarray  # float64 [10, classes, 4]

    def ap_percent(self, area: str = "all", iou: float | None = None) -> float | None:
        """Average precision over all classes; None if none has an object of that area."""
        return _percent(self._precision_at(iou)[..., AREAS.index(area)])

    def class_ap_percent(self, index: int, iou: float | None = None) -> float | None:
        """Average precision of one class; None if it has no object."""
        return _percent(self._precision_at(iou)[:, :, index, 0])

    def ar_percent(self, area: str = "all") -> float | None:
        """Average recall over all IoUs and classes."""
        return _percent(self.recall[..., AREAS.index(area)])

    def _precision_at(self, iou: float | None) -> np.ndarray:
        return self.precision if iou is None else self.precision[[round((iou - 0.5) / 0.05)]]


class AveragePrecision:
    """Collector of matches between objects and detections, from which pycocotools computes `Averages`.

    An ignored object is a crowd of COCO: detections of its class on it do not count.

    Args:
        kind: "bbox" or "segm".
        max_detections: Number of the best detections of a class in an image that count; None: all.
    """

    def __init__(self, kind: str, classes: int, max_detections: int | None) -> None:
        self._coco: Any = require("pycocotools.cocoeval", "detect").COCOeval(iouType=kind)
        self._coco.params.catIds = [*range(classes)]
        self._coco.params.maxDets = [max_detections or MAX_DETECTIONS]
        self._all_count = max_detections is None
        self._matches: dict[tuple[int, int], dict[int, Mapping]] = defaultdict(dict)  # by class and area, by image
        self._images = 0

    def add(self, truth: Truth, found: Found) -> np.ndarray:
        """Adds an image -> the object at IoU 0.5 of each detection, int `[D]`: 1 is the first, 0 stands for none.

        It is `NOT_COUNTED` for a detection on an ignored object, or beyond the number that counts.
        """
        coco, image = self._coco, self._images
        self._images += 1
        coco._gts, coco._dts = defaultdict(list), defaultdict(list)
        if self._all_count:  # a larger number changes nothing for the images before
            coco.params.maxDets = [max(self.max_detections, len(found.scores))]
        for place, each in enumerate(_described(truth.boxes, truth.masks), start=1):
            crowd = int(truth.ignored[place - 1])
            each |= {"id": place, "ignore": crowd, "iscrowd": crowd}
            coco._gts[image, int(truth.classes[place - 1])].append(each)
        # The area of an object is always its mask's, where there is one; so it is in the files of COCO.
        masks = found.masks if coco.params.iouType == "segm" else None
        for place, each in enumerate(_described(found.boxes, masks), start=1):
            each |= {"id": place, "score": float(found.scores[place - 1])}
            coco._dts[image, int(found.classes[place - 1])].append(each)
        objects = np.full(len(found.scores), NOT_COUNTED)
        for index in sorted({key[1] for key in (*coco._gts, *coco._dts)}):
            coco.ious = {(image, index): coco.computeIoU(image, index)}
            for area, limits in enumerate(coco.params.areaRng):
                result = coco.evaluateImg(image, index, limits, coco.params.maxDets[-1])
                self._matches[index, area][image] = {
                    "dtScores": np.array(result["dtScores"]),
                    "dtMatches": result["dtMatches"] > 0,
                    "dtIgnore": result["dtIgnore"],
                    "gtIgnore": result["gtIgnore"],
                }
                if area == 0:
                    places = np.array(result["dtIds"], int) - 1
                    objects[places] = np.where(result["dtIgnore"][0], NOT_COUNTED, result["dtMatches"][0])
        return objects

    @property
    def max_detections(self) -> int:
        """COCO's maxDets: the stated number, or at least 100, and at least the largest number in an image."""
        return self._coco.params.maxDets[-1]

    def averages(self) -> Averages:
        """-> figures of all added images."""
        coco = self._coco
        images = range(self._images)
        coco.params.imgIds = [*images]
        coco._paramsEval = coco.params
        coco.evalImgs = [
            self._matches[index, area].get(image)
            for index in coco.params.catIds
            for area in range(len(AREAS))
            for image in images
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            coco.accumulate()
        precision, recall = (np.where(coco.eval[name] < 0, np.nan, coco.eval[name]) for name in ("precision", "recall"))
        return Averages(precision[..., 0], recall[..., 0])


def _described(boxes: np.ndarray, masks: Sequence[RunLengths] | None) -> list[dict[str, Any]]:
    """Boxes, masks -> what pycocotools needs to know of each: left, top, width and height, mask, area."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    corners = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    if masks is None:
        return [{"bbox": box, "area": box[2] * box[3]} for box in corners.tolist()]
    areas = require("pycocotools.mask", "detect").area([*masks]).tolist() if len(masks) else []
    return [
        {"bbox": box, "segmentation": mask, "area": area}
        for box, mask, area in zip(corners.tolist(), masks, areas, strict=True)
    ]


def _percent(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return 100 * float(known.mean()) if known.size else None
