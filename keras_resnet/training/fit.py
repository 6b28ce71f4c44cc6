"""Recipe -> run directory: a training run from start to end."""

import contextlib
import json
import os
import tomllib
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras

from keras_resnet.data.pipeline import evaluation_batches, training_batches
from keras_resnet.data.problems import Problems
from keras_resnet.data.taken import account
from keras_resnet.errors import ArgumentError, TrainingError, reason
from keras_resnet.evaluating import evaluate
from keras_resnet.freezing import FREEZABLE_LEVELS, freeze, freeze_batch_norm, frozen
from keras_resnet.inference import answer
from keras_resnet.model_files import save_model
from keras_resnet.one_writer import only_writer
from keras_resnet.optional import how_to_install
from keras_resnet.predictor import Predictor
from keras_resnet.regular_files import read_text
from keras_resnet.tasks import task_named
from keras_resnet.tasks.sources import open_source
from keras_resnet.training import run_directory, run_files
from keras_resnet.training.checkpoint import TrainingProgress, checkpoints, read_progress, value_of
from keras_resnet.training.devices import open_devices
from keras_resnet.training.optimizer import averages, learning_rate_schedule, make_optimizer
from keras_resnet.training.processes import PeerLostError
from keras_resnet.training.recipe import Recipe, read_recipe
from keras_resnet.training.selection import Validated, interval_columns, takes_the_place
from keras_resnet.training.watch import Rate, StopOnSignal, Watch, check_problems
from keras_resnet.variants import contract_of_fields


@dataclass(frozen=True)
class Standing:
    """The current state of a run, for displays."""

    step: int
    steps: int  # total number of steps
    epoch: int  # current epoch, from 1
    epochs: int
    images_per_second: float  # rate since this process began the epoch
    figures: dict[str, float]  # figures of the epoch so far, named like the columns of the history


@dataclass(frozen=True)
class TrainingResult:
    """The result of a run."""

    run: Path
    complete: bool  # False if SIGTERM ended the run; --resume continues it
    history: list[dict[str, Any]]  # one row for each epoch, as in history.csv
    score: str  # name of the validation figure, such as "top-1"
    best_epoch: int  # epoch of the weights in model.keras, from 1; 0: no epoch was validated
    best: Validated | None  # figures of this epoch on the validation images
    recipe: Recipe


@dataclass(frozen=True)
class Listener:
    """Receiver of messages from a run: sentences, and its state after each step."""

    say: Callable[[str], None] = lambda sentence: None
    show: Callable[[Standing], None] = lambda standing: None


SILENT = Listener()


def train(recipe: Recipe, run: Path, listener: Listener = SILENT) -> TrainingResult:
    """Recipe, new or empty folder -> run directory: `model.keras` and the record of its training.

    Raises:
        ArgumentError: A setting does not fit the data or the devices, or the folder is not empty.
        ImageError: The data has no images.
        WeightsError: The weights to start from can't be found, read or matched.
        TrainingError: The loss is not finite, too many files can't be read, or the disk is full.
    """
    if os.path.exists(recipe.data):  # an absolute path, so that the run can be resumed from any folder
        recipe = replace(recipe, data=os.path.abspath(recipe.data))
    return _Run(recipe, run, listener).go(resumed=False)


def resume(run: Path, listener: Listener = SILENT) -> TrainingResult:
    """Run directory of an interrupted run -> result of the continued run, equal to that without an interruption.

    Raises:
        TrainingError: There is no checkpoint, or the data has changed.
    """
    recipe_file = run / run_files.RECIPE
    if not recipe_file.is_file():
        raise ArgumentError(f"--resume must be a run's folder, which holds {run_files.RECIPE}. Received: {run}")
    return _Run(recipe_of_run(run), run, listener).go(resumed=True)


def recipe_of_run(run: Path) -> Recipe:
    """Run directory -> its recipe.

    A recipe of an earlier version does not state the validation split. Test images validated then, if the data had no
    validation images but test images; `data.json` tells that the validation images were not held out.
    """
    recipe = read_recipe(run / run_files.RECIPE)
    if "validation_split" in tomllib.loads(read_text(run / run_files.RECIPE)):
        return recipe
    try:
        noted = json.loads(read_text(run / run_files.DATA))
        had_validation = noted["val"]["validation"] == "its own"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # killed before it was written, or damaged
        return recipe
    if had_validation and recipe.data and open_source(recipe.data, "val", reading=recipe, task=recipe.task).held_out:
        return replace(recipe, validation_split="test")
    return recipe


class _Run:
    def __init__(self, recipe: Recipe, run: Path, listener: Listener) -> None:
        self.recipe, self.run, self.listener = recipe, run, listener
        self.problems = Problems(recipe.problem_limit)
        self.fitting = ""  # sentence about a batch that was fitted to the set

    def go(self, resumed: bool) -> TrainingResult:
        recipe = self.recipe
        if recipe.deterministic and keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.experimental.enable_op_determinism()
        self.devices = open_devices(recipe)
        with only_writer(self.run) if resumed and self.devices.is_first else contextlib.nullcontext():
            return self._go(resumed)

    def _go(self, resumed: bool) -> TrainingResult:
        keras.utils.set_random_seed(self.recipe.seed)
        self._open_data()
        self.progress = TrainingProgress(fingerprint=self.source.fingerprint)
        # A history without checkpoints means that these were removed. A new start would remove the models too.
        begun = checkpoints(self.run / run_files.CHECKPOINTS) or (self.run / run_files.HISTORY).exists()
        checkpoint = self._standing() if resumed and begun else None
        if resumed and checkpoint is None:
            self._say("the run was interrupted before its first checkpoint, and starts again")
        begins = self.devices.is_first and not resumed
        with run_directory.claimed(self.run, self.recipe, self.progress) if begins else contextlib.nullcontext():
            if self.devices.is_first:
                run_directory.describe_run(
                    self.run, str(self.devices), self.source.summary(), self.validation.summary()
                )
            for line in account(self.recipe.data, [self.source, self.validation]):
                self._say(line)
            if self.fitting:
                self._say(self.fitting)
            self._say(f"training on {self.devices}")
            self._build(checkpoint)
            self._train(fresh=checkpoint is None)
            return self._finish()

    def _build(self, checkpoint: Path | None) -> None:
        with self.devices.scope():
            self.model = self.training.training_model(fresh=checkpoint is None)
        if checkpoint is None:
            self.progress.contract = asdict(self.training.contract(self.model))
        self.contract = contract_of_fields(self.progress.contract)
        self.evaluated = self.training.evaluated_model() if self.devices.is_first else None
        self.phase: tuple[int, int, str] | None = None
        self.watch = Watch(
            self.run / run_files.CHECKPOINTS if self.devices.is_first else None,
            self.progress,
            self.steps_per_epoch,
            self.recipe,
            self.problems,
            self._show,
        )
        self.watch.restore_from = checkpoint
        self.watch.set_model(self.model)
        self._enter_phase()

    def _train(self, fresh: bool) -> None:
        try:
            with StopOnSignal(self.watch, self._say):
                if fresh:
                    self.watch.save()
                while self.progress.epoch < self.recipe.epochs and not self.watch.terminated:
                    self._epoch()
                with self.devices.scope():
                    self.watch.restore()  # the run was killed after its last epoch and before its last files
        finally:
            if self.devices.is_first and self.problems.found:
                self.problems.write_csv(self.run / run_files.PROBLEMS)

    def _open_data(self) -> None:
        recipe = self.recipe
        if not recipe.data:
            raise ArgumentError("the recipe names no images; give --data, or the key `data`")
        self.source = open_source(recipe.data, "train", reading=recipe, task=recipe.task)
        self.validation = open_source(recipe.data, "val", self.source.classes, recipe, recipe.task)
        recipe = self._fitted()
        self.task = task_named(recipe.task)
        self.training = self.task.training(recipe, self.source)
        classes = len(self.source.classes)
        if recipe.classes not in (0, classes):
            raise ArgumentError(
                f"{recipe.data} has {classes} classes. Received: classes = {recipe.classes}. Correct `classes` "
                "(--classes), or leave it out"
            )
        self.steps_per_epoch = self.source.count // recipe.batch_size
        if not self.steps_per_epoch:
            raise ArgumentError(
                f"batch_size must be at most the {self.source.count} training images. Received: {recipe.batch_size}. "
                "Lower it (--batch-size)"
            )

    def _fitted(self) -> Recipe:
        """-> the recipe, whose batch the training images fill if it was not stated."""
        given, count = self.recipe, self.source.count
        self.recipe = given.fitted(count, len(self.devices.names))
        if self.recipe != given:
            taken = f"batch_size = {self.recipe.batch_size}"
            former = str(given.batch_size)
            if self.recipe.learning_rate != given.learning_rate:
                taken += f" and learning_rate = {self.recipe.learning_rate:g}"
                former += f" and {given.learning_rate:g}"
            self.fitting = f"{taken} instead of {former}, for {count} training images (--batch-size sets another)"
        return self.recipe

    @property
    def title(self) -> str:
        """Name of the score for people."""
        return self.task.titles[self.task.score]

    def _standing(self) -> Path:
        """Reads the progress of the interrupted run -> its checkpoint."""
        checkpoint, progress, damaged = read_progress(self.run / run_files.CHECKPOINTS)
        for sentence in damaged:
            self._say(f"{sentence}; using the checkpoint before it")
        if progress.fingerprint != self.progress.fingerprint:
            raise TrainingError(
                f"{self.recipe.data}: the training images have changed since the run began (files were added, removed "
                "or renamed); begin a new run"
            )
        score = self.task.score
        columns = {"epoch", "learning_rate", "loss", f"val_{score}"}
        columns |= set() if self.training.collects else {score, "val_loss"}
        lacking = sorted({column for row in progress.history for column in columns - row.keys()})
        steps = progress.epoch * self.steps_per_epoch + progress.batch
        if len(progress.history) != progress.epoch or progress.best_epoch > progress.epoch or not progress.contract:
            raise TrainingError(f"{checkpoint}: its history is not of {progress.epoch} epochs. Begin a new run")
        if lacking or progress.step != steps or progress.batch > self.steps_per_epoch:
            raise TrainingError(
                f"{checkpoint}: the checkpoint is of another recipe, or damaged: "
                + (
                    f"its history lacks {', '.join(lacking)}"
                    if lacking
                    else f"it counts {progress.step} steps, not {steps}"
                )
                + ". Begin a new run"
            )
        self.progress = progress
        for problem in progress.problems:
            self.problems.add(*problem)
        self._say(f"continuing after step {progress.step}, from {checkpoint.name}")
        return checkpoint

    def _enter_phase(self) -> None:
        """Compiles the model for the next epoch, if it trains other layers than the last epoch."""
        recipe, epoch = self.recipe, self.progress.epoch
        in_head = epoch < recipe.head_epochs
        first, last = (0, recipe.head_epochs) if in_head else (recipe.head_epochs, recipe.epochs)
        phase = (first, last, "C5" if in_head else recipe.freeze)
        if phase == self.phase:
            return
        self.phase = phase
        with self.devices.scope():
            for layer in self.model.layers:
                layer.trainable = True
            if phase[2] in FREEZABLE_LEVELS:
                freeze(self.model, through=phase[2])
            if recipe.freeze_batch_norm:
                freeze_batch_norm(self.model)
            if frozen(self.model).layers:
                self._say(f"epochs {first + 1} to {last}: {frozen(self.model)}")
            updates_per_epoch = self.steps_per_epoch / recipe.accumulation_steps
            self.schedule = learning_rate_schedule(recipe, round((last - first) * updates_per_epoch), updates_per_epoch)
            self.model.compile(
                make_optimizer(recipe, self.model, self.schedule),
                **self.training.objective(self.model),
                jit_compile=self._compiles(),
            )
            # All variables of a checkpoint are made now, not in the first step.
            self.model.optimizer.build(self.model.trainable_variables)
            nothing = self.training.nothing(self.model)
            self.model.compute_loss(None, *nothing)  # each of several outputs has a metric of its loss
            self.model.compute_metrics(None, *nothing)
            self.model.reset_metrics()

    def _compiles(self) -> bool | str:
        """Value of Keras' `jit_compile`."""
        if self.recipe.xla == "auto":
            return "auto"  # Keras then uses XLA on a GPU, and always on JAX
        return self.recipe.xla == "on"

    def _epoch(self) -> None:
        recipe, progress, epoch = self.recipe, self.progress, self.progress.epoch
        devices = self.devices
        batches = training_batches(
            self.source,
            recipe,
            size=recipe.size_of_epoch(epoch),
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            epoch=epoch,
            first_batch=progress.batch,
            worker=devices.process,
            workers=devices.processes,
            problems=self.problems,
            interpolation=recipe.interpolation,
            class_weights=self.training.batch_class_weights(),
        )
        self.rate = Rate()
        try:
            with devices.scope():
                fitted = self.model.fit(
                    self.training.batches(self.model, batches),
                    steps_per_epoch=self.steps_per_epoch - progress.batch,
                    initial_epoch=epoch,
                    epochs=epoch + 1,
                    shuffle=False,
                    verbose=0,
                    callbacks=[self.watch],
                )
        except Exception as error:  # JAX has no exception type for a lost process
            if devices.processes > 1 and not isinstance(error, TrainingError):
                raise PeerLostError(progress.step, reason(error)) from error
            raise
        check_problems(self.problems)
        if progress.batch < self.steps_per_epoch:  # SIGTERM ended the epoch
            return
        figures = self.training.figures({name: values[-1] for name, values in fitted.history.items()})
        row = {
            "epoch": epoch + 1,
            "step": progress.step,
            "learning_rate": float(self.schedule(self._updates())),
            **figures,
            **self._validate(),
            "images_per_second": self.rate.images_per_second,
            "seconds": self.rate.seconds,
        }
        progress.history.append(row)
        self._keep_the_best()
        progress.epoch, progress.batch = epoch + 1, 0
        if progress.epoch < recipe.epochs:
            self._enter_phase()
        if devices.is_first:
            run_directory.write_history(self.run, progress.history)
            run_directory.log_to_tensorboard(self.run, row)
        self.watch.save()
        score = self.task.score
        said = f"epoch {epoch + 1} of {recipe.epochs}: loss {row['loss']:.4f}"
        if score in row:
            said += f", {self.title} {row[score]:.2f} %"
        if f"val_{score}" in row:
            said += f"; validation {self.title} {Validated.of_row(row, score)}"
        self._say(said)

    def _keep_the_best(self) -> None:
        """Writes model.keras if the last row of the history is the best."""
        progress = self.progress
        if self.evaluated is not None and takes_the_place(progress.history, progress.best_epoch, self.task.score):
            progress.best_epoch = len(progress.history)
            self._save(run_files.BEST)

    def _updates(self) -> int:
        """Number of weight updates by the optimizer of this phase."""
        optimizer = self.model.optimizer
        return int(value_of(getattr(optimizer, "inner_optimizer", optimizer).iterations))

    def _validate(self) -> dict[str, float]:
        """-> figures of the float32 network on the validation images. The network becomes `evaluated`."""
        if self.evaluated is None:
            return {}
        self._copy_weights(self.evaluated)
        logs = (self._collected if self.training.collects else self._measured_by_keras)(self.evaluated)
        ends = self.training.interval_percent(logs, self.validation.count)
        figures = self.training.figures(logs) | dict(zip(interval_columns(self.task.score), ends, strict=True))
        return {f"val_{name}": value for name, value in figures.items()}

    def _measured_by_keras(self, evaluated: keras.Model) -> dict[str, float]:
        batches = evaluation_batches(
            self.validation, self.contract, batch_size=self.recipe.batch_size, problems=self.problems
        )
        with warnings.catch_warnings():  # unreadable files are left out, so that there may be fewer batches
            warnings.filterwarnings("ignore", message="Your input ran out of data")
            return evaluated.evaluate(batches, verbose=0, return_dict=True)

    def _collected(self, evaluated: keras.Model) -> dict[str, float]:
        """-> the figures that `keras-resnet evaluate` has for these images."""
        names, run = list(self.source.classes), partial(answer, evaluated)
        predictor = Predictor(evaluated.name, self.task, names, self.contract, len(names), run)
        evaluation = evaluate(
            predictor,
            [self.validation],
            batch_size=self.recipe.batch_size,
            unreadable=lambda name, reason: self.problems.add(name, reason, used=False),
        )
        check_problems(self.problems)
        figures = {} if evaluation is None else evaluation.figures
        known = {name: value for name, value in figures.items() if value is not None}
        if self.task.score not in known:
            raise TrainingError(
                f"{self.recipe.data}: its validation images give no {self.title}: none can be read, or none has an "
                "object. Add such images, or leave out the split, so that a tenth of the training images validates"
            )
        return known

    def _copy_weights(self, evaluated: keras.Model) -> None:
        """Copies the trained weights, or their moving average, into the network that is validated and saved."""
        own = {variable.path: variable for variable in self.model.weights}
        means = averages(self.model.optimizer)
        if means is not None:
            own |= {v.path: mean for v, mean in zip(self.model.trainable_variables, means, strict=True)}
        for variable in evaluated.weights:
            variable.assign(value_of(own[variable.path]))

    def _save(self, name: str) -> None:
        try:
            facts = self.training.task_facts(self.progress.history[-1])
            save_model(self.evaluated, self.run / name, self.source.classes, self.contract, task_facts=facts)
        except OSError as error:
            raise TrainingError(
                f"step {self.progress.step}: {name} can't be written ({reason(error)}). The checkpoints stay; make "
                "room and continue with --resume"
            ) from error

    def _finish(self) -> TrainingResult:
        complete = self.progress.epoch == self.recipe.epochs
        if complete and self.evaluated is not None:
            self._copy_weights(self.evaluated)
            self._save(run_files.LAST)
            titles = {"loss": "loss", self.task.score: self.title}
            if run_directory.plot_history(self.run, self.progress.history, titles) is None:
                self._say(f"curves.png is not written: it needs matplotlib, {how_to_install('plots')}")
        history, epoch, score = self.progress.history, self.progress.best_epoch, self.task.score
        best = Validated.of_row(history[epoch - 1], score) if epoch else None
        return TrainingResult(self.run, complete, history, self.title, epoch, best, self.recipe)

    def _say(self, sentence: str) -> None:
        if self.devices.is_first:
            self.listener.say(sentence)

    def _show(self, logs: dict[str, float]) -> None:
        self.rate.add(self.recipe.batch_size)
        steps = self.recipe.epochs * self.steps_per_epoch
        progress = self.progress
        self.listener.show(
            Standing(
                progress.step,
                steps,
                progress.epoch + 1,
                self.recipe.epochs,
                self.rate.images_per_second,
                self.training.figures(logs),
            )
        )
