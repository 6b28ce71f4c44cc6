"""Records in benchmarks/results/ -> benchmarks/RESULTS.md and its plots.

The words of the page stand in RESULTS.in.md: after a line `@ NAMES`, the section of each of these records. Blocks of it
are format strings of the record and of what `FACTS` adds. A block of three lines is a table: the name of its rows, its
titles, a row.

python benchmarks/results_page.py            writes them
python benchmarks/results_page.py --check    exit status 1 if they are not what the records give
"""

import json
import string
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from results_plots import Record, accuracy_plot, growth_plot, hashed, networks_plot, save, segmentation_plot, source_of

from keras_resnet.benchmark.networks import OURS, ROWS, THEIRS, Row
from keras_resnet.whole_files import write_whole

HERE = Path(__file__).parent
RECORDS, WORDS, PAGE, PLOTS = HERE / "results", HERE / "RESULTS.in.md", HERE / "RESULTS.md", HERE / "plots"
GROWS_FASTER = 1.1  # time for the work, as a multiple of the first row's: less may be noise

# Records of contenders side by side: what they are of, and the command.
SIDE_BY_SIDE = {
    "rivals_resnet50": ("ResNet-50", "keras-resnet benchmark --rivals --calibration IMAGES --data DATA --profile"),
    "rivals_deeplabv3_resnet50": (
        "DeepLabV3 over ResNet-50, 224x224 pixels, 21 classes",
        "keras-resnet benchmark --rivals",
    ),
    "rivals_fasterrcnn_800": (
        "Faster R-CNN over ResNet-50, 800x800 pixels, 90 classes",
        "benchmarks/detectors.py --side 800",
    ),
    "rivals_fasterrcnn_320": (
        "Faster R-CNN over ResNet-50, 320x320 pixels, 90 classes",
        "benchmarks/detectors.py --side 320",
    ),
    "segmentation_formats": ("Formats of the trained segmentation network", "keras-resnet benchmark --data DATA"),
}
PLOTTED = "rivals_resnet50"

# Records without a section of their own, by the start of their names: the command that makes such figures today.
OTHERS = {
    "artifact_latency": "`keras-resnet benchmark FOLDER --threads 2 --rounds 10`",
    "cifar_accuracy": "`keras-resnet evaluate NETWORK DATA --weights FILE --split all`",
    "demo_margins": "`benchmarks/demo_margins.py`",
    "export_accuracy": "`keras-resnet export NETWORK --formats all --data DATA --calibration IMAGES --max-drop 100`",
    "export_cost": "`benchmarks/export_cost.py`",
    "hostile_inputs": "`checks/hostile_inputs.py`",
    "import_time": "`benchmarks/import_time.py`",
    "input_pipeline": "`benchmarks/input_pipeline.py`",
    "int8_noise": "`benchmarks/int8_noise.py`",
    "int8_latency": "`keras-resnet benchmark FOLDER --rivals --calibration IMAGES`, but for its third row",
    "kills": "`checks/kills.py`",
    "memory_flat": "`checks/memory_flat.py`",
    "mutated_files": "`checks/mutated_files.py`",
    "places": "`checks/places.py`",
    "planted_detector_faults": "`checks/planted_detector_faults.py`",
    "planted_faults": "`checks/planted_faults.py --model FILE --data DATA --images IMAGES --labelled 400`",
    "quantization_aware": "`benchmarks/quantization_aware.py`",
    "quantizers": "`benchmarks/quantizers.py`",
    "ranges": "`benchmarks/ranges.py`",
    "served_answers": "`checks/served_answers.py PHOTOGRAPHS NAME=ARTIFACT ...`",
    "served_bodies": "`checks/served_bodies.py`",
    "serving": "`benchmarks/serving.py`",
    "web": "`benchmarks/web.py`",
}
LIMIT = "limit the areas"  # of the input pipeline: it decodes, and does nothing else

# Names of contenders in records -> what readers see.
SHOWN = {
    "saved_model": "SavedModel in TensorFlow, float32",
    "model.tflite": "TFLite file in LiteRT, float32",
    "model-float16.tflite": "TFLite file in LiteRT, float16",
    "model-dynamic.tflite": "TFLite file in LiteRT, int8 weights",
    "model-int8.tflite": "TFLite file in LiteRT, int8",
    "model.onnx": "ONNX file in ONNX Runtime, float32",
    "model-float16.onnx": "ONNX file in ONNX Runtime, float16",
    "model-int8.onnx": "ONNX file in ONNX Runtime, int8",
    "model.onnx in OpenVINO": "ONNX file in OpenVINO, float32",
    "model-int8.onnx in OpenVINO": "ONNX file in OpenVINO, int8",
    "model_openvino": "OpenVINO folder, float32",
    "model_openvino in bfloat16": "OpenVINO folder, bfloat16",
    "model-int8_openvino": "OpenVINO folder of our integers, int8",
    "keras.applications, Keras": "keras.applications in Keras, float32",
    "keras.applications, LiteRT": "keras.applications in LiteRT, float32",
    "PyTorch, eager": "PyTorch, eager, float32",
    "PyTorch, torch.compile": "PyTorch, torch.compile, float32",
    "PyTorch, ONNX Runtime": "PyTorch's network in ONNX Runtime, float32",
    "PyTorch, OpenVINO float32": "PyTorch's network in OpenVINO, float32",
    "PyTorch, OpenVINO bfloat16": "PyTorch's network in OpenVINO, bfloat16",
    "OpenVINO int8 (NNCF)": "our float32 ONNX file, made int8 by NNCF, in OpenVINO",
    "command": "`keras-resnet predict`",
    "ours in Python": "this package in Python",
    OURS: "this package",
    "Keras on TensorFlow": "Keras on TensorFlow, float32",
    "Keras on JAX": "Keras on JAX, float32",
    "ours float32": "this package, float32",
    "ours mixed_bfloat16": "this package, mixed_bfloat16",
    "keras.applications float32": "keras.applications, float32",
    "keras.applications mixed_bfloat16": "keras.applications, mixed_bfloat16",
    "pytorch float32": "PyTorch, float32",
    "pytorch bfloat16": "PyTorch, bfloat16",
    "ours": "this package",
    "ours packed": "this package, from packed images",
    "keras RandomCrop": "Keras' RandomCrop",
    "keras RandomZoom": "Keras' RandomZoom",
    "pillow 2 processes": "Pillow in two processes",
    LIMIT: "TensorFlow, only decoding the cropped areas",
}


class Kind(NamedTuple):
    """Of a contender: whether it is ours, and in which numbers it computes."""

    ours: bool
    numbers: str  # "": it is no network


# By name, for records from before a contender stated it.
KINDS = {
    name: Kind(ours, numbers)
    for ours, numbers, names in (
        (True, "float32", ("saved_model", "model.tflite", "model.onnx", "model.onnx in OpenVINO", "ours float32")),
        (True, "float32", ("command", "ours in Python", OURS)),
        (True, "float16", ("model-float16.tflite", "model-float16.onnx")),
        (True, "bfloat16", ("ours mixed_bfloat16",)),
        (True, "int8", ("model-dynamic.tflite", "model-int8.tflite", "model-int8.onnx", "model-int8.onnx in OpenVINO")),
        (True, "", ("ours", "ours packed")),
        (False, "float32", ("keras.applications, Keras", "keras.applications, LiteRT", "keras.applications float32")),
        (False, "float32", ("PyTorch, eager", "PyTorch, torch.compile", "PyTorch, ONNX Runtime", "pytorch float32")),
        (False, "float32", ("PyTorch, OpenVINO float32", THEIRS)),
        (False, "bfloat16", ("PyTorch, OpenVINO bfloat16", "keras.applications mixed_bfloat16", "pytorch bfloat16")),
        (False, "int8", ("OpenVINO int8 (NNCF)",)),
        (False, "", ("keras RandomCrop", "keras RandomZoom", "pillow 2 processes", LIMIT)),
    )
    for name in names
}
# The rows of the first table: contenders in these numbers are compared with each other.
SCOPES = {
    ", float32": ("float32",),
    ", any float": ("float32", "bfloat16", "float16"),
    ", int8": ("int8",),
    "": ("",),
}


def main(check: Annotated[bool, typer.Option("--check", help="Compare in place of writing.")] = False) -> None:
    """Writes the page and its plots, or says what of them is not current."""
    records = {path.stem: json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))}
    drawn, page = plots(records), text_of(records)
    if check:
        stale = [] if PAGE.exists() and PAGE.read_text() == page else [PAGE]
        stale += [PLOTS / name for name, (source, _) in drawn.items() if source_of(PLOTS / name) != source]
        if stale:
            print(f"not current: {', '.join(path.name for path in stale)}: run python benchmarks/results_page.py")
            raise typer.Exit(1)
        return
    PLOTS.mkdir(exist_ok=True)
    write_whole(PAGE, page.encode())
    for name, (source, draw) in drawn.items():
        save(draw(), PLOTS / name, source)


def text_of(records: Mapping[str, Record]) -> str:
    """Records by name -> the page."""
    names = dict.fromkeys(name for names, _ in sections() for name in names)
    others = {name: record for name, record in records.items() if name not in names}
    facts = {name: facts_of(name, records[name]) for name in names if name in records}
    wins = list(wins_and_losses(records))
    ranked = sorted(wins, key=lambda row: float(row["speed"]))
    counts = Counter(row["result"] for row in wins)
    facts |= {
        "page": {"wins": [wins], "comparisons": len(wins), "counts": counts, "best": ranked[-1], "worst": ranked[0]}
    }
    facts |= {"others": {"records": [list(listed(others))]}}
    blocks = [block for name in names if name in facts for block in filled(name, facts[name])]
    return "\n\n".join(blocks) + "\n"


def sections() -> Iterator[tuple[list[str], list[str]]]:
    """-> names of records, and the blocks of the section of each."""
    for part in f"\n{WORDS.read_text()}".split("\n@ ")[1:]:
        names, _, text = part.partition("\n")
        yield names.split(), text.strip().split("\n\n")


class Cells(string.Formatter):
    """Format strings in which a figure that is absent is "-", and a ratio over rounds is its median and extremes."""

    def get_value(self, key: int | str, args: Any, kwargs: Mapping[Any, Any]) -> Any:
        return kwargs.get(key)

    def format_field(self, value: Any, form: str) -> str:
        if isinstance(value, Mapping):
            return f"{value['median']:.2f} ({value['minimum']:.2f} to {value['maximum']:.2f})"
        return "-" if value is None else str(super().format_field(value, form))


def filled(name: str, facts: Record) -> Iterator[str]:
    """Name of a record, figures by name, of tables their rows -> the parts of its sections, but for empty ones."""
    for block in (block for names, section in sections() if name in names for block in section):
        key, *lines = block.split("\n")
        if lines:
            for rows in facts[key]:
                title = Cells().vformat(lines[0], (), rows[0])
                cells = [Cells().vformat(lines[1], (), row) for row in rows]
                yield "\n".join((title, "| --- |" + " ---: |" * (title.count("|") - 2), *cells))
        elif text := Cells().vformat(block, (), facts):
            yield text


# --- wins and losses ------------------------------------------------------------------------------------------------


class Measured(NamedTuple):
    """One contender of a comparison."""

    name: str
    kind: Kind
    speed: float  # the higher the better
    figure: str  # with its unit

    @property
    def shown(self) -> str:
        return SHOWN.get(self.name, self.name)


def wins_and_losses(records: Mapping[str, Record]) -> Iterator[Record]:
    """-> for each comparison and each scope: our fastest beside the fastest rival."""
    for title, name, contenders in comparisons(records):
        seen = set()
        for scope, numbers in SCOPES.items():
            within = [one for one in contenders if one.kind.numbers in numbers]
            sides = [[one for one in within if one.kind.ours is whose] for whose in (True, False)]
            if all(sides):
                ours, rival = pair = tuple(max(side, key=lambda one: one.speed) for side in sides)
                speed = f"{ours.speed / rival.speed:.2f}"
                result = "equal" if speed == "1.00" else "won" if ours.speed > rival.speed else "lost"
                if pair not in seen:
                    row = {"what": f"{title}{scope}", "ours": ours, "rival": rival, "speed": speed, "result": result}
                    yield row | {"where": where(records[name])}
                seen.add(pair)


def comparisons(records: Mapping[str, Record]) -> Iterator[tuple[str, str, list[Measured]]]:
    """-> what is compared, the name of its record, and its contenders."""
    for record, (title, _) in SIDE_BY_SIDE.items():
        if record in records:
            contenders = records[record]["results"]["contenders"]
            for size in records[record]["settings"]["batch_sizes"]:
                times_ms = {name: median_ms(result, size) for name, result in contenders.items()}
                yield f"{title}, batch {size}", record, measured(times_ms, "ms", contenders)
    if "compare_networks" in records:
        times_ms = {row.network: result["latency"]["median_ms"] for row, result in weighed(records["compare_networks"])}
        for theirs, ours in ((name, name.lower()) for name in times_ms if name != name.lower() in times_ms):
            pair = {OURS: times_ms[ours], THEIRS: times_ms[theirs]}
            yield f"{theirs} as TFLite, batch 1", "compare_networks", measured(pair, "ms")
    if "predict_speed" in records:
        first = records["predict_speed"]["results"]["first_prediction_s"]
        for ours in ("command", "ours in Python"):
            seconds = {name: first[name]["median"] for name in (ours, THEIRS)}
            yield "first prediction from a cold start", "predict_speed", measured(seconds, "s")
    rated: list[tuple[str, str, Record]] = []
    if "training_speed" in records:
        trained = records["training_speed"]
        rated.append((f"training of {trained['settings']['network']} on the CPU", "training_speed", trained["results"]))
    if "input_pipeline" in records:
        results = records["input_pipeline"]["results"]
        whole = {name: results[name] for name in results.keys() & KINDS.keys() - {LIMIT}}
        bare = {name: results[name] for name in ("ours", LIMIT)}
        rated.append(("input pipeline (decoding, cropping, mirroring)", "input_pipeline", whole))
        rated.append(("input pipeline beside bare decoding", "input_pipeline", bare))
    for subject, result in records.get("gpu", {"results": {}})["results"].items():
        rated.append((f"{subject} on a GPU", "gpu", result["contenders"]))
    for title, name, results in rated:
        rates = {contender: row["images_per_second"] for contender, row in results.items()}
        yield title, name, measured(rates, "images/s", results)


def measured(figures: Mapping[str, float], unit: str, results: Mapping[str, Record] | None = None) -> list[Measured]:
    """Figures by contender, all that was measured of each -> contenders; of times, the lower is the faster."""
    return [
        Measured(
            name,
            kind_of(name, (results or {}).get(name, {})),
            value if unit == "images/s" else 1 / value,
            f"{value:,.{0 if value > 400 else 2 if unit == 'images/s' else 1}f} {unit}",
        )
        for name, value in figures.items()
    ]


def kind_of(name: str, result: Record) -> Kind:
    """Name of a contender, what was measured of it -> what it states of itself, or else its row of `KINDS`."""
    return Kind(result["ours"], result["numbers"]) if "numbers" in result else KINDS[name]


def median_ms(result: Record, batch_size: int) -> float:
    return float(result["timings"][str(batch_size)]["latency"]["median_ms"])


# --- what the sections show ----------------------------------------------------------------------------------------


def facts_of(name: str, record: Record) -> Record:
    """Name of a record, the record -> itself and, by name, what its section shows besides; tables as lists of rows."""
    of_all = {"machine": machine(record), **record}
    if name in SIDE_BY_SIDE:
        title, command = SIDE_BY_SIDE[name]
        return {"title": title, "command": command, **of_all, **side_by_side(record)}
    return {**of_all, **FACTS[name](record)} if name in FACTS else of_all


def side_by_side(record: Record) -> Record:
    """Record of `keras-resnet benchmark` -> its tables."""
    contenders, profiles = record["results"]["contenders"], record["results"].get("profiles") or {}
    kinds = {name: kind_of(name, result) for name, result in contenders.items()}
    batches = []
    for size in record["settings"]["batch_sizes"]:
        times_ms = {name: median_ms(result, size) for name, result in contenders.items()}
        rows = named({name: result["timings"][str(size)] for name, result in contenders.items()})
        for row in rows:
            numbers = kinds[row["name"]].numbers
            rivals_ms = [times_ms[name] for name, kind in kinds.items() if kind == Kind(False, numbers)]
            row |= {"batch": size, "against": times_ms[row["name"]] / min(rivals_ms) if rivals_ms else None}
        batches.append(rows)
    masks = any(result.get("mean_iou_percent") is not None for result in contenders.values())
    score, key = ("mean IoU %", "mean_iou_percent") if masks else ("top-1 %", "top1_percent")
    rows = named(contenders)
    for row in rows:
        row |= {"score": score, "percent": row.get(key)}
        for profile in [*profiles.values()][:1]:
            gflops = 2e-6 * profile["macs"] / median_ms(row, 1)
            row |= {"gflops": gflops, "peak_percent": 100 * gflops / record["results"]["peak"]["gflops"]}
    layers = dict.fromkeys(kind for profile in profiles.values() for kind in profile["share_percent_by_kind"])
    shares = []
    for name, profile in profiles.items():
        percents = (profile["share_percent_by_kind"].get(kind) for kind in layers)
        cells = ("-" if percent is None else f"{percent:.1f}" for percent in percents)
        shares.append({"shown": SHOWN.get(name, name), "layers": " | ".join(layers), "percents": " | ".join(cells)})
    parts_ms = record["results"].get("parts_ms", {})
    parts = [
        {"part": part, "ms": ms, "share_percent": 100 * ms / sum(parts_ms.values())} for part, ms in parts_ms.items()
    ]
    return {"batches": batches, "contenders": [rows], "shares": [shares], "parts": [parts]}


def compare_networks(record: Record) -> Record:
    rows = [
        {**asdict(row), **result, "millions": row.parameters / 1e6, "size_mb": result["size_bytes"] / 1e6}
        for row, result in weighed(record)
    ]
    return {"networks": [rows]}


def weighed(record: Record) -> list[tuple[Row, Record]]:
    """Record of `compare_networks.py` -> each of its networks with its default weights, and what was measured."""
    rows = {row.network: row for row in reversed(ROWS)}  # the default weights stand first
    return [(rows[network], result) for network, result in record["results"].items()]


def gpu(record: Record) -> Record:
    settings, results = record["settings"], record["results"]
    card = settings["gpu"]
    subjects = []
    for subject, result in results.items():
        work, _, network = subject.partition(" ")
        subjects.append([{"work": work, "network": network, **row} for row in named(result["contenders"])])
    failures = [f"Not measured: {why}." for result in results.values() for why in result["failures"].values()]
    return {
        "device": f"{card['name']}, {card['memory_mb'] / 1e3:.0f} GB" if card else machine(record),
        "versions": ", ".join(f"{name} {version}" for name, version in settings["versions"].items()),
        "subjects": subjects,
        "failures": " ".join(failures),
    }


def segmentation_training(record: Record) -> Record:
    rows = []
    for name, run in record["results"].items():
        best = max(run["history"], key=lambda row: row["val_mean_iou_percent"])
        network, _, backbone = name.rpartition("-")
        rows.append({"network": network, "backbone": backbone, "epochs": len(run["history"]), **run, **best})
    return {"runs": [rows]}


def cost_growth(record: Record) -> Record:
    curves = []
    for what, points in record["results"].items():
        unit, form = {"files": ("files", ","), "threads": ("GMACs a core-pair", ",.3g")}.get(what, ("GMACs", ",.3g"))
        for row in points:
            point = row["value"] if what == "depth" else f"{row['value']:,}"
            curves.append(row | {"what": what, "unit": unit, "point": point, "work": format(row["work_gmacs"], form)})
    slow = [
        f"{row['what']} {row['point']} ({row['time_for_work']:.2f})"
        for row in curves
        if row["time_for_work"] > GROWS_FASTER
    ]
    tables = [[row for row in curves if row["what"] == what] for what in record["results"]]
    return {"curves": tables, "grows_faster": GROWS_FASTER, "faster": ", ".join(slow) or "none"}


def command_growth(record: Record) -> Record:
    tables = []
    for what, points in record["results"].items():
        of, form = ("GMACs", ",.3g") if what.startswith("export") else ("image", ",.2f")
        rows = []
        for row in points:
            point = row["value"] if isinstance(row["value"], str) else f"{row['value']:,}"
            further = "" if row["further_ms"] is None else format(row["further_ms"], form)
            rows.append(row | {"what": what, "of": of, "point": point, "further": further})
        tables.append(rows)
    return {"commands": tables}


def depth(record: Record) -> Record:
    rows, changes = [], []
    for name, seeds in record["results"].items():
        last = [epochs[-1] for epochs in seeds.values()]
        train, test = (sum(row[f"{part}_top1_percent"] for row in last) / len(last) for part in ("train", "test"))
        rows.append({"name": name, "train": train, "test": test, "seeds": len(seeds)})
    for kind in ("plain", "residual"):
        shallow, *_, deep = (row for row in rows if row["name"].startswith(kind))
        changes.append(f"by {deep['train'] - shallow['train']:+.1f} points from {shallow['name']} to {deep['name']}")
    return {"networks": [rows], "changes": " and ".join(changes)}


FACTS: dict[str, Callable[[Record], Record]] = {
    "compare_networks": compare_networks,
    "predict_speed": lambda record: {key: [named(rows)] for key, rows in record["results"].items()},
    "training_speed": lambda record: {"contenders": [named(record["results"])]},
    "gpu": gpu,
    "segmentation_training": segmentation_training,
    "cost_growth": cost_growth,
    "command_growth": command_growth,
    "depth": depth,
    "box_operations": lambda record: {
        "operations": [[{"operation": name, **result} for name, result in record["results"].items()]]
    },
}


def listed(records: Mapping[str, Record]) -> Iterator[Record]:
    """Records that have no section -> rows that name them."""
    for name, record in records.items():
        command = next(command for start, command in OTHERS.items() if name.startswith(start))
        yield {**record, "name": name, "machine": machine(record), "command": command}


def machine(record: Record) -> str:
    environment = record["environment"]
    return f"{environment['cpu']} ({environment['cpu_count']} cores; {', '.join(environment.get('cpu_flags', []))})"


def where(record: Record) -> str:
    """-> the device in a few words: the GPU, or the processor and its widest vectors."""
    if card := record["settings"].get("gpu"):
        return str(card["name"])
    environment = record["environment"]
    cpu = environment["cpu"].replace("(R)", "").removesuffix(" Processor")
    flags = environment.get("cpu_flags", [])
    vectors = [title for flag, title in (("avx512f", ", AVX-512"), ("avx2", ", AVX2")) if flag in flags]
    return f"{environment['cpu_count']} cores of {cpu}{''.join(vectors[:1])}"


def named(results: Mapping[str, Record]) -> list[Record]:
    return [{"name": name, "shown": SHOWN.get(name, name), **result} for name, result in results.items()]


# --- plots ----------------------------------------------------------------------------------------------------------


def plots(records: Mapping[str, Record]) -> dict[str, tuple[str, Callable[[], Any]]]:
    """Records by name -> by file name: hash of what a plot shows, and what draws it."""
    drawn: dict[str, tuple[str, Callable[[], Any]]] = {}
    if PLOTTED in records:
        contenders = records[PLOTTED]["results"]["contenders"]
        ours = {name for name, result in contenders.items() if kind_of(name, result).ours}
        drawn["accuracy_latency.png"] = (hashed(contenders), lambda: accuracy_plot(contenders, ours))
    if "compare_networks" in records:
        networks = weighed(records["compare_networks"])
        figures = [[asdict(row), result] for row, result in networks]
        drawn["networks.png"] = (hashed(figures), lambda: networks_plot(networks))
    if "cost_growth" in records:
        curves = records["cost_growth"]["results"]
        drawn["growth.png"] = (hashed(curves), lambda: growth_plot(curves))
    if "segmentation_training" in records:
        runs = records["segmentation_training"]["results"]
        drawn["segmentation.png"] = (hashed(runs), lambda: segmentation_plot(runs))
    return drawn


if __name__ == "__main__":
    typer.run(main)
