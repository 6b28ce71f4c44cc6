"""What a writer is given: the model as it is deployed, and what was chosen for its file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.export.formats import Format, Options
from keras_resnet.export.quantize import Quantized
from keras_resnet.variants import InputContract


@dataclass(frozen=True)
class Job:
    """One file to write."""

    row: Format
    options: Options
    model: keras.Model  # folded
    contract: InputContract | None  # how image files become its pixels
    labels: Sequence[str] | None
    description: dict[str, Any]  # what the file says about itself
    scratch: Path  # folder for what the writer needs on the way
    calibration: np.ndarray | None = None  # uint8 `[N, H, W, C]`
    quantize: Callable[[int], Quantized] | None = None  # steps of a kernel on either side of zero -> what int8 needs

    def quantized(self, weight_steps: int = 127) -> Quantized:
        """-> rounded kernels and ranges; formats of one export share them."""
        if self.quantize is None:
            raise ValueError(f"{self.row.name} is not written from a quantized model")
        return self.quantize(weight_steps)
