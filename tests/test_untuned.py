"""No pipeline of the package has the thread that tunes it: `fit` and `evaluate` return with their last step."""

from pathlib import Path

import keras
import numpy as np
import pytest
from small_classifier import small_classifier

import keras_resnet
from keras_resnet import inference
from keras_resnet.data.augment import Augmentation
from keras_resnet.data.pipeline import evaluation_batches, training_batches
from keras_resnet.data.problems import Problems
from keras_resnet.tasks.sources import open_source
from keras_resnet.untuned import batches_of_arrays, untuned
from keras_resnet.variants import InputContract

PIXELS = np.random.default_rng(2).integers(0, 256, (11, 32, 32, 3), dtype="uint8")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.npz"
    classes = np.arange(11) % 2
    np.savez(path, x_train=PIXELS, y_train=classes, x_val=PIXELS, y_val=classes)
    return path


def test_batches_of_training_and_evaluation_are_untuned(archive: Path) -> None:
    source, problems = open_source(archive, "train"), Problems(5)
    augmentation = Augmentation(crop="padded")
    training = training_batches(
        source, augmentation, size=32, batch_size=4, seed=0, epoch=0, problems=problems, class_weights=[1.0, 2.0]
    )
    evaluation = evaluation_batches(source, InputContract(32, 32, "bilinear"), batch_size=4, problems=problems)
    for batches in (training, evaluation, batches_of_arrays(PIXELS, np.arange(11), 4)):
        assert batches.options().autotune.enabled is False
        mapped = batches.map(lambda *parts: parts)  # as a task adds to them
        assert mapped.options().autotune.enabled is False


def test_a_user_s_dataset_keeps_its_elements_and_options() -> None:
    import tensorflow as tf

    options = tf.data.Options()
    options.deterministic = False
    dataset = tf.data.Dataset.from_tensor_slices(PIXELS).batch(4).prefetch(tf.data.AUTOTUNE).with_options(options)
    assert untuned(dataset).options().deterministic is False
    np.testing.assert_array_equal(np.concatenate(list(untuned(dataset).as_numpy_iterator())), PIXELS)


def test_no_module_leaves_a_degree_of_parallelism_to_the_tuning() -> None:
    package = Path(keras_resnet.__file__).parent
    assert [path.name for path in package.rglob("*.py") if "AUTOTUNE" in path.read_text(encoding="utf-8")] == []


def test_answers_without_a_pipeline_are_those_of_keras(randomise) -> None:
    model = randomise(small_classifier(), seed=6)
    expected = model.predict(PIXELS, verbose=0)
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    for batch_size in (4, 32):
        np.testing.assert_allclose(inference.predict(other, PIXELS, batch_size), expected, rtol=1e-5, atol=1e-7)
    assert other.predict_function.experimental_get_tracing_count() == 1  # batches of 4, 3 and 11 images
