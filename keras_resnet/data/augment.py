"""Settings of the augmentation of training images. Reading them needs no framework."""

from dataclasses import dataclass
from typing import Literal

from keras_resnet.settings import NOT_NEGATIVE, SHARE, SHARE_WITHOUT_ZERO, setting, settings_of


@dataclass(frozen=True)
class Augmentation:
    """Settings of the training images' augmentation, in the order in which they are applied."""

    # resized: crop a random area of a random aspect ratio 3/4..4/3 and resize it (Szegedy et al. 2014, arXiv
    # 1409.4842). padded: resize the short side to the size, crop the centre, pad it by an eighth with zeros (4 pixels
    # of 32), and crop it at random (He et al. 2015, arXiv 1512.03385). scaled: resize the image by a random factor and
    # crop it at random; the mean colour fills what sticks out (Chen et al. 2017, arXiv 1706.05587, section 4.1).
    # fitted: like scaled, but the factor counts from the size at which the whole image just fits (Ghiasi et al. 2021,
    # arXiv 2012.07177, section 3). none: resize the short side to the size, and crop the centre.
    crop: Literal["resized", "padded", "scaled", "fitted", "none"] = setting(
        "resized",
        "Crop of training images: resized (random area), padded (shift by an eighth), scaled (random factor), fitted "
        "(random factor of the size at which the whole image fits; for detection only) or none.",
        choices={
            "classify": ("resized", "padded", "scaled", "none"),
            "tag": ("resized", "padded", "scaled", "none"),
            "segment": ("resized", "scaled", "none"),
            "detect": ("fitted", "scaled"),
        },
    )
    minimum_area: float = setting(
        0.08, "Smallest area of a random crop, as a share of the image, for crop = resized.", SHARE_WITHOUT_ZERO
    )
    minimum_scale: float = setting(0.5, "Smallest resize factor for crop = scaled.")
    maximum_scale: float = setting(2.0, "Largest resize factor for crop = scaled.")
    flip: bool = setting(True, "Random mirroring of training images, left to right.")
    # Cubuk et al. 2019, arXiv 1909.13719. Half of its operations move pixels, and a mask would have to move too.
    randaugment_operations: int = setting(
        0, "Number of RandAugment's operations for each image; 0: none.", NOT_NEGATIVE
    )
    # The strength is the `factor` of keras.layers.RandAugment.
    randaugment_magnitude: float = setting(0.0, "Strength of the RandAugment operations, 0..1.", SHARE)
    # Brightness, contrast and saturation change by this share, and the hue by a quarter of this share.
    colour_jitter: float = setting(0.0, "Strength of random brightness, contrast, saturation and hue, 0..1.", SHARE)
    # The rectangle takes the mean colour (Zhong et al. 2017, arXiv 1708.04896).
    erasing_probability: float = setting(0.0, "Probability that a random rectangle of an image is erased.", SHARE)
    # MixUp: Zhang et al. 2017, arXiv 1710.09412.
    mixup_alpha: float = setting(0.0, "Alpha of MixUp; 0: no MixUp.", NOT_NEGATIVE)
    # CutMix: Yun et al. 2019, arXiv 1905.04899.
    cutmix_alpha: float = setting(
        0.0,
        "Alpha of CutMix, 0..1; 0: no CutMix. If mixup_alpha is set too, each batch takes one of the two.",
        SHARE,
    )
    label_smoothing: float = setting(0.0, "Label smoothing: share of the label that is spread over all classes.", SHARE)


AUGMENTATION = settings_of(Augmentation)
