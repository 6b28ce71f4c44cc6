import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from keras_resnet.labels import decode_predictions, imagenet_labels, top_indices


def test_imagenet_labels_are_those_of_keras():
    labels = imagenet_labels()
    assert len(labels) == 1000
    assert len({wnid for wnid, _ in labels}) == 1000
    assert labels[0] == ("n01440764", "tench")
    assert labels[207] == ("n02099601", "golden_retriever")
    assert labels[607] == ("n03590841", "jack-o'-lantern")
    assert labels[134] == ("n02012849", "crane")
    assert labels[517] == ("n03126707", "crane")
    assert labels[999] == ("n15075141", "toilet_tissue")
    assert [wnid for wnid, _ in labels] == sorted(wnid for wnid, _ in labels)  # ImageNet's own order


def test_imagenet_labels_equal_the_class_index_of_keras(shared_data):
    content = (shared_data / "imagenet_index" / "imagenet_class_index.json").read_bytes()
    assert hashlib.md5(content).hexdigest() == "c2c37ea517e94d9795004a39431a14cb"  # as keras.applications checks it
    index = json.loads(content)
    assert [list(label) for label in imagenet_labels()] == [index[str(i)] for i in range(1000)]


def test_decode_predictions_sorts_and_names():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(1000), size=3).astype("float32")
    decoded = decode_predictions(probabilities, top=4)
    assert [len(best) for best in decoded] == [4, 4, 4]
    for row, best in zip(probabilities, decoded, strict=True):
        remaining = row.copy()
        for wnid, name, probability in best:  # an oracle that takes the largest away, one at a time
            i = int(remaining.argmax())
            assert (wnid, name, probability) == (*imagenet_labels()[i], float(row[i]))
            remaining[i] = -1
    assert decode_predictions(probabilities[1:2], top=4) == decoded[1:2]
    assert len(decode_predictions(probabilities)[0]) == 5


def test_own_labels_carry_the_class_index():
    decoded = decode_predictions([[0.1, 0.7, 0.2]], top=2, class_names=["ant", "bee", "wasp"])
    assert decoded == [[("1", "bee", 0.7), ("2", "wasp", 0.2)]]


def test_equal_probabilities_come_in_the_order_of_the_classes():
    assert top_indices([[0.2, 0.4, 0.4, 0.0]], 4).tolist() == [[1, 2, 0, 3]]
    assert top_indices(np.zeros((1, 1000)), 5).tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize(("dtype", "order"), [("int8", [1, 2, 0]), ("uint8", [1, 0, 2])])
def test_outputs_of_an_integer_network_are_ranked(dtype, order):
    values = np.array([[0 if dtype == "uint8" else -128, 100, 5]]).astype(dtype)
    if dtype == "uint8":
        values[0] = [200, 255, 0]
    assert top_indices(values, 3).tolist() == [order]


GOOD = np.full((2, 1000), 1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probabilities": GOOD[0]}, r"`probabilities` must be an array \[N, classes\].*shape \[1000\]"),
        ({"probabilities": GOOD[:0]}, r"`probabilities` must be .*shape \[0, 1000\]"),
        (
            {"probabilities": np.where(np.arange(1000) == 3, np.nan, GOOD)},
            "`probabilities` must be finite.*2 of 2 rows",
        ),
        ({"probabilities": np.stack([GOOD[0], GOOD[0] * np.inf])}, "1 of 2 rows, first in row 1"),
        ({"probabilities": GOOD, "top": 0}, r"`top` must be an integer in 1\.\.1000.*top=0"),
        ({"probabilities": GOOD, "top": 1001}, "top=1001"),
        ({"probabilities": GOOD, "top": 2.0}, r"top=2\.0"),
        ({"probabilities": GOOD, "top": True}, "top=True"),
        ({"probabilities": GOOD[:, :10]}, "`class_names` must hold one name for each of the 10 classes.*1000 names"),
        ({"probabilities": GOOD, "class_names": ["a"]}, "1000 classes.*Received: 1 names"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        decode_predictions(**arguments)


def test_names_and_images_need_no_keras():
    code = (
        "import sys, keras_resnet.labels, keras_resnet.preprocessing, keras_resnet.evaluation;"
        "import keras_resnet.cli.predict;"
        "keras_resnet.labels.imagenet_labels(); sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
