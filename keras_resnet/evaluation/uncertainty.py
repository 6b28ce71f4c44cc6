"""Uncertainty of a figure that was measured on N images: its interval of one standard error."""

import math


def wilson_interval_percent(percent: float, count: int, z: float = 1.0) -> tuple[float, float]:
    """Share of `count` images in percent -> lower and upper end of its Wilson score interval, in percent.

    `z` is the number of standard errors: 1 for an interval that holds the true share in 68 cases of 100, 1.96 for 95.
    Unlike the plain `share ± error`, the interval has a width at 0 and 100 percent, which are frequent for small sets.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", equation 5.
    """
    if count < 1:
        return 0.0, 100.0
    share = percent / 100
    spread = z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    # At 0 and 100 percent the share is an end of the interval, which rounding would miss.
    return 100 * max(0.0, min(share, middle - half)), 100 * min(1.0, max(share, middle + half))
