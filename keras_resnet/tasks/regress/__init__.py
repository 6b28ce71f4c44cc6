"""Regression: a network answers with values, such as an age or a steering angle, whose meaning its user knows.

This package exports users' own networks of this kind and predicts with them; it does not train them.
"""

from collections.abc import Mapping

from keras_resnet.answers import Output
from keras_resnet.tasks.embed import Embed

VALUES = "values"


class Regress(Embed):
    """The task `regress`; see `tasks.base.Task`."""

    name = "regress"
    title = "regression"
    predicts = "one or several values for each image"
    outputs: Mapping[str, Output] = {VALUES: Output(VALUES, "values without bounds")}
