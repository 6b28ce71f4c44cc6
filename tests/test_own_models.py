"""Users' own Keras models: nested, binary, regressions, features; how each is read, and that its files answer alike."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from small_classifier import small_classifier

import keras_resnet
from keras_resnet.compress import quantize_aware
from keras_resnet.errors import ArgumentError, ExportError
from keras_resnet.explain import grad_cam
from keras_resnet.export import export
from keras_resnet.export.fold import fold
from keras_resnet.export.formats import Options
from keras_resnet.export.images import synthetic_images
from keras_resnet.export.prepare import check_prepared, prepare
from keras_resnet.facts import facts_of
from keras_resnet.graph import flatten
from keras_resnet.loading import open_network, open_predictor
from keras_resnet.model_files import save_model
from keras_resnet.normalisation import pixel_map
from keras_resnet.tasks.interpret import interpret
from keras_resnet.tasks.outputs import NOTHING, Stated, read_output
from keras_resnet.variants import InputContract

PIXELS = synthetic_images((32, 32, 3), count=40, seed=3)


def body(randomise, seed=1):
    """Pixels `[N, 32, 32, 3]` -> features `[N, 16]`: a small network without its head."""
    classifier = randomise(small_classifier(), seed=seed)
    return keras.Model(classifier.input, classifier.get_layer("pool").output, name=f"body_{seed}")


def on_body(inner, *head, augmentation=()):
    """Layers before a network, the network as a layer, layers after it -> Sequential model."""
    return keras.Sequential([keras.Input((32, 32, 3)), *augmentation, inner, *head])


def spread(model):
    """Scales the last kernel so that the answers to `PIXELS` differ clearly -> the model."""
    head = model.layers[-1]
    before = keras.Sequential(model.layers[:-1])(PIXELS.astype("float32"), training=False).numpy()
    logits = before @ head.kernel.numpy()
    head.kernel.assign(1.5 * head.kernel.numpy() / logits.std(axis=0))
    head.bias.assign(-(1.5 * logits / logits.std(axis=0)).mean(axis=0))
    return model


def answers(model, pixels=PIXELS):
    return np.asarray(model(pixels.astype("float32"), training=False))


# --- the flat form ------------------------------------------------------------------------------------------------


def nested_models(randomise):
    inner, other = body(randomise), body(randomise, seed=2)
    yield on_body(inner, layers.Dropout(0.3), layers.Dense(5, activation="softmax"))
    augmentation = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)])
    yield on_body(inner, layers.Dense(6, activation="relu"), layers.Dense(3), augmentation=[augmentation])
    image = keras.Input((32, 32, 3))
    mirrored = layers.Average()([inner(image, training=False), inner(keras.ops.flip(image, axis=2))])
    yield keras.Model(image, layers.Dense(1, activation="sigmoid")(mirrored))  # one layer, called twice
    yield keras.Model(image, layers.Dense(4)(layers.Concatenate()([inner(image), other(image)])))  # equal names inside
    deep = keras.Sequential([keras.Sequential([keras.Sequential([inner])]), layers.Activation("relu6")])
    yield on_body(deep, layers.Dense(2, activation="softmax"))


def test_a_nested_model_becomes_an_equal_flat_one(randomise):
    for model in nested_models(randomise):
        flat = flatten(model)
        names = [layer.name for layer in flat.layers]
        assert not any(isinstance(layer, keras.Model) for layer in flat.layers)
        assert len(names) == len(set(names))
        assert not any(isinstance(layer, (layers.Dropout, layers.RandomFlip)) for layer in flat.layers)
        kernels = [layer for layer in flat.layers if isinstance(layer, (layers.Conv2D, layers.Dense))]
        assert all(layer.activation is keras.activations.linear for layer in kernels)
        for count in (1, 5):
            np.testing.assert_allclose(answers(flat, PIXELS[:count]), answers(model, PIXELS[:count]), atol=1e-6)
        assert flatten(flat) is flat


def test_layers_that_are_left_out_change_nothing_in_prediction():
    arguments = {"RandomPosterization": (4,), "RandomTranslation": (0.2, 0.2), "RandomElasticTransform": ()}
    names = [name for name in dir(layers) if name.startswith("Random") and name != "RandomCrop"]
    pixels = PIXELS[:2].astype("float32")
    for name in (*names, "AugMix", "CutMix", "MixUp", "RandAugment"):
        for given in (arguments.get(name, ()), (0.5,), (0.2, 0.2)):
            try:
                layer = getattr(layers, name)(*given)
                break
            except TypeError:  # it has required arguments
                continue
        np.testing.assert_array_equal(layer(pixels, training=False), pixels, err_msg=name)


def test_networks_of_this_package_are_flat_as_they_are():
    for model in (keras_resnet.ResNet20(), small_classifier(), quantize_aware(small_classifier())):
        assert flatten(model) is model


# --- what an output means -----------------------------------------------------------------------------------------

IMAGES = (None, 32, 32, 3)


@pytest.mark.parametrize(
    ("activation", "units", "loss", "stated", "expected"),
    [
        ("softmax", 5, None, NOTHING, ("classify", "probabilities")),
        ("softmax", 5, "sigmoid", NOTHING, ("tag", "probabilities")),
        ("sigmoid", 1, None, NOTHING, ("classify", "probabilities")),
        ("sigmoid", 1, None, Stated("tag"), ("tag", "probabilities")),
        ("sigmoid", 5, None, NOTHING, ("tag", "probabilities")),
        ("sigmoid", 5, "softmax", NOTHING, ("classify", "probabilities")),
        ("sigmoid", 5, None, Stated("classify"), ("classify", "probabilities")),
        ("sigmoid", 1, "values", Stated(None, "values"), ("regress", "values")),
        ("linear", 5, None, NOTHING, ("classify", "logits")),
        ("linear", 5, "sigmoid", NOTHING, ("tag", "logits")),
        ("linear", 1, "sigmoid", NOTHING, ("classify", "logits")),
        ("linear", 1, "values", NOTHING, ("regress", "values")),
        ("linear", 4, "values", NOTHING, ("regress", "values")),
        ("linear", 1, None, Stated(None, "logits"), ("classify", "logits")),
        ("linear", 1, None, Stated("regress"), ("regress", "values")),
        ("linear", 64, None, Stated("embed"), ("embed", "features")),
        (None, 64, None, Stated(None, "features"), ("embed", "features")),
        (None, 3, None, Stated("classify", "probabilities"), ("classify", "probabilities")),
    ],
)
def test_an_output_is_what_is_stated_or_what_its_layers_and_loss_show(activation, units, loss, stated, expected):
    reading = read_output(
        "m", IMAGES, (None, units), activation, last="last", loss=loss, task=stated.task, kind=stated.output_kind
    )
    assert reading[:2] == expected


@pytest.mark.parametrize(
    ("answer", "activation", "loss", "stated", "message"),
    [
        ((None, 1), "linear", None, NOTHING, r"one output without an activation.*--output-kind\) values or logits"),
        ((None, 1), "sigmoid", "values", NOTHING, r"is a sigmoid, but its loss is one for values"),
        ((None, 64), None, None, NOTHING, r"its last layer 'last' is no dense layer.*--output-kind\) features"),
        ((None, 1), "softmax", None, NOTHING, r"a softmax over one class is always 1"),
        ((None, 5), "softmax", None, Stated(None, "logits"), r"is a softmax, so that its output are no logits"),
        ((None, 32, 32, 1), "linear", "values", NOTHING, r"a loss for values, but answers for every pixel"),
        ((None, 5), "softmax", None, Stated("segment"), r"--task\) must be classify or tag or regress or embed for"),
        ((None, 5), "softmax", None, Stated("regress", "logits"), r"--output-kind\) must be values for the task"),
        ((None, 5), "softmax", None, Stated("detect"), r"--task\) must be one of classify, segment, .* Received: det"),
        ((None, 5), "softmax", None, Stated(None, "scores"), r"--output-kind\) must be one of probabilities, logits"),
        ((None, 5, 3), "softmax", None, NOTHING, r"must map images \[N, H, W, C\]"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused_with_the_option(answer, activation, loss, stated, message):
    with pytest.raises(ArgumentError, match=message):
        read_output("m", IMAGES, answer, activation, last="last", loss=loss, task=stated.task, kind=stated.output_kind)


@pytest.mark.parametrize(
    ("loss", "units", "expected"),
    [
        ("mse", 1, ("regress", "values")),
        (keras.losses.Huber(), 2, ("regress", "values")),
        (keras.losses.BinaryCrossentropy(from_logits=True), 1, ("classify", "logits")),
        (keras.losses.BinaryCrossentropy(from_logits=True), 3, ("tag", "logits")),
        (keras.losses.sparse_categorical_crossentropy, 3, ("classify", "logits")),
    ],
)
def test_the_loss_of_a_file_is_read_without_building_it(loss, units, expected, randomise, tmp_path):
    model = on_body(body(randomise), layers.Dense(units))
    model.compile("sgd", loss)
    assert facts_of(interpret(model)).task == expected[0]
    model.save(tmp_path / "own.keras")
    network, _ = open_network(str(tmp_path / "own.keras"), None)
    facts = facts_of(network)
    assert (facts.task, facts.output_kind) == expected
    assert facts.read_as.startswith(f"{tmp_path / 'own.keras'}: task {expected[0]}, ")


def test_what_was_read_is_no_fact_about_the_users_object(randomise):
    model = on_body(body(randomise), layers.Dense(3))
    flat = flatten(model)
    assert facts_of(interpret(flat)).task == "classify"
    assert facts_of(flat).task is None
    flat.compile(loss="mse")
    assert facts_of(interpret(flat)).task == "regress"


def test_models_that_no_reading_fits_are_refused(randomise):
    inner, image = body(randomise), keras.Input((32, 32, 3))

    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    two = keras.Model(image, [layers.Dense(2)(inner(image)), layers.Dense(1, name="age")(inner(image))])
    coarse = keras.Model(image, layers.Conv2D(3, 1, strides=2)(layers.Rescaling(1 / 255)(image)))
    for model, message in (
        (Own(), r"must be a built functional Keras model.*keras\.Model\(image, model\.call\(image\)\)"),
        (two, r"its outputs are dense.*, age\. For one of its outputs: keras\.Model\(model\.input"),
        (coarse, r"must answer for the whole image, \[N, classes\], or for every pixel"),
    ):
        with pytest.raises(ArgumentError, match=message):
            interpret(model)
        with pytest.raises(ExportError, match=message):
            export(model, "unused")


# --- one output for two classes -----------------------------------------------------------------------------------


def binary_models(randomise):
    """-> models of one output, and the probability of the second class from their output."""
    inner, image = body(randomise), keras.Input((32, 32, 3))
    probability, sigmoid = (lambda values: values), (lambda values: 1 / (1 + np.exp(-values.astype("float64"))))
    yield on_body(inner, layers.Dense(1, activation="sigmoid")), probability
    yield on_body(inner, layers.Dense(1), layers.Activation("sigmoid")), probability
    yield keras.Model(image, keras.ops.sigmoid(layers.Dense(1, use_bias=False)(inner(image)))), probability
    logit = on_body(inner, layers.Dense(1), layers.Activation("linear", dtype="float32"))
    logit.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    yield logit, sigmoid
    small = layers.Conv2D(4, 3, strides=2, padding="same")(layers.Rescaling(1 / 255)(image))
    coarse = layers.UpSampling2D(interpolation="bilinear")(layers.Conv2D(1, 1)(small))
    yield keras.Model(image, layers.Activation("sigmoid")(coarse)), probability
    yield keras.Model(image, layers.Conv2D(1, 3, padding="same", activation="sigmoid")(small_up(image))), probability
    halves = layers.Average()([layers.Dense(1, "sigmoid")(inner(image)), layers.Dense(1, "sigmoid")(inner(image))])
    averaged = keras.Model(image, halves)
    yield averaged, probability


def small_up(image):
    return layers.Conv2D(4, 3, padding="same", activation="relu")(layers.Rescaling(1 / 255)(image))


def test_one_output_becomes_two_classes(randomise):
    for model, probability_of in binary_models(randomise):
        stated = "probabilities" if isinstance(model.layers[-1], layers.Average) else None
        read = interpret(model, output_kind=stated)
        for count in (1, 6):
            second = probability_of(answers(model, PIXELS[:count]))
            prepared = prepare(read)
            expected = np.concatenate([1 - second, second], axis=-1)
            np.testing.assert_allclose(answers(prepared, PIXELS[:count]), expected, atol=2e-6)
        assert np.ptp(second) > 1e-4
        check_prepared(model, prepared, PIXELS[:4], facts_of(read).output_kind)
    tags = interpret(on_body(body(randomise), layers.Dense(1, activation="sigmoid")), task="tag")
    assert (tags.outputs[0].shape[-1], facts_of(tags).task) == (1, "tag")


def test_a_binary_classifier_predicts_with_two_names(randomise, tmp_path):
    model = spread(on_body(body(randomise), layers.Dense(1)))
    probability = 1 / (1 + np.exp(-answers(model)[:, 0]))
    contract = InputContract(32, 32)
    save_model(model, tmp_path / "m.keras", ["cat", "dog"], contract, task="classify")
    predictor = keras_resnet.load(tmp_path / "m.keras")
    assert (predictor.class_names, predictor.classes) == (["cat", "dog"], 2)
    found = predictor.run(PIXELS)["probabilities"]
    np.testing.assert_allclose(found, np.stack([1 - probability, probability], axis=1), atol=1e-5)


# --- normalisation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_a_normalisation_is_measured_and_folded(mode, randomise):
    image = keras.Input((32, 32, 3))
    normalised = keras.applications.imagenet_utils.preprocess_input(image, mode=mode)
    x = layers.ZeroPadding2D(((1, 1), (1, 1)))(normalised)
    x = layers.BatchNormalization()(layers.Conv2D(6, 3, strides=2)(x))
    features = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    model = randomise(keras.Model(image, layers.Dense(4, activation="softmax")(features)))
    found = pixel_map(flatten(model))
    pixels = PIXELS[:2].astype("float32")
    expected = np.asarray(keras.Model(image, normalised)(pixels))
    np.testing.assert_allclose(pixels @ found.matrix.T + found.offset, expected, atol=1e-3)
    folded = fold(prepare(model))
    assert [type(op).__name__ for op in folded.operations][:3] == ["InputLayer", "ConstantPadding2D", "Conv2D"]
    for count in (1, 5):
        np.testing.assert_allclose(answers(folded, PIXELS[:count]), answers(model, PIXELS[:count]), atol=2e-6)
    free = keras.Input((None, None, 3))
    twin = keras.models.clone_model(flatten(model), input_tensors=free)
    twin.set_weights(model.get_weights())
    shifted = fold(prepare(twin, any_size=True))
    np.testing.assert_allclose(answers(shifted, PIXELS[:3]), answers(model, PIXELS[:3]), atol=2e-6)


def test_what_is_no_function_of_single_pixels_stays(randomise):
    image = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 255)(layers.Resizing(24, 24)(image))
    model = keras.Model(image, layers.Dense(3, "softmax")(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x))))
    assert pixel_map(flatten(model)) is None
    folded = fold(prepare(model))
    np.testing.assert_allclose(answers(folded, PIXELS[:3]), answers(model, PIXELS[:3]), atol=1e-6)


def head_on(x, name=None):
    x = layers.BatchNormalization(name="bn")(layers.Conv2D(8, 3, name="first")(x))
    return layers.Dense(3, "softmax")(layers.GlobalAveragePooling2D()(layers.ReLU()(x)))


def test_a_model_without_its_normalisation_is_refused_with_three_lines(tmp_path):
    image = keras.Input((32, 32, 3))
    model = keras.Model(image, head_on(layers.Identity(name="preprocessing")(image)), name="raw")
    with pytest.raises(ArgumentError, match="computes nothing on its input before the layer 'first'") as refused:
        interpret(model)
    lines = str(refused.value).splitlines()[1:]
    assert len(lines) == 3
    space = {"keras": keras, "model": model}
    for line in lines:
        exec(line.strip().replace('"with_', f'"{tmp_path}/with_'), space)  # noqa: S102  # three lines of ours
    network, _ = open_network(str(tmp_path / "with_normalisation.keras"), None)
    np.testing.assert_allclose(answers(network), answers(model, PIXELS / 255), atol=1e-6)
    interpret(keras.Model(image, model(layers.Rescaling(1.0)(image))))  # trained on raw pixels, as its author states


@pytest.mark.parametrize(("scale", "told"), [(1.0, "255 times as large as what"), (1 / 255**2, "255 times smaller")])
def test_a_batch_norm_that_has_seen_another_scale_is_pointed_out(scale, told):
    image = keras.Input((32, 32, 3))
    model = keras.Model(image, head_on(layers.Rescaling(scale)(image)))
    pictures = keras.ops.image.resize(np.random.default_rng(0).uniform(0, 255, (8, 6, 6, 3)), (32, 32), "bicubic")
    values = np.asarray(model.get_layer("first")(np.clip(pictures, 0, 255).astype("float32") / 255))
    norm = model.get_layer("bn")
    norm.moving_mean.assign(values.mean(axis=(0, 1, 2)))
    norm.moving_variance.assign(np.maximum(values.var(axis=(0, 1, 2)) - norm.epsilon, 1e-6))
    assert told in facts_of(interpret(model)).read_as.splitlines()[1]
    right = keras.Model(image, head_on(layers.Rescaling(1 / 255)(image)))
    right.set_weights(model.get_weights())
    assert len(facts_of(interpret(right)).read_as.splitlines()) == 1


# --- files --------------------------------------------------------------------------------------------------------


def test_int8_of_a_nested_model_is_int8_of_the_flat_one(randomise, tmp_path):
    inner = body(randomise)
    nested = spread(on_body(inner, layers.Dropout(0.5), layers.Dense(5)))
    nested.layers[-1].activation = keras.activations.softmax
    flat = small_classifier(classes=5)
    flat.set_weights(nested.get_weights())
    found = []
    for name, model in (("nested", nested), ("flat", flat)):
        made = export(model, tmp_path / name, ("tflite-int8", "onnx-int8"), calibration=PIXELS)
        found.append([open_predictor(str(path), None).run(PIXELS)["probabilities"] for path in made.paths.values()])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_hidden_dense_layers_and_one_output_as_integers(randomise, tmp_path):
    head = (layers.Dense(12, activation="relu"), layers.BatchNormalization(), layers.Dropout(0.2), layers.Dense(1))
    model = spread(randomise(on_body(body(randomise), *head)))
    made = export(model, tmp_path, ("tflite-int8", "onnx-int8"), calibration=PIXELS, output_kind="logits")
    probability = 1 / (1 + np.exp(-answers(model)[:, 0]))
    for path in made.paths.values():
        predictor = open_predictor(str(path), None)
        assert predictor.classes == 2
        found = predictor.run(PIXELS)["probabilities"][:, 1]
        assert np.corrcoef(found, probability)[0, 1] > 0.99


@pytest.mark.parametrize(("task", "kind", "units"), [("regress", "values", 2), ("embed", "features", 16)])
def test_values_and_features_are_exported_under_their_own_name(task, kind, units, randomise, tmp_path):
    model = body(randomise)
    if task == "regress":
        model = on_body(model, layers.Dense(2))
        model.layers[-1].kernel.assign(100 * model.layers[-1].kernel)
    formats = ("saved_model", "tflite", "tflite-int8", "onnx", "onnx-int8")
    made = export(model, tmp_path, formats, calibration=PIXELS, output_kind=kind)
    expected = answers(model)
    for name, path in made.paths.items():
        predictor = open_predictor(str(path), None)
        [(output, found)] = predictor.run(PIXELS).items()
        assert (output, predictor.task.name, predictor.classes, found.dtype) == (kind, task, units, np.float32)
        allowed = 0.05 if "int8" in name else 1e-5
        assert np.abs(found - expected).max() < allowed * np.abs(expected).max()
        with pytest.raises(ArgumentError, match="must yield the probabilities of classes"):
            predictor.task.open_sources(".", "val", predictor.asked, units, None)
    with pytest.raises(ExportError, match="--output-type"):
        export(
            model, tmp_path / "b", ("tflite-int8",), calibration=PIXELS, task=task, options=Options(output_dtype="int8")
        )


def test_the_input_can_be_int8(randomise, tmp_path):
    model = spread(on_body(body(randomise), layers.Dense(5)))
    answers_of = {}
    for input_dtype in ("uint8", "int8"):
        options = Options(input_dtype=input_dtype, output_dtype="int8")
        made = export(model, tmp_path / input_dtype, ("tflite-int8",), calibration=PIXELS, options=options)
        answers_of[input_dtype] = open_predictor(str(made.paths["tflite-int8"]), None).run(PIXELS)["probabilities"]
        interpreter = tf.lite.Interpreter(str(made.paths["tflite-int8"]))
        details = interpreter.get_input_details()[0]
        assert np.dtype(details["dtype"]).name == input_dtype
        assert details["quantization"] == (1.0, -128 if input_dtype == "int8" else 0)
    np.testing.assert_array_equal(answers_of["int8"], answers_of["uint8"])


def test_quantization_aware_training_of_a_nested_model(randomise):
    inner = body(randomise)
    nested = on_body(inner, layers.Dropout(0.2), layers.Dense(3), augmentation=[layers.RandomFlip()])
    aware = quantize_aware(nested)
    assert any(isinstance(layer, layers.Dropout) for layer in aware.layers)  # it will be trained further
    assert any(isinstance(layer, layers.RandomFlip) for layer in aware.layers)
    aware.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    aware.fit(PIXELS.astype("float32"), np.arange(40) % 3, epochs=1, batch_size=8, verbose=0)
    flat = prepare(aware)
    assert not any(isinstance(layer, layers.RandomFlip) for layer in flat.layers)
    expected = np.asarray(keras.ops.softmax(aware(PIXELS[:4].astype("float32"), training=False)))
    np.testing.assert_allclose(answers(flat, PIXELS[:4]), expected, atol=1e-6)


def test_grad_cam_through_hidden_layers_is_grad_cam_by_gradients(randomise):
    inner = body(randomise)
    hidden = (layers.Dense(9, activation="relu"), layers.Dropout(0.3), layers.Dense(4, activation="softmax"))
    model = on_body(inner, *hidden)
    hidden[2].bias.assign([0.1, -0.2, 0.3, 0.0])
    hidden[2].kernel.assign(np.abs(hidden[2].kernel) + 0.1)  # something speaks for each class
    pixels = PIXELS[:3]
    maps_of = keras.Model(inner.input, inner.layers[-1].input)
    with tf.GradientTape() as tape:
        maps = maps_of(pixels.astype("float32"), training=False)
        tape.watch(maps)
        x = tf.reduce_mean(maps, axis=(1, 2))
        logits = tf.nn.relu(x @ hidden[0].kernel + hidden[0].bias) @ hidden[2].kernel + hidden[2].bias
        chosen = tf.reduce_sum(tf.gather(logits, [2, 0, 1], batch_dims=1))
    weights = tape.gradient(chosen, maps).numpy().mean(axis=(1, 2))
    heat = np.maximum((maps.numpy() * weights[:, None, None]).sum(axis=3), 0)
    heat = tf.image.resize(heat[..., None], (32, 32)).numpy()[..., 0]
    largest = heat.max(axis=(1, 2), keepdims=True)
    heat = np.divide(heat, largest, out=np.zeros_like(heat), where=largest > 0)
    np.testing.assert_allclose(grad_cam(model, pixels, [2, 0, 1]), heat, atol=1e-5)
    assert heat.max() == 1


def test_export_takes_its_earlier_arguments_with_a_warning(randomise, tmp_path):
    model = spread(on_body(body(randomise), layers.Dense(3)))
    with pytest.warns(DeprecationWarning, match="is now export") as warned:
        made = export(
            model,
            tmp_path,
            ("tflite-int8",),
            calibration=PIXELS[:20],
            labels=["a", "b", "c"],
            output_dtype="int8",
            force_calibration=True,
        )
    told = [str(warning.message) for warning in warned if "is now export" in str(warning.message)]
    assert told == [
        "export(labels=...) is now export(class_names=...)",
        "export(output_dtype=...) is now export(options=Options(..., output_dtype=...))",
        "export(force_calibration=...) is now export(calibration=CalibrationImages(..., force=...))",
    ]
    predictor = open_predictor(str(made.paths["tflite-int8"]), None)
    assert predictor.class_names == ["a", "b", "c"]
    assert len(list(itertools.chain(made.paths))) == 1


def test_an_asymmetric_padding_keeps_the_normalisation_as_one_layer(randomise, tmp_path):
    """As in EfficientNet of keras.applications, whose `Normalization` a converter would turn into further inputs."""
    image = keras.Input((32, 32, 3))
    x = layers.Normalization(mean=[120.0, 110.0, 100.0], variance=[3600.0, 3500.0, 3400.0])(image)
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Conv2D(6, 3, strides=2)(x)))
    model = keras.Model(image, layers.Dense(4, activation="softmax")(x))
    folded = fold(prepare(model))
    assert [type(op).__name__ for op in folded.operations][:3] == ["InputLayer", "Rescaling", "ZeroPadding2D"]
    np.testing.assert_allclose(answers(folded, PIXELS[:3]), answers(model, PIXELS[:3]), atol=1e-6)
    path = export(model, tmp_path, ("onnx",)).paths["onnx"]
    found = open_predictor(str(path), None).run(PIXELS[:3])["probabilities"]
    np.testing.assert_allclose(found, answers(model, PIXELS[:3]), atol=1e-6)


def test_integers_for_other_kernels_are_refused_by_name(tmp_path):
    image = keras.Input((32, 32, 3))
    x = layers.DepthwiseConv2D(3, name="deep")(layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(image)))
    model = keras.Model(image, layers.Dense(3, "softmax")(layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(ExportError, match=r"Received: a model with DepthwiseConv2D, the layer 'deep'\. Take a float"):
        export(model, tmp_path, ("tflite-int8",), calibration=PIXELS)


def test_integers_for_a_layer_that_is_called_twice_are_refused_by_name(randomise, tmp_path):
    _, _, mirrored, *_ = nested_models(randomise)
    with pytest.raises(ExportError, match=r"calls the layer '\w+' several times\. Take a float format"):
        export(mirrored, tmp_path, ("onnx-int8",), calibration=PIXELS)
    path = export(mirrored, tmp_path, ("onnx",)).paths["onnx"]
    second = answers(mirrored, PIXELS[:5])
    found = open_predictor(str(path), None).run(PIXELS[:5])["probabilities"]
    np.testing.assert_allclose(found, np.concatenate([1 - second, second], axis=1), atol=1e-5)
