"""The table of networks to weigh against each other; what was measured of them; when to take which.

Imports no Keras: `keras-resnet list --compare` prints it. `tests/test_networks.py` recomputes every parameter count and
MAC count from the built networks. What is measured stands in `networks.json`, a record that
`benchmarks/compare_networks.py` writes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keras_resnet.variants import DEFAULT_TAG, VARIANTS, Variant

OURS, THEIRS = "keras_resnet", "keras.applications"
RECORD = Path(__file__).with_name("networks.json")


@dataclass(frozen=True)
class Row:
    """One network with one set of published ImageNet-1k weights."""

    package: str
    network: str  # name in its package
    tag: str  # tag of the weights; "" if there is one set
    top1_percent: float  # published
    parameters: int  # trainable, 1000 classes
    gmacs: float  # 10^9 multiply-accumulates of one image
    size: int  # pixels, height and width

    @property
    def source(self) -> str:
        return f"{self.package} {self.tag}".strip()

    @property
    def name(self) -> str:
        return f"{self.network} with {self.tag}" if self.tag else self.network


def _ours(variant: Variant) -> list[Row]:
    """-> a row for the weights that "imagenet" means, and one for the best, if they are others."""
    best = max(variant.weights, key=lambda tag: variant.weights[tag].top1_percent)
    return [
        Row(
            OURS,
            variant.name,
            tag,
            variant.weights[tag].top1_percent,
            variant.parameters,
            variant.gmacs,
            variant.design.contract.size,
        )
        for tag in dict.fromkeys((DEFAULT_TAG, best))
    ]


def _theirs(network: str, top1_percent: float, parameters: int, gmacs: float) -> Row:
    return Row(THEIRS, network, "", top1_percent, parameters, gmacs, 224)


# Top-1: the table of keras.io/api/applications (keras-io, templates/api/applications/index.md, e7be306b), rounded;
# of MobileNetV3, which it lacks, Keras' documentation of the two functions. TF-Slim, whose checkpoints those are, has
# 75.2 and 67.5 for them (tensorflow/models, research/slim/nets/mobilenet/README.md, 0ba83cf0).
ROWS = (
    *(row for variant in VARIANTS.values() if variant.weights for row in _ours(variant)),
    _theirs("ResNet50", 74.9, 25_583_592, 3.858),
    _theirs("ResNet101", 76.4, 44_601_832, 7.570),
    _theirs("ResNet152", 76.6, 60_268_520, 11.282),
    _theirs("MobileNetV2", 71.3, 3_504_872, 0.301),
    _theirs("MobileNetV3Small", 68.1, 2_542_856, 0.057),
    _theirs("MobileNetV3Large", 75.6, 5_483_032, 0.217),
    _theirs("EfficientNetB0", 77.1, 5_288_548, 0.386),
    _theirs("EfficientNetV2B0", 78.7, 7_139_704, 0.718),
)
NETWORKS = {row.network: row.package for row in ROWS}


@dataclass(frozen=True)
class Measured:
    """One network's TFLite file in float32, batch 1."""

    size_mb: float
    latency_ms: float  # median
    p10_ms: float
    p90_ms: float
    memory_mb: float  # resident at the most until the first answer, beyond what the runtime's import left


@dataclass(frozen=True)
class Measurements:
    """What was measured in one run of `benchmarks/compare_networks.py`; nothing, if there was none."""

    networks: Mapping[str, Measured]
    cpu: str = ""
    threads: int = 0
    date: str = ""

    @classmethod
    def read(cls) -> "Measurements":
        """-> the measurements that the package holds."""
        if not RECORD.exists():
            return cls({})
        record = json.loads(RECORD.read_text("utf-8"))
        networks = {
            network: Measured(
                size_mb=result["size_bytes"] / 1e6,
                latency_ms=result["latency"]["median_ms"],
                p10_ms=result["latency"]["p10_ms"],
                p90_ms=result["latency"]["p90_ms"],
                memory_mb=result["memory_mb"],
            )
            for network, result in record["results"].items()
        }
        environment = record["environment"]
        return cls(networks, environment["cpu"], record["settings"]["threads"], environment["created"][:10])


# When to take which.

WITHIN_POINTS = 2  # largest distance of an accurate network from the highest top-1
PHONE_GMACS = 0.6  # largest number for a phone
USEFUL_PERCENT = 75  # lowest top-1 of a network that is chosen for its speed


def advice(measurements: Measurements) -> dict[str, str]:
    """-> by use, the network to take and its figures."""
    accurate = max(ROWS, key=lambda row: row.top1_percent)
    plain = min(
        (row for row in ROWS if row.top1_percent >= accurate.top1_percent - WITHIN_POINTS), key=lambda row: row.gmacs
    )
    phone = max((row for row in ROWS if row.gmacs <= PHONE_GMACS), key=lambda row: row.top1_percent)
    smallest = min(ROWS, key=lambda row: row.parameters)
    uses = {
        "the plain default": f"{_named(plain)}: within {WITHIN_POINTS} points of the most accurate, with "
        f"{100 * plain.gmacs / accurate.gmacs:.0f} % of its GMACs",
        "most accurate": _named(accurate),
        "phone": f"{_named(phone)}: the most accurate of at most {PHONE_GMACS} GMACs",
        "smallest": f"{_named(smallest)}: {smallest.parameters / 1e6:.2f} M parameters",
    }
    measured = measurements.networks
    if measured.keys() >= NETWORKS.keys():
        quick = min(
            (row for row in ROWS if row.top1_percent >= USEFUL_PERCENT),
            key=lambda row: measured[row.network].latency_ms,
        )
        uses["quick on a CPU"] = (
            f"{_named(quick)}: {measured[quick.network].latency_ms:.1f} ms, the fastest of at least {USEFUL_PERCENT} %"
        )
    return uses | {"outdone": f"{', '.join(outdone())}: another has a higher top-1, fewer parameters and fewer GMACs"}


def outdone() -> list[str]:
    """-> the networks that another one beats in top-1, parameters and GMACs at once, each with its best weights."""
    return [
        network
        for network, row in {row.network: row for row in ROWS}.items()  # the best weights stand last
        if any(
            other.top1_percent > row.top1_percent and other.parameters < row.parameters and other.gmacs < row.gmacs
            for other in ROWS
        )
    ]


def _named(row: Row) -> str:
    return f"{row.name} ({row.top1_percent:.1f} %)"
