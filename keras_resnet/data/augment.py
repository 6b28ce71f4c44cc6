"""What augmentation does to training images: its settings alone, so that reading them needs no framework."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Augmentation:
    """Settings of the training images' augmentation, in the order in which they are applied."""

    # resized: a random area of a random aspect ratio 3/4..4/3 (Szegedy et al. 2014, arXiv 1409.4842), resized;
    # padded: short side to the size, centre, an eighth of zeros around it (4 pixels of 32), a random crop of that
    # (He et al. 2015, arXiv 1512.03385); scaled: the image by a random factor, a random crop of that, the mean colour
    # around it where it is smaller (Chen et al. 2017, arXiv 1706.05587, section 4.1); none: short side to the size,
    # centre.
    crop: Literal["resized", "padded", "scaled", "none"] = "resized"
    minimum_area: float = 0.08  # of "resized", as a share of the image
    minimum_scale: float = 0.5  # of "scaled"
    maximum_scale: float = 2.0
    flip: bool = True  # left to right, of every other image
    randaugment_operations: int = 0  # for each image; 0: none (Cubuk et al. 2019, arXiv 1909.13719)
    randaugment_magnitude: float = 0.0  # 0..1, the factor of keras.layers.RandAugment
    colour_jitter: float = 0.0  # 0..1: brightness, contrast and saturation by this share, hue by a quarter of it
    erasing_probability: float = 0.0  # of a rectangle of the mean colour (Zhong et al. 2017, arXiv 1708.04896)
    mixup_alpha: float = 0.0  # (Zhang et al. 2017, arXiv 1710.09412)
    cutmix_alpha: float = 0.0  # 0..1; with MixUp, each batch takes one of the two (Yun et al. 2019, arXiv 1905.04899)
    label_smoothing: float = 0.0  # share of the label that is spread over all classes
