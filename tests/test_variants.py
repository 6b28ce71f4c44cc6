"""Every fact of the table of variants that can be recomputed is recomputed from the built networks."""

import math
from pathlib import Path

import numpy as np
import pytest
from oracle.make_references import REFERENCES

from keras_resnet.benchmark.macs import multiply_accumulates
from keras_resnet.models import BUILDERS
from keras_resnet.variants import DEFAULT_TAG, VARIANTS, InputContract

EXPECTED = {  # trainable parameters, 10^9 multiply-accumulates: 1000 classes at 224x224, or 10 at 32x32
    "resnet18": (11_689_512, 1.814),
    "resnet34": (21_797_672, 3.664),
    "resnet50": (25_557_032, 4.089),
    "resnet101": (44_549_160, 7.801),
    "resnet152": (60_192_808, 11.514),
    "resnet20": (269_722, 0.041),
    "resnet32": (464_154, 0.069),
    "resnet44": (658_586, 0.097),
    "resnet56": (853_018, 0.125),
    "resnet110": (1_727_962, 0.253),
}
IMAGENET_NETWORKS = list(EXPECTED)[:5]

# At 224 pixels, as the model cards of the published files print it; the publishers' own tables differ by up to 0.03.
PUBLISHED_TOP1_PERCENT = {
    "resnet18": {"tv_in1k": 69.76, "a1_in1k": 71.49, "a2_in1k": 70.64, "a3_in1k": 68.25},
    "resnet34": {"tv_in1k": 73.32, "a1_in1k": 76.42, "a2_in1k": 75.52, "a3_in1k": 72.98},
    "resnet50": {"tv_in1k": 76.13, "tv2_in1k": 80.85, "a1_in1k": 80.38, "a2_in1k": 79.85, "a3_in1k": 78.06},
    "resnet101": {"tv_in1k": 77.38, "tv2_in1k": 81.90, "a1_in1k": 81.50, "a2_in1k": 81.32, "a3_in1k": 79.82},
    "resnet152": {"tv_in1k": 78.32, "tv2_in1k": 82.29, "a1_in1k": 81.97, "a2_in1k": 81.77, "a3_in1k": 80.56},
}


@pytest.mark.parametrize("network", EXPECTED)
@pytest.mark.usefixtures("shapes_alone")
def test_parameters_and_macs_are_those_of_the_built_network(network: str) -> None:
    model = BUILDERS[network]()
    parameters = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    gmacs = round(multiply_accumulates(model) / 1e9, 3)
    assert (parameters, gmacs) == EXPECTED[network]
    assert (parameters, gmacs) == (VARIANTS[network].parameters, VARIANTS[network].gmacs)


def test_every_network_is_built_proved_and_pinned() -> None:
    assert list(VARIANTS) == list(BUILDERS) == list(EXPECTED)
    assert all(name == variant.name for name, variant in VARIANTS.items())
    assert {path.stem for path in (Path(__file__).parent / "goldens").glob("*.txt")} == set(VARIANTS)
    with np.load(REFERENCES) as stored:
        assert {key.split("/")[0] for key in stored} == set(VARIANTS)


def test_the_promised_tags_are_there() -> None:
    for name in IMAGENET_NETWORKS:
        tags = {"tv_in1k", "a1_in1k", "a2_in1k", "a3_in1k"}
        if name in ("resnet50", "resnet101", "resnet152"):
            tags.add("tv2_in1k")
        assert set(VARIANTS[name].weights) == tags
        assert DEFAULT_TAG in VARIANTS[name].weights
        assert VARIANTS[name].file is None


def test_a_network_for_cifar_names_its_published_file() -> None:
    published = {
        variant.name: (variant.file.name, round(100 - variant.file.top1_percent, 2), variant.file.licence)
        for variant in VARIANTS.values()
        if variant.file is not None and not variant.weights
    }
    assert published == {  # test errors in percent, as the authors of the files state them
        "resnet20": ("resnet20-12fca82f.th", 8.27, "BSD-2-Clause"),
        "resnet32": ("resnet32-d509ac18.th", 7.37, "BSD-2-Clause"),
        "resnet44": ("resnet44-014dd654.th", 6.9, "BSD-2-Clause"),
        "resnet56": ("resnet56-4bfd9763.th", 6.61, "BSD-2-Clause"),
        "resnet110": ("resnet110-1d1ed7c2.th", 6.32, "BSD-2-Clause"),
    }


def test_a_network_has_as_many_layers_as_its_name_says() -> None:
    for name, variant in VARIANTS.items():
        convolutions = sum(variant.blocks_per_stage) * (2 if variant.block == "basic" else 3)
        assert name == f"resnet{convolutions + 2}"  # and the stem and the head
        assert variant.levels == (("C2", "C3", "C4", "C5") if name in IMAGENET_NETWORKS else ("C2", "C3", "C4"))


@pytest.mark.parametrize(("network", "tag"), [(name, tag) for name in VARIANTS for tag in VARIANTS[name].weights])
def test_a_tag_has_the_contract_it_was_published_with(network: str, tag: str) -> None:
    published = VARIANTS[network].weights[tag]
    contract, licence = {
        "tv_in1k": (InputContract(224, 256, "bilinear"), "BSD-3-Clause"),
        "tv2_in1k": (InputContract(224, 232, "bilinear"), "BSD-3-Clause"),
        "a1_in1k": (InputContract(224, 235, "bicubic"), "Apache-2.0"),  # floor(224 / 0.95)
        "a2_in1k": (InputContract(224, 235, "bicubic"), "Apache-2.0"),
        "a3_in1k": (InputContract(224, 235, "bicubic"), "Apache-2.0"),
    }[tag]
    assert published.contract == contract
    assert published.licence == licence
    assert published.top1_percent == pytest.approx(PUBLISHED_TOP1_PERCENT[network][tag], abs=0.03)


def test_a_contract_of_another_size_keeps_the_proportion() -> None:
    assert InputContract.for_size(224) == InputContract(224, 256, "bilinear")
    assert InputContract.for_size(112) == InputContract(112, 128, "bilinear")
    assert InputContract.for_size(32).resize == 37
    assert str(InputContract(224, 235, "bicubic")) == "235 -> 224 bicubic"
