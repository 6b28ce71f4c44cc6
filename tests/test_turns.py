"""Subjects by turns: each has one in each round, and a ratio is that of the same round."""

import pytest

from keras_resnet.measure.turns import by_turns, ratio, spread


def test_each_has_one_turn_in_each_round():
    order, told = [], []

    def turn(name: str) -> int:
        order.append(name)
        return len(order)

    given = by_turns({"a": lambda: turn("a"), "b": lambda: turn("b")}, 3, told.append)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert given == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert told[3] == "round 2 of 3, b: 4"


def test_a_ratio_is_taken_round_by_round():
    """A round in which everything takes ten times as long leaves it as it is."""
    assert ratio([20.0, 200.0, 30.0], [10.0, 100.0, 10.0]) == {"median": 2.0, "minimum": 2.0, "maximum": 3.0}
    assert spread([3, 1, 2]) == {"median": 2, "minimum": 1, "maximum": 3}
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])
