"""The one input contract: decode, resize, crop, normalise."""

from typing import Any

# Per-channel mean and standard deviation of ImageNet's training pixels, scaled to 0..1, in RGB order.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalisation_layer(channels: int) -> Any:
    """Number of channels -> layer: pixels 0..255 `[N, H, W, channels]` -> `(pixels / 255 - mean) / std`, float32.

    One channel takes the mean of the three statistics, more than three repeat them: as a pretrained stem is summed or
    repeated over its input channels.
    """
    from keras import layers

    mean, std = _channel_statistics(channels)
    return layers.Rescaling(
        scale=[1 / (255 * s) for s in std],
        offset=[-m / s for m, s in zip(mean, std, strict=True)],
        name="preprocessing",
        dtype="float32",
    )


def _channel_statistics(channels: int) -> tuple[list[float], list[float]]:
    if channels == 1:
        return [sum(IMAGENET_MEAN) / 3], [sum(IMAGENET_STD) / 3]
    return [IMAGENET_MEAN[c % 3] for c in range(channels)], [IMAGENET_STD[c % 3] for c in range(channels)]
