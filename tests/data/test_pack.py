"""Packed shards: the same images, in a known order, whole after any kill."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from command_line import in_process
from pictures import jpeg, picture, write_folder

from keras_resnet.data import pack as packing
from keras_resnet.data import shards
from keras_resnet.data.augment import Augmentation
from keras_resnet.data.pipeline import training_batches
from keras_resnet.data.problems import Problems
from keras_resnet.errors import ArgumentError
from keras_resnet.packing import pack
from keras_resnet.tasks.sources import open_source

COUNTS = {"ant": 30, "bee": 50, "cow": 20}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_folder(tmp_path_factory.mktemp("files"), COUNTS, 20, 30)
    (folder / "ant" / "007.jpg").write_bytes(b"")
    (folder / "bee" / "011.jpg").write_bytes(jpeg(picture(20, 30, 1))[:300])
    (folder / "cow" / "003.jpg").write_bytes(jpeg(picture(9, 600, 1)))
    return folder


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "shards"
    pack(folder, out, shards=5)
    return out


def contents(source):
    return {source.name_of(index): (source.read(index), source.labels[index]) for index in range(source.count)}


def test_shards_hold_the_files_as_they_are(folder, packed):
    left_out = {"ant/007.jpg", "bee/011.jpg"}
    for split in ("train", "val"):
        files, records = open_source(folder, split), open_source(packed, split)
        assert records.classes == files.classes
        assert records.summary()["kind"] == "shards"
        readable = {name for name in files.names if name not in left_out}
        assert contents(records).keys() == readable
        for index, name in enumerate(files.names):
            if name in readable:
                assert contents(records)[name] == (files.read(index), files.labels[index])
        assert records.names != sorted(records.names)
    assert sorted(path.name for path in packed.iterdir()) == [
        "dataset.json",
        "index.npz",
        *(f"train-{number:05d}-of-00005.tfrecord" for number in range(5)),
        "val-00000-of-00001.tfrecord",
    ]


def test_any_reader_of_tfrecord_files_reads_them(packed):
    """With TensorFlow's own reader, which checks the checksums, and parser."""
    wanted = contents(open_source(packed, "train"))
    features = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
        "name": tf.io.FixedLenFeature([], tf.string),
    }
    files = sorted(map(str, packed.glob("train-*.tfrecord")))
    found = {}
    for record in tf.data.TFRecordDataset(files):
        example = tf.io.parse_single_example(record, features)
        found[example["name"].numpy().decode()] = (example["image"].numpy(), example["label"].numpy())
    assert found == wanted
    assert list(found) == open_source(packed, "train").names


def test_the_description_says_what_is_there(folder, packed):
    description = json.loads((packed / "dataset.json").read_text())
    assert description["classes"] == ["ant", "bee", "cow"]
    train, val = open_source(packed, "train"), open_source(packed, "val")
    assert description["splits"]["train"]["class_counts"] == train.class_counts.tolist()
    assert description["splits"]["train"]["count"] + description["splits"]["val"]["count"] == 98
    assert description["splits"]["val"]["fingerprint"] == val.fingerprint
    assert [entry["name"] for entry in description["unreadable"]] == ["ant/007.jpg", "bee/011.jpg"]
    assert description["unreadable"][0]["reason"] == "the file is empty"
    assert description["unusual"] == [{"name": "cow/003.jpg", "reason": "600 x 9 pixels"}]
    assert description["pixels"]["width"]["100"] == 600
    assert description["pixels"]["height"]["50"] in range(20, 27)
    assert description["source"] == str(folder)


def test_labels_of_a_model_reorder_packed_classes(packed):
    source, plain = open_source(packed, "train", class_names=["cow", "dog", "ant", "bee"]), open_source(packed, "train")
    assert source.class_counts.tolist() == [*plain.class_counts[[2]], 0, *plain.class_counts[[0, 1]]]


def test_an_epoch_of_shards_is_a_permutation_in_windows(packed, monkeypatch):
    monkeypatch.setattr(shards, "RECORDS_READ_AT_ONCE", 4)
    monkeypatch.setattr(shards, "WINDOW", 3)
    source = open_source(packed, "train")
    orders = [source.order(seed, epoch) for seed, epoch in ((1, 0), (1, 1), (2, 0), (1, 0))]
    np.testing.assert_array_equal(orders[0], orders[3])
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(source.count))
    for other in orders[1:3]:
        assert (orders[0] != other).mean() > 0.9
    for start in range(0, source.count - 12, 12):  # no more blocks at a time than a window has, and their neighbours
        assert len(np.unique(orders[0][start : start + 12] // 4)) <= 6
    assert (np.diff(orders[0]) != 1).mean() > 0.7


def test_training_on_shards_has_the_pixels_of_the_files(folder, packed):
    still = Augmentation(crop="none", flip=False)
    options = {"size": 16, "seed": 3, "epoch": 1}

    def images(source, batch_size):
        problems = Problems(9)
        dataset = training_batches(source, still, batch_size=batch_size, problems=problems, **options)
        return np.concatenate([x for x, _ in dataset]), problems

    records, files = open_source(packed, "train"), open_source(folder, "train")
    from_records, problems = images(records, 1)
    from_files, _ = images(files, 1)
    place_of = {files.name_of(index): place for place, index in enumerate(files.order(3, 1))}
    for place, index in enumerate(records.order(3, 1)):
        np.testing.assert_array_equal(from_records[place], from_files[place_of[records.name_of(index)]])
    assert [(problem.name, problem.used) for problem in problems.found] == [("cow/003.jpg", True)]


def test_a_damaged_shard_is_named(packed, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in packed.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    shard = copy / "train-00002-of-00005.tfrecord"
    whole = shard.read_bytes()
    source = open_source(copy, "train")
    shard.write_bytes(whole[:1000])  # while it is in use
    problems = Problems(99)
    for _ in training_batches(source, Augmentation(), size=16, batch_size=8, seed=0, epoch=0, problems=problems):
        pass
    assert problems.unusable > 5
    assert all("train-00002-of-00005.tfrecord is shorter" in p.reason for p in problems.found if not p.used)
    with pytest.raises(ArgumentError, match=r"train-00002-of-00005\.tfrecord: it has 1,000 bytes"):
        open_source(copy, "train")
    shard.unlink()
    with pytest.raises(ArgumentError, match="it is missing"):
        open_source(copy, "train")
    shard.write_bytes(whole)
    (copy / "index.npz").write_bytes(b"PK")
    with pytest.raises(ArgumentError, match=r"index\.npz can't be read"):
        open_source(copy, "train")
    with zipfile.ZipFile(copy / "index.npz", "w") as no_array:
        no_array.writestr("train_shard.npy", b"no array")
    with pytest.raises(ArgumentError, match=r"index\.npz can't be read: train_shard must hold numbers: .*; pack the"):
        open_source(copy, "train")
    (copy / "dataset.json").write_text("{}")
    with pytest.raises(ArgumentError, match=r"dataset\.json was not written by this version"):
        open_source(copy, "train")


def same_files(one, other):
    assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}
    for path in one.iterdir():
        if path.name != "index.npz":  # a zip file, with times in it
            assert path.read_bytes() == (other / path.name).read_bytes(), path.name
    indices = [np.load(folder / "index.npz", allow_pickle=False) for folder in (one, other)]
    for name in indices[0].files:
        np.testing.assert_array_equal(indices[0][name], indices[1][name])


def test_a_run_that_fails_goes_on_and_keeps_what_is_done(folder, packed, tmp_path, monkeypatch):
    out, written = tmp_path / "out", []
    write = packing._write_shard

    def failing(job, path, begun, stopped):
        if len(written) == 3:
            raise OSError("no space left on device")
        write(job, path, begun, stopped)
        written.append(path)

    monkeypatch.setattr(packing, "_write_shard", failing)
    with pytest.raises(OSError, match="no space"):
        pack(folder, out, shards=5, workers=1)
    assert not (out / "dataset.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in written}
    monkeypatch.setattr(packing, "_write_shard", write)
    with pytest.raises(ArgumentError, match="other images or another number of shards"):
        pack(folder, out, shards=4)
    steps = []
    pack(folder, out, shards=5, workers=2, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1] == (6, 6)
    assert {path: path.stat().st_mtime_ns for path in written} == kept
    same_files(out, packed)


JOB = """
import sys
from pathlib import Path
from keras_resnet.packing import pack
print("ready", flush=True)
pack(sys.argv[1], sys.argv[2], shards=5, workers=1)
"""


def test_a_run_that_is_killed_goes_on(folder, packed, tmp_path):
    """Killed as soon as two shards are there, while a third is being written, and once at the very end."""
    out = tmp_path / "out"
    job = subprocess.Popen([sys.executable, "-c", JOB, str(folder), str(out)], stdout=subprocess.PIPE, text=True)
    assert job.stdout.readline() == "ready\n"
    while job.poll() is None and len(list(out.glob("train-*.tfrecord"))) < 2:
        time.sleep(0.001)
    job.send_signal(signal.SIGKILL)
    job.communicate()
    for partial in (
        ".train-00004-of-00005.tfrecord.0123456789abcdef.partial",
        ".dataset.json.0123456789abcdef.partial",
    ):
        (out / partial).write_bytes(b"half")
    done = len(list(out.glob("train-*.tfrecord")))
    assert done >= 2
    pack(folder, out, shards=5)
    same_files(out, packed)
    (out / packing.PLAN).write_text(json.dumps(packing._plan(plan_sources(folder), 5, 1)))
    assert pack(folder, out, shards=5) == json.loads((out / "dataset.json").read_text())
    same_files(out, packed)


def plan_sources(folder):
    return {split: open_source(folder, split) for split in ("train", "val")}


def test_a_run_that_is_killed_while_it_writes_its_plan_goes_on(folder, packed, tmp_path):
    (tmp_path / f".{packing.PLAN}.0123456789abcdef.partial").write_bytes(b"half")
    pack(folder, tmp_path, shards=5)
    same_files(tmp_path, packed)


def test_the_command_of_a_finished_run_changes_nothing(folder, packed):
    before = {path: path.stat().st_mtime_ns for path in packed.iterdir()}
    assert pack(folder, packed, shards=5) == json.loads((packed / "dataset.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in packed.iterdir()} == before
    with pytest.raises(ArgumentError, match="must be new or empty"):
        pack(folder, packed, shards=4)


def test_no_shard_is_begun_before_all_threads_have_started(folder, tmp_path, monkeypatch):
    """A signal may come while a thread starts, and then the pool does not wait for this thread."""

    class Pool(packing.ThreadPoolExecutor):
        def submit(self, *arguments):
            future = super().submit(*arguments)
            time.sleep(0.05)
            if len(self._threads) == 2:
                raise KeyboardInterrupt
            return future

    monkeypatch.setattr(packing, "ThreadPoolExecutor", Pool)
    with pytest.raises(KeyboardInterrupt):
        pack(folder, tmp_path / "out", shards=5, workers=2)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [packing.PLAN]


def test_what_can_not_be_packed_is_said(packed, tmp_path):
    with pytest.raises(ArgumentError, match="only image files can be packed"):
        pack(packed, tmp_path / "out")
    np.savez(tmp_path / "a.npz", x_train=np.zeros((4, 8, 8, 3), np.uint8), y_train=np.zeros(4, int))
    with pytest.raises(ArgumentError, match="whose images are arrays"):
        pack(tmp_path / "a.npz", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ArgumentError, match="new or empty"):
        pack(write_folder(tmp_path / "few", {"a": 3}, 8, 8), tmp_path / "full")
    with pytest.raises(ArgumentError, match=r"must lie in 1\.\.2, the number of training images"):
        pack(tmp_path / "few", tmp_path / "out", shards=9)


def test_the_commands(folder, packed, tmp_path):
    status, out, _ = in_process("data", "check", folder)
    assert status == 1
    assert ["bee", "45", "5"] in [line.split() for line in out]
    assert "can't be read: 2" in out
    assert "  ant/007.jpg: the file is empty" in out
    assert "  cow/003.jpg: 600 x 9 pixels" in out
    status, out, err = in_process("data", "pack", folder, tmp_path / "out", "--shards", 5)
    assert status == 0
    assert err[0] == "left out: ant/007.jpg: the file is empty"
    assert out[0].split()[:5] == ["train", str(open_source(packed, "train").count), "images", "5", "shards"]
    same_files(tmp_path / "out", packed)
    status, out, _ = in_process("data", "check", tmp_path / "out")
    assert status == 0
    assert "can't be read: 0" in out
    status, _, err = in_process("data", "check", tmp_path / "nothing")
    assert (status, len(err)) == (1, 1)


def test_shards_are_of_the_size_asked_for(folder, tmp_path):
    description = pack(folder, tmp_path / "out", shard_mb=0.02)
    sizes = [shard["bytes"] for shard in description["splits"]["train"]["shards"]]
    assert 10_000 < np.mean(sizes) < 30_000
    assert os.path.exists(Path(tmp_path / "out" / "dataset.json"))
