import subprocess
import sys

import pytest

from keras_resnet.cli.list import list_networks
from keras_resnet.variants import VARIANTS


@pytest.fixture
def listing(capsys) -> list[str]:
    list_networks()
    return capsys.readouterr().out.splitlines()


def test_every_published_tag_has_its_row(listing):
    rows = [line.split() for line in listing]
    tags = [(variant.name, tag) for variant in VARIANTS.values() for tag in variant.weights]
    assert len(tags) == 23
    network, listed = "", []
    for row in rows:
        network = row[0] if row and row[0] in VARIANTS else network
        listed += [(network, word) for word in row if word.endswith("_in1k")]
    assert listed[: len(tags)] == tags  # the footnote names the default tag once more


def test_rows_say_what_is_published(listing):
    text = "\n".join(" ".join(line.split()) for line in listing)
    assert "resnet18 11.69 1.814 tv_in1k 69.758 256 -> 224 bilinear BSD-3-Clause" in text
    assert "\ntv2_in1k 80.858 232 -> 224 bilinear BSD-3-Clause" in text
    assert "\na1_in1k 81.998 235 -> 224 bicubic Apache-2.0" in text
    assert "\nresnet20 0.27 0.041 resnet20-12fca82f.th 91.73 BSD-2-Clause" in text
    assert "\nresnet110 1.73 0.253 resnet110-1d1ed7c2.th 93.68 BSD-2-Clause" in text
    assert 'weights="imagenet" means tv_in1k' in text
    assert "timm/<network>.<weights>" in text


def test_every_network_is_listed_once(listing):
    assert [row[0] for line in listing if (row := line.split()) and row[0] in VARIANTS] == list(VARIANTS)


def test_on_a_pipe_nothing_is_cut_off_at_80_columns():
    code = (
        "import sys; from keras_resnet.cli.list import list_networks; list_networks();"
        "sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "…" not in done.stdout
    assert "\x1b" not in done.stdout
