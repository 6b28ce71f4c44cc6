"""What augmentation does to training images: its settings alone, so that reading them needs no framework."""

from dataclasses import dataclass
from typing import Literal

from keras_resnet.settings import NOT_NEGATIVE, SHARE, SHARE_WITHOUT_ZERO, setting, settings_of


@dataclass(frozen=True)
class Augmentation:
    """Settings of the training images' augmentation, in the order in which they are applied."""

    # resized: a random area of a random aspect ratio 3/4..4/3 (Szegedy et al. 2014, arXiv 1409.4842), resized;
    # padded: short side to the size, centre, an eighth of zeros around it (4 pixels of 32), a random crop of that
    # (He et al. 2015, arXiv 1512.03385); scaled: the image by a random factor, a random crop of that, the mean colour
    # around it where it is smaller (Chen et al. 2017, arXiv 1706.05587, section 4.1); none: short side to the size,
    # centre.
    crop: Literal["resized", "padded", "scaled", "none"] = setting(
        "resized",
        "Crop of training images: resized (random area), padded (shift by an eighth), scaled (random factor) or none.",
        choices={"segment": ("resized", "scaled", "none")},
    )
    minimum_area: float = setting(0.08, "Smallest share of the image that a resized crop takes.", SHARE_WITHOUT_ZERO)
    minimum_scale: float = setting(0.5, "Smallest factor by which the image of a scaled crop is resized.")
    maximum_scale: float = setting(2.0, "Largest factor by which the image of a scaled crop is resized.")
    flip: bool = setting(True, "Whether training images are mirrored at random, left to right.")
    # Cubuk et al. 2019, arXiv 1909.13719. Half of its operations move the pixels, which a mask would have to follow.
    randaugment_operations: int = setting(
        0, "Number of RandAugment's operations for each image; 0: none.", NOT_NEGATIVE
    )
    # The factor of keras.layers.RandAugment.
    randaugment_magnitude: float = setting(0.0, "Strength of RandAugment's operations, 0..1.", SHARE)
    # Brightness, contrast and saturation change by this share, the hue by a quarter of it.
    colour_jitter: float = setting(0.0, "Strength of random brightness, contrast, saturation and hue, 0..1.", SHARE)
    # The rectangle takes the mean colour (Zhong et al. 2017, arXiv 1708.04896).
    erasing_probability: float = setting(0.0, "Share of the images in which a rectangle is erased.", SHARE)
    # Zhang et al. 2017, arXiv 1710.09412.
    mixup_alpha: float = setting(0.0, "MixUp's alpha; 0: none.", NOT_NEGATIVE)
    # Yun et al. 2019, arXiv 1905.04899.
    cutmix_alpha: float = setting(
        0.0,
        "CutMix's alpha, 0..1; 0: none. With mixup_alpha too, each batch takes one of the two.",
        SHARE,
    )
    label_smoothing: float = setting(0.0, "Share of the label that is spread over all classes.", SHARE)


AUGMENTATION = settings_of(Augmentation)
