"""Image files on their way to a command: in order, decoded ahead of what works on them, but not far ahead."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from keras_resnet import read_ahead
from keras_resnet.cli.images import BATCHES_AHEAD, read_batches
from keras_resnet.errors import ImageError


class Decoder:
    """Stands for a decoder: file `7.png` is an image of sevens; counts what it is asked for."""

    def __init__(self, seconds=lambda number: 0.0, broken=()):
        self.seconds, self.broken, self.started, self.lock = seconds, broken, 0, threading.Lock()

    def __call__(self, path):
        with self.lock:
            self.started += 1
        number = int(path.stem)
        time.sleep(self.seconds(number))
        if number in self.broken:
            raise ImageError(f"{path}: broken")
        return np.full((2, 2, 3), number, np.uint8)


@pytest.fixture
def decode_with(monkeypatch):
    """decode_with(decoder, threads=4) -> the decoder, on a machine with so many cores."""

    def put(decoder, threads=4):
        monkeypatch.setattr(read_ahead.os, "cpu_count", lambda: threads)
        return decoder

    return put


def files(count):
    return [Path(f"{number}.png") for number in range(count)]


@pytest.mark.parametrize("batch_size", [1, 3, 16, 64])
def test_images_come_in_order_and_unreadable_ones_are_named_in_order(decode_with, capsys, batch_size):
    broken = [0, 4, 5, 6, 7, 21, 39]  # with batches of 3, a whole one between them, and the last is not full
    # Of four threads, the later ones are done first.
    decoder = decode_with(Decoder(lambda number: 0.01 * (3 - number % 4), broken))
    unreadable, places, values = {}, [], []
    for batch, images in read_batches(files(40), decoder, batch_size, unreadable):
        pixels = np.stack(images)
        assert pixels.shape == (len(batch), 2, 2, 3)
        assert 0 < len(batch) <= batch_size
        assert len({place // batch_size for place in batch}) == 1
        places += batch
        values += pixels[:, 1, 0, 2].tolist()
    assert places == values == [number for number in range(40) if number not in broken]
    assert unreadable == {number: f"{number}.png: broken" for number in broken}
    assert capsys.readouterr().err.splitlines() == [f"{number}.png: broken" for number in broken]
    assert decoder.started == 40


def test_decoding_overlaps_with_what_the_caller_does(decode_with):
    decoder = decode_with(Decoder(lambda number: 0.02), threads=1)
    start = time.perf_counter()
    for _ in read_batches(files(40), decoder, 4, {}):
        time.sleep(0.08)
    assert 0.8 < time.perf_counter() - start < 1.3  # 0.8 s of each; 0.88 s overlapped, 1.6 s one after the other


def test_several_threads_decode(decode_with):
    decoder = decode_with(Decoder(lambda number: 0.05), threads=4)
    start = time.perf_counter()
    assert sum(len(pixels) for _, pixels in read_batches(files(24), decoder, 8, {})) == 24
    assert time.perf_counter() - start < 0.8  # 0.3 s, and 1.2 s in one thread


def test_no_more_than_some_batches_are_decoded_ahead(decode_with):
    decoder = decode_with(Decoder())
    batches = read_batches(files(100), decoder, 5, {})
    for taken in range(5, 70, 5):
        next(batches)
        time.sleep(0.02)  # enough for all that may be decoded
        assert taken + (BATCHES_AHEAD - 1) * 5 <= decoder.started <= taken + BATCHES_AHEAD * 5


def test_when_the_caller_stops_so_do_the_threads(decode_with):
    decoder = decode_with(Decoder(lambda number: 0.02), threads=1)
    batches = read_batches(files(100), decoder, 10, {})
    next(batches)
    batches.close()
    started = decoder.started
    time.sleep(0.2)
    assert decoder.started <= started + 1


def test_another_error_reaches_the_caller_at_its_place(decode_with):
    decoder = Decoder()

    def fail(path):
        if path.stem == "5":
            raise ZeroDivisionError("of the decoder")
        return decoder(path)

    batches = read_batches(files(40), decode_with(fail), 2, {})
    assert [next(batches)[0] for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(ZeroDivisionError, match="of the decoder"):
        next(batches)


def test_ctrl_c_waits_for_no_file():
    script = (
        # A job in the background of a shell ignores SIGINT, and so would this process, which inherits it.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import time; from pathlib import Path; from keras_resnet.cli.images import read_batches\n"
        "def read(path): print('reads', flush=True); time.sleep(60)\n"
        "list(read_batches([Path('a.png')], read, 2, {}))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "reads\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert process.returncode == -signal.SIGINT
