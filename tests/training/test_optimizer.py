"""The optimizers against PyTorch's and against NumPy, variable by variable; schedule and learning rates by level."""

import math
from typing import Any

import keras
import numpy as np
import pytest

from keras_resnet import ResNet18
from keras_resnet.models import BUILDERS
from keras_resnet.training.optimizer import ScaledSGD, averages, is_decayed, learning_rate_schedule
from keras_resnet.training.optimizer import make_optimizer as make
from keras_resnet.training.recipe import Recipe

torch = pytest.importorskip("torch")

STEPS = 6
LEVELS = {"stem_conv": 5, "stage2_block1_1_conv": 4, "stage3_block1_1_conv": 3, "logits": 0}


def network() -> keras.Model:
    """Dense layers named as those of a ResNet, so that there are kernels and biases of several levels."""
    x = image = keras.Input((3,))
    for units, name in enumerate(LEVELS, start=2):
        x = keras.layers.Dense(units, name=name)(x)
    model, generator = keras.Model(image, x), np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(generator.normal(0, 0.5, variable.shape))
    return model


def gradients(model: keras.Model, steps: int = STEPS, seed: int = 1) -> list[list[np.ndarray]]:
    generator = np.random.default_rng(seed)
    return [
        [generator.normal(0, 2, v.shape).astype("float32") for v in model.trainable_variables] for _ in range(steps)
    ]


def values(variables: Any) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def apply(optimizer: keras.optimizers.Optimizer, model: keras.Model, grads: list[np.ndarray]) -> None:
    optimizer.apply([keras.ops.convert_to_tensor(g) for g in grads], model.trainable_variables)


def assert_close(actual: list[np.ndarray], expected: list[Any], tolerance: float = 5e-7) -> None:
    """Of each tensor's largest value; what float32 costs SGD over these steps is 2e-7."""
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, np.asarray(e, "float64"), rtol=0, atol=tolerance * np.abs(e).max())


def rates_and_decays(recipe: Recipe, model: keras.Model) -> list[tuple[float, float]]:
    """Of each variable, from the names of the layers alone."""
    pairs = []
    for variable in model.trainable_variables:
        layer, kind = variable.path.split("/")
        rate = recipe.learning_rate * recipe.level_decay ** LEVELS[layer]
        pairs.append((rate, recipe.weight_decay if kind == "kernel" else 0.0))
    return pairs


def torch_run(kind: type, recipe: Recipe, model: keras.Model, grads: list[list[np.ndarray]], **options: Any) -> list:
    """-> the variables after each step, as PyTorch's optimizer makes them."""
    parameters = [torch.nn.Parameter(torch.tensor(value)) for value in values(model.trainable_variables)]
    groups = [
        {"params": [parameter], "lr": rate, "weight_decay": decay}
        for parameter, (rate, decay) in zip(parameters, rates_and_decays(recipe, model), strict=True)
    ]
    optimizer, after = kind(groups, **options), []
    for step, step_grads in enumerate(grads, start=1):
        for parameter, gradient in zip(parameters, step_grads, strict=True):
            parameter.grad = torch.tensor(gradient)
        for group in optimizer.param_groups:
            if "betas" in group:  # Keras adds its epsilon before the second moment is corrected, PyTorch after
                group["eps"] = 1e-7 / math.sqrt(1 - group["betas"][1] ** step)
        optimizer.step()
        after.append([parameter.detach().numpy().copy() for parameter in parameters])
    return after


@pytest.mark.parametrize("momentum", [0.9, 0.5, 0.0])
def test_sgd_is_that_of_pytorch(momentum: float) -> None:
    recipe = Recipe(learning_rate=0.02, momentum=momentum, weight_decay=0.3, level_decay=0.5)
    model = network()
    grads = gradients(model)
    expected = torch_run(torch.optim.SGD, recipe, model, grads, momentum=momentum, nesterov=momentum > 0)
    optimizer = make(recipe, model, recipe.learning_rate)
    for step in range(STEPS):
        apply(optimizer, model, grads[step])
        assert_close(values(model.trainable_variables), expected[step])


def test_adamw_is_that_of_pytorch() -> None:
    recipe = Recipe(optimizer="adamw", learning_rate=0.02, weight_decay=0.3, level_decay=0.5)
    model = network()
    grads = gradients(model)
    expected = torch_run(torch.optim.AdamW, recipe, model, grads)
    optimizer = make(recipe, model, recipe.learning_rate)
    for step in range(STEPS):
        apply(optimizer, model, grads[step])
        assert_close(values(model.trainable_variables), expected[step], tolerance=3e-6)


def lamb_steps(recipe: Recipe, model: keras.Model, grads: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    """Algorithm 2 of You et al. (2019), phi the identity, in float64 -> the variables after each step."""
    pairs = rates_and_decays(recipe, model)
    variables = [value.astype("float64") for value in values(model.trainable_variables)]
    first, second = ([np.zeros_like(value) for value in variables] for _ in range(2))
    after = []
    for step, step_grads in enumerate(grads, start=1):
        for i, (gradient, (rate, decay)) in enumerate(zip(step_grads, pairs, strict=True)):
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.999 * second[i] + 0.001 * gradient.astype("float64") ** 2
            m, v = first[i] / (1 - 0.9**step), second[i] / (1 - 0.999**step)
            update = m / (np.sqrt(v) + 1e-7) + decay * variables[i]
            ratio = np.linalg.norm(variables[i]) / np.linalg.norm(update) if decay else 1.0
            variables[i] = variables[i] - rate * ratio * update
        after.append([value.copy() for value in variables])
    return after


def test_lamb_is_that_of_the_paper() -> None:
    recipe = Recipe(optimizer="lamb", learning_rate=0.05, weight_decay=0.3, level_decay=0.5)
    model = network()
    grads = gradients(model)
    expected = lamb_steps(recipe, model, grads)
    optimizer = make(recipe, model, recipe.learning_rate)
    for step in range(STEPS):
        apply(optimizer, model, grads[step])
        assert_close(values(model.trainable_variables), expected[step], tolerance=4e-6)


def test_lamb_takes_a_kernel_of_zeros_and_a_gradient_of_zeros() -> None:
    model = network()
    for variable in model.trainable_variables[:2]:
        variable.assign(np.zeros(variable.shape))
    before = values(model.trainable_variables)
    optimizer = make(Recipe(optimizer="lamb", learning_rate=0.05, weight_decay=0.3), model, 0.05)
    apply(optimizer, model, [np.zeros(v.shape, "float32") for v in model.trainable_variables])
    after = values(model.trainable_variables)
    assert all(np.isfinite(value).all() for value in after)
    np.testing.assert_array_equal(after[0], 0)
    # Without a gradient the update is the decay alone, whose norm the ratio takes to that of the kernel.
    np.testing.assert_allclose(after[2], 0.95 * before[2], rtol=1e-6)
    np.testing.assert_array_equal(after[3], before[3])


def sgd_updates(recipe: Recipe, model: keras.Model, grads: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    """Nesterov's SGD with coupled decay and a clipped gradient, in float64 -> the variables after each update."""
    pairs = rates_and_decays(recipe, model)
    variables = [value.astype("float64") for value in values(model.trainable_variables)]
    buffers: list[Any] = [0.0] * len(variables)
    after = []
    for step_grads in grads:
        norm = math.sqrt(sum(float((g.astype("float64") ** 2).sum()) for g in step_grads))
        scale = recipe.clip_norm / max(norm, recipe.clip_norm) if recipe.clip_norm else 1.0
        for i, (gradient, (rate, decay)) in enumerate(zip(step_grads, pairs, strict=True)):
            joined = scale * gradient + decay * variables[i]
            buffers[i] = recipe.momentum * buffers[i] + joined
            variables[i] = variables[i] - rate * (joined + recipe.momentum * buffers[i])
        after.append([value.copy() for value in variables])
    return after


def moving_average(after: list[list[np.ndarray]], momentum: float) -> list[np.ndarray]:
    mean = after[0]
    for update in after[1:]:
        mean = [momentum * m + (1 - momentum) * value for m, value in zip(mean, update, strict=True)]
    return mean


@pytest.mark.parametrize("clip_norm", [0.0, 3.0])
def test_gradients_are_clipped_and_the_weights_averaged(clip_norm: float) -> None:
    recipe = Recipe(learning_rate=0.02, weight_decay=0.3, ema_momentum=0.8, level_decay=0.7, clip_norm=clip_norm)
    model = network()
    grads = gradients(model)
    after = sgd_updates(recipe, model, grads)
    optimizer = make(recipe, model, recipe.learning_rate)
    for step in range(STEPS):
        apply(optimizer, model, grads[step])
        means = averages(optimizer)
        assert means is not None
        assert_close(values(means), moving_average(after[: step + 1], 0.8))
    assert_close(values(model.trainable_variables), after[-1])
    optimizer.finalize_variable_values(model.trainable_variables)  # as `fit` does at the end of each epoch
    assert_close(values(model.trainable_variables), after[-1])


def test_accumulated_gradients_make_the_update_of_their_mean_and_one_step_of_the_average() -> None:
    recipe = Recipe(learning_rate=0.02, weight_decay=0.3, ema_momentum=0.8, level_decay=0.7, accumulation_steps=3)
    model = network()
    before, grads = values(model.trainable_variables), gradients(model, steps=12)
    means = [[np.mean(parts, axis=0) for parts in zip(*grads[i : i + 3], strict=True)] for i in range(0, 12, 3)]
    after = sgd_updates(recipe, model, means)
    optimizer = make(recipe, model, recipe.learning_rate)
    for batch in range(12):
        apply(optimizer, model, grads[batch])
        updates = (batch + 1) // 3
        assert_close(values(model.trainable_variables), after[updates - 1] if updates else before)
        assert int(optimizer.iterations) == updates
        if batch % 3 == 1 and updates:  # before the next update
            assert_close(values(averages(optimizer)), moving_average(after[:updates], 0.8))


def test_the_average_is_that_of_the_optimizer_within_the_one_that_scales_the_loss() -> None:
    model = network()
    recipe = Recipe(ema_momentum=0.8, learning_rate=0.02)
    inner = make(recipe, model, 0.02)
    outer = keras.optimizers.LossScaleOptimizer(inner)
    apply(outer, model, gradients(model)[0])
    assert_close(values(averages(outer)), values(model.trainable_variables))
    assert averages(make(Recipe(), network(), 0.1)) is None


@pytest.mark.parametrize(("network", "levels"), [("resnet18", "2345"), ("resnet20", "234")])
def test_factors_of_the_learning_rate_by_level_in_a_real_network(network: str, levels: str) -> None:
    model = BUILDERS[network](input_shape=(32, 32, 3), classes=7)
    parts = ["logits", *(f"stage{level}" for level in reversed(levels)), "stem"]
    expected = {part: 0.5**below for below, part in enumerate(parts)}
    optimizer = make(Recipe(network=network, level_decay=0.5), model, 0.1)
    assert isinstance(optimizer, ScaledSGD)
    of_each = [variable.path.split("/")[0].split("_")[0] for variable in model.trainable_variables]
    assert optimizer.factors == tuple(expected[part] for part in of_each)
    assert set(of_each) == set(parts)
    assert set(make(Recipe(network=network), model, 0.1).factors) == {1.0}


def test_kernels_decay_and_nothing_else_does() -> None:
    model = ResNet18(input_shape=(32, 32, 3), classes=7)
    for variable in model.trainable_variables:
        assert is_decayed(variable) == variable.path.endswith("/kernel")
    assert sum(map(is_decayed, model.trainable_variables)) == 21  # 17 + 3 shortcuts, and the head
    assert sum(not is_decayed(variable) for variable in model.trainable_variables) == 2 * 20 + 1


@pytest.mark.parametrize(
    ("epochs", "warmup_epochs", "updates_per_epoch"), [(10, 2.0, 7), (4, 0.5, 5), (3, 0.0, 4), (90, 5.0, 2.5)]
)
def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine(
    epochs: int, warmup_epochs: float, updates_per_epoch: float
) -> None:
    recipe = Recipe(epochs=epochs, warmup_epochs=warmup_epochs, learning_rate=0.4)
    updates, warmup = round(epochs * updates_per_epoch), round(warmup_epochs * updates_per_epoch)
    schedule = learning_rate_schedule(recipe, updates, updates_per_epoch)
    steps = np.arange(updates + 1)
    rising = 0.4 * (0.1 + 0.9 * steps / max(warmup, 1))
    falling = 0.4 * 0.5 * (1 + np.cos(np.pi * (steps - warmup) / (updates - warmup)))
    expected = np.where(steps < warmup, rising, falling)
    np.testing.assert_allclose([float(schedule(int(step))) for step in steps], expected, rtol=1e-5, atol=1e-7)
    assert float(schedule(warmup)) == pytest.approx(0.4)
    assert float(schedule(updates)) == pytest.approx(0, abs=1e-7)
    assert float(schedule(updates - 1)) < 0.4 * 2.5 / (updates - warmup) ** 2  # of the last update


@pytest.mark.parametrize(("updates", "rates"), [(1, [0.4]), (2, [0.04, 0.4]), (4, [0.04, 0.22, 0.4, 0.2])])
def test_a_warm_up_takes_at_most_half_of_a_phase(updates: int, rates: list[float]) -> None:
    schedule = learning_rate_schedule(Recipe(learning_rate=0.4), updates, updates_per_epoch=1)
    assert [float(schedule(step)) for step in range(updates)] == pytest.approx(rates)
