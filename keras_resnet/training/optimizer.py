"""Recipe -> optimizer: warm-up and schedule, weight decay of kernels only, learning rates by level."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_resnet import layer_names
from keras_resnet.training.recipe import Recipe
from keras_resnet.variants import VARIANTS

FIRST_RATE = 0.1  # share of the peak at which the warm-up begins
POLY_POWER = 0.9  # Chen et al. 2016, arXiv 1606.00915, section 4.1.1


def learning_rate_schedule(recipe: Recipe, updates: int, updates_per_epoch: float) -> Any:
    """Recipe, updates of the phase and of an epoch -> linear warm-up, then half a cosine, or poly, down to zero.

    The warm-up takes at most half of the phase. Otherwise a phase of a few epochs could consist only of warm-up.
    """
    warmup = min(round(recipe.warmup_epochs * updates_per_epoch), updates // 2)
    if recipe.schedule == "poly":
        return WarmUpAndPoly(recipe.learning_rate, updates, max(warmup, 0))
    if warmup < 1:
        return keras.optimizers.schedules.CosineDecay(recipe.learning_rate, max(updates, 1))
    return keras.optimizers.schedules.CosineDecay(
        FIRST_RATE * recipe.learning_rate,
        decay_steps=updates - warmup,
        warmup_target=recipe.learning_rate,
        warmup_steps=warmup,
    )


class WarmUpAndPoly(keras.optimizers.schedules.LearningRateSchedule):
    """Number of the update -> learning rate: from `FIRST_RATE * peak` to the peak, then `peak * (1 - progress)^0.9`."""

    def __init__(self, peak: float, updates: int, warmup: int) -> None:
        self.peak, self.updates, self.warmup = peak, updates, warmup

    def __call__(self, step: Any) -> Any:
        ops = keras.ops
        step = ops.cast(step, "float32")
        rising = FIRST_RATE + (1 - FIRST_RATE) * step / max(self.warmup, 1)
        left = 1 - (step - self.warmup) / max(self.updates - self.warmup, 1)
        falling = ops.power(ops.clip(left, 0.0, 1.0), POLY_POWER)
        return self.peak * ops.where(step < self.warmup, rising, falling)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "updates": self.updates, "warmup": self.warmup}


def make_optimizer(recipe: Recipe, model: keras.Model, schedule: Any) -> keras.optimizers.Optimizer:
    """Recipe, model whose trainable variables are final, learning rate -> optimizer for them."""
    common = {
        "learning_rate": schedule,
        "global_clipnorm": recipe.clip_norm or None,
        "use_ema": recipe.ema_momentum > 0,
        # Keras updates the average with every batch, even if an update of the weights takes several batches.
        "ema_momentum": recipe.ema_momentum ** (1 / recipe.accumulation_steps) if recipe.ema_momentum else 0.99,
        "gradient_accumulation_steps": recipe.accumulation_steps if recipe.accumulation_steps > 1 else None,
    }
    variables = model.trainable_variables
    levels = (layer_names.STEM, *VARIANTS[recipe.network].levels)
    factors = [learning_rate_factor(variable.path, recipe.level_decay, levels) for variable in variables]
    decays = [recipe.weight_decay if is_decayed(variable) else 0.0 for variable in variables]
    if recipe.optimizer == "sgd":
        optimizer: keras.optimizers.Optimizer = ScaledSGD(
            factors, decays, momentum=recipe.momentum, nesterov=recipe.momentum > 0, **common
        )
    else:
        optimizer = (ScaledLamb if recipe.optimizer == "lamb" else ScaledAdamW)(factors, decays, **common)
    return optimizer


def averages(optimizer: keras.optimizers.Optimizer) -> list[Any] | None:
    """Compiled optimizer -> moving average of each trained variable, or None if it keeps none."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return list(inner._model_variables_moving_average) if inner.use_ema else None


def learning_rate_factor(path: str, level_decay: float, levels: Sequence[str]) -> float:
    """Path of a variable ("stage4_block1_1_conv/kernel"), the network's levels -> factor of its learning rate."""
    layer = path.split("/")[-2]
    for below, level in enumerate(reversed(levels), start=1):
        if layer_names.is_of(layer, layer_names.backbone_part(level)):
            return level_decay**below
    return 1.0


def is_decayed(variable: Any) -> bool:
    """Whether a variable decays: kernels do, BatchNorm and biases don't (Goyal et al. 2017, arXiv 1706.02677)."""
    return len(variable.shape) > 1


class _Scaled:
    """Base of Keras optimizers with a learning-rate factor and a weight decay for each variable.

    `factors` and `decays` follow the order of the variables that the optimizer is built with.
    """

    def __init__(self, factors: Sequence[float], decays: Sequence[float], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.factors, self.decays = tuple(factors), tuple(decays)

    def finalize_variable_values(self, var_list: Any) -> None:
        """Does nothing: `fit` runs once per epoch, and at its end Keras would replace the weights by the average."""


class ScaledSGD(_Scaled, keras.optimizers.SGD):
    """SGD whose decay joins the gradient before the momentum, as in the papers and in PyTorch.

    Keras' own decay bypasses the momentum, and a given value is 1 / (1 - momentum) times weaker. As in Keras, past
    steps keep their learning rates in the momentum, which equals PyTorch's only while the rate is constant (Goyal et
    al. 2017, arXiv 1706.02677, section 3, discuss both forms).
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        if self.decays[index]:
            gradient = keras.ops.add(gradient, keras.ops.multiply(variable, self.decays[index]))
        super().update_step(gradient, variable, keras.ops.multiply(learning_rate, self.factors[index]))


class ScaledAdamW(_Scaled, keras.optimizers.Adam):
    """AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101)."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        rate = keras.ops.multiply(learning_rate, self.factors[index])
        if self.decays[index]:
            decay = keras.ops.multiply(keras.ops.multiply(variable, self.decays[index]), rate)
            self.assign_sub(variable, keras.ops.cast(decay, variable.dtype))
        super().update_step(gradient, variable, rate)


class ScaledLamb(_Scaled, keras.optimizers.Lamb):
    """LAMB (You et al. 2019, arXiv 1904.00962), with the decay inside the trust ratio.

    Keras' own step has no such decay: the decay of its base class is not scaled by the ratio, and is 10 to 100 times
    stronger. As in timm, variables without decay are not scaled by the ratio either.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        ops = keras.ops
        index = self._get_variable_index(variable)
        rate = ops.cast(ops.multiply(learning_rate, self.factors[index]), variable.dtype)
        step = ops.cast(self.iterations + 1, variable.dtype)
        momentum, velocity = self._momentums[index], self._velocities[index]
        self.assign_add(momentum, (gradient - momentum) * (1 - self.beta_1))
        self.assign_add(velocity, (ops.square(gradient) - velocity) * (1 - self.beta_2))
        unbiased_momentum = momentum / (1 - ops.power(self.beta_1, step))
        unbiased_velocity = velocity / (1 - ops.power(self.beta_2, step))
        update = unbiased_momentum / (ops.sqrt(unbiased_velocity) + self.epsilon)
        if self.decays[index]:
            update = update + self.decays[index] * variable
            weight_norm = ops.sqrt(ops.sum(ops.square(variable)))
            update_norm = ops.sqrt(ops.sum(ops.square(update)))
            both = ops.logical_and(weight_norm > 0, update_norm > 0)
            update = update * ops.where(both, weight_norm / ops.where(both, update_norm, 1.0), 1.0)
        self.assign_sub(variable, rate * update)
