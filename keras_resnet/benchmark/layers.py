"""A layer as it was timed inside an artifact; names and kinds that the formats have in common."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from keras_resnet import layer_names

# By kind, the operators of TFLite and of ONNX Runtime's optimized graphs; any other is "other".
_OPERATORS: Mapping[str, tuple[str, ...]] = {
    "convolution": ("CONV_2D", "DEPTHWISE_CONV_2D", "Conv", "FusedConv", "NhwcFusedConv", "QLinearConv", "ConvInteger"),
    "dense": ("FULLY_CONNECTED", "MatMul", "Gemm", "FusedMatMul", "FusedGemm", "QGemm", "QLinearMatMul"),
    "addition": ("ADD", "Add", "QLinearAdd"),
    "pooling": (
        *("MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN", "MaxPool", "NhwcMaxPool", "AveragePool", "ReduceMean"),
        *("GlobalAveragePool", "QLinearAveragePool", "QLinearGlobalAveragePool"),
    ),
    "padding": ("PAD", "PADV2", "Pad"),
    "layout": ("TRANSPOSE", "RESHAPE", "Transpose", "Reshape", "Squeeze", "ReorderInput", "ReorderOutput"),
    "number type": ("QUANTIZE", "DEQUANTIZE", "CAST", "QuantizeLinear", "DequantizeLinear", "Cast"),
    "activation": ("RELU", "SOFTMAX", "Relu", "Softmax", "QLinearSoftmax"),
}
KINDS = (*_OPERATORS, "other")
_KIND_OF = {operator: kind for kind, operators in _OPERATORS.items() for operator in operators}


@dataclass(frozen=True)
class Layer:
    """One operator as the runtime executes it, with what the runtime has fused into it."""

    name: str  # name of the Keras layer, if the file has it; otherwise the file's own name
    operator: str  # the runtime's own name for it
    node: str  # name of the node, or of the tensor that it makes
    output_shape: tuple[int, ...]  # shape in memory
    macs: int  # multiply-accumulates of the whole batch
    traffic_bytes: int  # activations read and written, and weights
    ms: float
    share_percent: float = 0.0  # share of the sum over all layers

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return _KIND_OF.get(self.operator.rpartition(", ")[2], "other")

    @property
    def stage(self) -> str:
        """ "stem", "stage2" to "stage5", "head", or "other" where the name is not of this package's networks."""
        before = (layer_names.IMAGE, layer_names.PREPROCESSING)
        if layer_names.is_of(self.name, layer_names.STEM) or self.name in before:
            return layer_names.STEM
        return layer_names.stage_of(self.name) or ("head" if self.name in layer_names.CLASSIFIER_HEAD else "other")

    @property
    def gflop_per_s(self) -> float:
        """10^9 multiplications and additions a second, of which a multiply-accumulate is two."""
        return 2e-6 * self.macs / self.ms if self.ms else 0.0

    @property
    def flop_per_byte(self) -> float:
        """Arithmetic intensity: multiplications and additions for each byte that has to move."""
        return 2 * self.macs / self.traffic_bytes if self.traffic_bytes else 0.0

    def as_dict(self) -> dict[str, Any]:
        """-> JSON object."""
        names = ("name", "kind", "stage", "operator", "node", "output_shape", "macs", "traffic_bytes")
        figures = ("ms", "share_percent", "gflop_per_s", "flop_per_byte")
        return {name: getattr(self, name) for name in (*names, *figures)}


class LayerTimer(Protocol):
    """An artifact opened so that its layers can be timed."""

    def run(self) -> None:
        """One inference, which times every layer once."""
        ...

    def layers(self, skip: int) -> list[Layer]:
        """-> the layers in the order of execution, with the fastest of their times after the first `skip` runs."""
        ...


def layer_name(text: str) -> str:
    """Name of a node or tensor -> name of the Keras layer that it stands for, or itself where that can't be known.

    Converters write `model/layer/operation`, and of fused operations a list from last to first. A Keras model that
    was called again has a number behind its own name, and then behind each layer's.
    """
    first = [part for part in text.split(";") if part][-1:]
    scopes = first[0].split("/") if first else [text]
    if len(scopes) < 2:
        return re.sub(r"^serving_default_|(:\d+)?(_(Quantize|Dequantize)Linear)?(_Output)?$", "", scopes[0])
    model, layer = scopes[:2]
    return re.sub(r"_\d+$", "", layer) if re.search(r"_\d+$", model) else layer
