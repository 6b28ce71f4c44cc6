"""Fixtures shared by the tests of the training data."""

import numpy as np
import pytest
from few_images import COUNTS
from pictures import write_folder

from keras_resnet.tasks.sources import open_source


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data"), COUNTS)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("arrays") / "small.npz"
    draw = np.random.default_rng(3)
    np.savez(path, x_train=draw.integers(0, 256, (45, 32, 32, 3), np.uint8), y_train=draw.integers(0, 3, 45))
    return path


@pytest.fixture(params=["folder", "archive"])
def source(request):
    return open_source(request.getfixturevalue(request.param), "train")
