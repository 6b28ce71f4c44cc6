"""OpenVINO's network of integers, read from an ONNX file -> the network with fewer roundings, which takes less time."""

from typing import Any


def remove_roundings(model: Any, learned: bool) -> None:
    """Removes the roundings that change nothing, and of each addition the rounding of one convolution.

    `learned` says that quantization-aware training has learned the ranges: then the network is meant to be rounded and
    clipped before each addition.
    """
    _round_pixels_once(model)
    _round_pooled_once(model)
    if not learned:
        _add_before_rounding(model)
    model.validate_nodes_and_infer_types()


def _round_pixels_once(model: Any) -> None:
    """Removes all but the last of the equal roundings of pixels, before and after the border of the first convolution.

    OpenVINO would round to bytes, pad, convert the bytes to float32 for the border, and round again. The border is zero
    where the pixels are, and they are zero where it is, so that the last rounding by itself gives equal bytes. This
    saves 1 to 2 % of the time of a ResNet-18 with 8 images.
    """
    node, roundings = model.inputs[0].get_node(), []
    while node.get_type_name() in ("Parameter", "Gather", "FakeQuantize", "Pad", "Add"):
        readers = list(node.output(0).get_target_inputs())
        if len(readers) != 1:
            break
        node = readers[0].get_node()
        if node.get_type_name() == "FakeQuantize":
            roundings.append(node)
    if len({_grid(each) for each in roundings}) == 1:
        for rounding in roundings[:-1]:
            _remove(rounding)


def _round_pooled_once(model: Any) -> None:
    """Removes each rounding of the largest of values that had been rounded to its steps: it is one of these values."""
    for rounding in _all(model, "FakeQuantize"):
        pool = rounding.input_value(0).get_node()
        if pool.get_type_name() == "MaxPool":
            before = pool.input_value(0).get_node()
            if before.get_type_name() == "FakeQuantize" and _grid(before) == _grid(rounding):
                _remove(rounding)


def _add_before_rounding(model: Any) -> None:
    """Removes the rounding between a convolution and an addition whose other branch is rounded, too.

    OpenVINO then adds the other branch to the sums of the convolution, and rounds once. Where both branches are
    convolutions, it is the one with the wider range, whose steps are larger. Both must not be: a ResNet-50 is slower
    without both roundings than with both.

    Against all roundings, a ResNet-50 takes 0.91 to 0.97 of the time on a CPU with AMX, and no more on others (0.94 to
    0.97 with VNNI in AVX-512, 0.96 to 1.02 in AVX2). The Kullback-Leibler divergence of its answers from those in float
    is 0.82 as large, and 0.96 for a ResNet-18.
    """
    for addition in _all(model, "Add"):
        branches = [value.get_node() for value in addition.input_values()]
        if any(branch.get_type_name() != "FakeQuantize" for branch in branches):
            continue
        free = [branch for branch in branches if _rounds_a_convolution(branch)]
        if free:
            _remove(max(free, key=_width))


def _rounds_a_convolution(rounding: Any) -> bool:
    """-> whether it rounds a convolution, with or without its bias, which nothing else reads, for one reader."""
    sums = rounding.input_value(0)
    node = sums.get_node()
    product = node.input_value(0).get_node() if node.get_type_name() == "Add" else node
    readers = [*sums.get_target_inputs(), *rounding.output(0).get_target_inputs()]
    return product.get_type_name() == "Convolution" and len(readers) == 2


def _width(rounding: Any) -> float:
    low, high = (rounding.input_value(place).get_node().get_data() for place in (1, 2))
    return float((high - low).max())


def _all(model: Any, kind: str) -> list[Any]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() == kind]


def _remove(rounding: Any) -> None:
    for reader in rounding.output(0).get_target_inputs():
        reader.replace_source_output(rounding.input_value(0))


def _grid(rounding: Any) -> tuple[Any, ...]:
    """FakeQuantize -> its limits, each an array of 4 bytes for one number, and the number of its levels."""
    limits = [rounding.input_value(place).get_node().get_data().tobytes() for place in range(1, 5)]
    return (*limits, rounding.get_attributes()["levels"])
