"""The settings of training that have no meaning for images with masks."""

# RandAugment moves pixels, which a mask would have to follow; the others are for one answer for a whole image.
LACKS = ("randaugment_operations", "erasing_probability", "mixup_alpha", "cutmix_alpha", "label_smoothing")
