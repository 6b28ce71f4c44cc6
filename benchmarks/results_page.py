"""Records in benchmarks/results/ -> benchmarks/RESULTS.md and its plots.

python benchmarks/results_page.py            writes them
python benchmarks/results_page.py --check    exit status 1 if they are not what the records give
"""

import json
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from results_plots import Record, accuracy_plot, growth_plot, hashed, networks_plot, save, segmentation_plot, source_of

from keras_resnet.benchmark.networks import OURS, ROWS, THEIRS, Row
from keras_resnet.whole_files import write_whole

HERE = Path(__file__).parent
RECORDS, PAGE, PLOTS = HERE / "results", HERE / "RESULTS.md", HERE / "plots"
GROWS_FASTER = 1.1  # time for the work, as a multiple of the first row's: less may be noise

# Records of `keras-resnet benchmark`: what they are of, and the options.
SIDE_BY_SIDE = {
    "rivals_resnet50": ("ResNet-50", "--rivals"),
    "rivals_deeplabv3_resnet50": ("DeepLabV3 over ResNet-50, 224x224 pixels, 21 classes", "--rivals"),
    "segmentation_formats": ("Formats of the trained segmentation network", "--data"),
}
PLOTTED = "rivals_resnet50"

# Records without a section of their own, by the start of their names: the command that makes such figures today.
OTHERS = {
    "artifact_latency": "`keras-resnet benchmark FOLDER --threads 2 --rounds 10`",
    "cifar_accuracy": "`keras-resnet evaluate NETWORK DATA --weights FILE --split all`",
    "demo_margins": "`benchmarks/demo_margins.py`",
    "export_accuracy": "`keras-resnet export NETWORK --formats all --data DATA --calibration IMAGES` (its manifest)",
    "export_cost": "`benchmarks/export_cost.py`",
    "hostile_files": "`checks/hostile_files.py`",
    "import_time": "`benchmarks/import_time.py`",
    "input_pipeline": "`benchmarks/input_pipeline.py`",
    "int8_latency": "`keras-resnet benchmark FOLDER --rivals --calibration IMAGES`, but for the third of its rows",
    "killed_training": "`checks/killed_training.py`",
    "quantization_aware": "`benchmarks/quantization_aware.py`",
    "quantizers": "`benchmarks/quantizers.py`",
}


LIMIT = "limit the areas"  # of the input pipeline: it decodes, and does nothing else


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
    parts = [
        "# Results",
        table(
            "comparison | ours | fastest rival | speed | result",
            "{what} | {ours.name}: {ours.figure} | {rival.name}: {rival.figure} | {speed} | {result}",
            wins_and_losses(records),
        ),
        "Our fastest contender beside the fastest rival: in float32, in any float numbers where other ones are faster, "
        "and in int8. Speed is ours as a multiple of the rival's.",
        "Everything here is made from the records in `results/` by `python benchmarks/results_page.py`; each record "
        "says which machine, versions and code it is of. ms are medians of calls; a ratio is the median, over the "
        "rounds of one run, of medians of turns that follow one another. 1 MB = 10^6 bytes.",
    ]
    for name, section in SECTIONS.items():
        if name in records:
            parts += section(records[name])
    others = {name: record for name, record in records.items() if name not in SECTIONS}
    template = "[{name}](results/{name}.json) | {environment[created]:.10} | {machine} | {command}"
    rows = [
        {**record, "name": name, "machine": machine(record), "command": command}
        for name, record in others.items()
        for command in [next(command for start, command in OTHERS.items() if name.startswith(start))]
    ]
    parts += ["## Other records", table("record | of | machine | made today by", template, rows)]
    return "\n\n".join(parts) + "\n"


# --- wins and losses ------------------------------------------------------------------------------------------------


class Measured(NamedTuple):
    """One contender of a comparison."""

    name: str
    kind: Kind
    speed: float  # the higher the better
    figure: str  # with its unit


def wins_and_losses(records: Mapping[str, Record]) -> Iterator[Record]:
    """-> for each comparison and each scope: our fastest beside the fastest rival."""
    for title, contenders in comparisons(records):
        seen = set()
        for scope, numbers in SCOPES.items():
            within = [one for one in contenders if one.kind.numbers in numbers]
            sides = [[one for one in within if one.kind.ours is whose] for whose in (True, False)]
            if all(sides):
                ours, rival = pair = tuple(max(side, key=lambda one: one.speed) for side in sides)
                speed = f"{ours.speed / rival.speed:.2f}"
                result = "equal" if speed == "1.00" else "won" if ours.speed > rival.speed else "lost"
                if pair not in seen:
                    yield {"what": f"{title}{scope}", "ours": ours, "rival": rival, "speed": speed, "result": result}
                seen.add(pair)


def comparisons(records: Mapping[str, Record]) -> Iterator[tuple[str, list[Measured]]]:
    """-> what is compared, and its contenders."""
    for record, (title, _) in SIDE_BY_SIDE.items():
        if record in records:
            contenders = records[record]["results"]["contenders"]
            for size in records[record]["settings"]["batch_sizes"]:
                times_ms = {name: median_ms(result, size) for name, result in contenders.items()}
                yield f"{title}, batch {size}", measured(times_ms, "ms", contenders)
    if "compare_networks" in records:
        times_ms = {row.network: result["latency"]["median_ms"] for row, result in weighed(records["compare_networks"])}
        for theirs, ours in ((name, name.lower()) for name in times_ms if name != name.lower() in times_ms):
            yield f"{theirs} as TFLite, batch 1", measured({OURS: times_ms[ours], THEIRS: times_ms[theirs]}, "ms")
    if "predict_speed" in records:
        first = records["predict_speed"]["results"]["first_prediction_s"]
        for ours in ("command", "ours in Python"):
            seconds = {name: first[name]["median"] for name in (ours, THEIRS)}
            yield "first prediction from a cold start", measured(seconds, "s")
    rated = {
        f"training of {record['settings']['network']} on the CPU": record["results"]
        for name, record in records.items()
        if name == "training_speed"
    }
    if "input_pipeline" in records:
        results = records["input_pipeline"]["results"]
        rated["input pipeline"] = {name: results[name] for name in results.keys() & KINDS.keys() - {LIMIT}}
        rated["input pipeline beside bare decoding"] = {name: results[name] for name in ("ours", LIMIT)}
    for subject, result in records.get("gpu", {"results": {}})["results"].items():
        rated[f"{subject} on a GPU"] = result["contenders"]
    for title, results in rated.items():
        yield title, measured({name: row["images_per_second"] for name, row in results.items()}, "images/s", results)


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


# --- sections -------------------------------------------------------------------------------------------------------


def side_by_side(name: str, record: Record) -> Iterator[str]:
    """Name and record of `keras-resnet benchmark` -> its section."""
    title, option = SIDE_BY_SIDE[name]
    settings, contenders = record["settings"], record["results"]["contenders"]
    setting = f"{machine(record)}, {settings['threads']} threads, {settings['rounds']} rounds"
    yield f"## {title}\n\n{setting} (`keras-resnet benchmark {option}`)."
    kinds = {contender: kind_of(contender, result) for contender, result in contenders.items()}
    for size in settings["batch_sizes"]:
        times_ms = {contender: median_ms(result, size) for contender, result in contenders.items()}
        rows = []
        for contender, result in contenders.items():
            rivals_ms = [
                times_ms[name] for name, kind in kinds.items() if kind == Kind(False, kinds[contender].numbers)
            ]
            against = times_ms[contender] / min(rivals_ms) if rivals_ms else None
            rows.append({"name": contender, "against": against, **result["timings"][str(size)]})
        yield table(
            f"batch {size} | p50 ms | p90 ms | p99 ms | images/s | ratio (range) | to the fastest rival in its numbers",
            "{name} | {latency[median_ms]:.1f} | {latency[p90_ms]:.1f} | {latency[p99_ms]:.1f} | {images_per_s:.1f} | "
            "{ratio_to_first} | {against:.2f}",
            rows,
        )
    masks = any(result.get("mean_iou_percent") is not None for result in contenders.values())
    accuracy, key = ("mean IoU %", "mean_iou_percent") if masks else ("top-1 %", "top1_percent")
    yield table(
        f" | {accuracy} | file MB | import ms | load ms | memory MB | setting",
        f"{{name}} | {{{key}:.2f}} | {{size_mb:.1f}} | {{opening[import_ms]:.0f}} | {{opening[load_ms]:.0f}} | "
        "{peak_memory_mb:.0f} | {setting}",
        named(contenders),
    )
    if name == PLOTTED:
        yield "![Accuracy against latency](plots/accuracy_latency.png)"
    yield from roofline(record)


def roofline(record: Record) -> Iterator[str]:
    """Record of `keras-resnet benchmark` -> GFLOP/s of each contender and the share of the machine's peak."""
    peak, profiles = record["results"].get("peak"), record["results"].get("profiles")
    if not peak or not profiles:
        return
    gflop = 2e-9 * next(iter(profiles.values()))["macs"]
    yield (
        f"The machine's measured peak is {peak['gflops']:.0f} GFLOP/s in float32 ({peak['how']}), its bandwidth "
        f"{peak['bandwidth_gb_per_s']:.1f} GB/s. int8 and bfloat16 have higher peaks of their own, which were not "
        "measured: their shares are of float32's peak."
    )
    rows = [(name, 1e3 * gflop / median_ms(result, 1)) for name, result in record["results"]["contenders"].items()]
    rates = [{"name": name, "rate": rate, "percent": 100 * rate / peak["gflops"]} for name, rate in rows]
    yield table("batch 1 | GFLOP/s | % of the peak", "{name} | {rate:.0f} | {percent:.0f}", rates)
    yield "Where the time goes, in percent by kind of layer (`--profile`):"
    shares = {name: one["share_percent_by_kind"] for name, one in profiles.items()}
    kinds = list(dict.fromkeys(kind for share in shares.values() for kind in share))
    yield table(" | ".join(("", *kinds)), " | ".join(("{name}", *(f"{{{kind}:.1f}}" for kind in kinds))), named(shares))


def compare_networks(record: Record) -> Iterator[str]:
    settings = record["settings"]
    yield (
        f"## Networks to choose among\n\nTop-1 as published for the weights of `imagenet`; parameters and MACs "
        f"counted; TFLite files in float32, batch 1, {settings['threads']} threads, {machine(record)}, "
        f"{settings['rounds']} rounds (`benchmarks/compare_networks.py`). `keras-resnet list --compare` prints it with "
        "advice, and with the best weights of each network."
    )
    rows = [
        {**asdict(row), **result, "millions": row.parameters / 1e6, "size_mb": result["size_bytes"] / 1e6}
        for row, result in weighed(record)
    ]
    yield table(
        " | top-1 % | parameters, M | GMACs | file MB | p50 ms | p99 ms | memory MB",
        "{package} {network} | {top1_percent:.1f} | {millions:.1f} | {gmacs:.2f} | {size_mb:.1f} | "
        "{latency[median_ms]:.1f} | {latency[p99_ms]:.1f} | {memory_mb:.0f}",
        rows,
    )
    yield "![Accuracy against MACs, latency and size](plots/networks.png)"


def weighed(record: Record) -> list[tuple[Row, Record]]:
    """Record of `compare_networks.py` -> each of its networks with its default weights, and what was measured."""
    rows = {row.network: row for row in reversed(ROWS)}  # the default weights stand first
    return [(rows[network], result) for network, result in record["results"].items()]


def predict_speed(record: Record) -> Iterator[str]:
    settings, results = record["settings"], record["results"]
    yield (
        f"## `keras-resnet predict`\n\n{settings['network']}, {settings['images']} photographs, batch "
        f"{settings['batch_size']}, {machine(record)}, {settings['rounds']} rounds (`benchmarks/predict_speed.py`). "
        "Alone: the network with pixels in memory; stated: what the command says at its end, from the first image on; "
        "process: with the start of Python and the opening of the network."
    )
    yield table(
        "images/s | alone | stated | of alone | process",
        "{name} | {alone[median]:.1f} | {stated[median]:.1f} | {stated[of_the_network_alone]} | {process[median]:.1f}",
        named(results["images_per_second"]),
    )
    yield table(
        "first prediction from a cold start | seconds | of keras.applications",
        "{name} | {median:.1f} | {of_keras_applications}",
        named(results["first_prediction_s"]),
    )


def training_speed(record: Record) -> Iterator[str]:
    settings = record["settings"]
    yield (
        f"## Training\n\n{settings['network']}, batch {settings['batch_size']}, {settings['size']} pixels, "
        f"{machine(record)}, {settings['rounds']} rounds (`benchmarks/training_speed.py`)."
    )
    yield table(
        " | images/s | range | ours in float32 against it | memory MB",
        "{name} | {images_per_second:.2f} | {minimum:.2f} to {maximum:.2f} | {ours_against_it:.2f} | "
        "{peak_memory_mb:.0f}",
        named(record["results"]),
    )


def gpu(record: Record) -> Iterator[str]:
    settings = record["settings"]
    card, peak = settings["gpu"], settings["peak_tflops"]
    where = f"{card['name']}, {card['memory_mb'] / 1e3:.0f} GB" if card else machine(record)
    versions = ", ".join(f"{name} {version}" for name, version in settings["versions"].items())
    yield (
        f"## On a GPU\n\n{where}, {settings['dtype']}, batch {settings['batch_size']}, {settings['size']} pixels, "
        f"synthetic images on the device, {settings['rounds']} rounds; {versions} (`benchmarks/gpu.py`). "
        + (f"MFU is a share of the card's published {peak:.0f} TFLOP/s." if peak else "The card's peak is unknown.")
    )
    for subject, result in record["results"].items():
        work, _, network = subject.partition(" ")
        yield table(
            f"{network}, {work} | images/s | p10 to p90 | ours against it (range) | MFU % | peak memory MB",
            "{name}: {setting} | {images_per_second:,.0f} | {images_per_second_p10:,.0f} to "
            "{images_per_second_p90:,.0f} | {ours_against_it} | {mfu_percent:.1f} | {peak_memory_mb:,.0f}",
            named(result["contenders"]),
        )
        yield from (f"Not measured: {reason}." for reason in result["failures"].values())


def two_processes(record: Record) -> Iterator[str]:
    settings, results = record["settings"], record["results"]
    ratio = results["two_against_one"]
    yield (
        "## Number of workers\n\nTwo processes of one core each, on the JAX backend, against one process of one core, "
        f"{settings['network']}, batch {settings['batch_size']}, {machine(record)} (`benchmarks/two_processes.py`): "
        f"{ratio['median']:.2f} of its images/s ({ratio['smallest']:.2f} to {ratio['largest']:.2f}), where 2 would be "
        f"perfect. The losses of {settings['steps']} steps differ by {results['largest_relative_difference']:.1e} "
        "relative at the most."
    )


def segmentation_training(record: Record) -> Iterator[str]:
    settings = record["settings"]
    yield (
        f"## Segmentation\n\n`recipes/{settings['recipe']}` on {settings['train_images']} images of street scenes of "
        f"240x180 pixels in 11 classes (CamVid), {settings['precision']}, {machine(record)}: mean IoU on "
        f"{settings['val_images']} others, with the backbone's ImageNet weights and without "
        "(`benchmarks/segmentation_training.py`). Other work ran on the machine at times: the minutes are upper bounds."
    )
    rows = []
    for name, run in record["results"].items():
        best = max(run["history"], key=lambda row: row["val_mean_iou_percent"])
        network, _, backbone = name.rpartition("-")
        rows.append({"network": network, "backbone": backbone, "epochs": len(run["history"]), **run, **best})
    yield table(
        "network | backbone | epochs | minutes | mean IoU % | pixel accuracy %",
        "{network} | {backbone} | {epochs} | {minutes:.1f} | {val_mean_iou_percent:.2f} | "
        "{val_pixel_accuracy_percent:.2f}",
        rows,
    )
    yield "![Mean IoU by epoch](plots/segmentation.png)"


def cost_growth(record: Record) -> Iterator[str]:
    curves = record["results"]
    slow = [(what, row) for what, rows in curves.items() for row in rows if row["time_for_work"] > GROWS_FASTER]
    faster = ", ".join(f"{what} {row['value']:,} ({row['time_for_work']:.2f})" for what, row in slow)
    yield (
        f"## How cost grows\n\n{machine(record)} (`benchmarks/cost_growth.py`). The last column is time for the work, "
        "as a multiple of the first row's: what stays near 1, or falls, grows no faster than its work. Above "
        f"{GROWS_FASTER}: {faster or 'none'}. Workers: see training, above."
    )
    for what, rows in curves.items():
        unit, form = {"files": ("files", ","), "threads": ("GMACs a core-pair", ",.3g")}.get(what, ("GMACs", ",.3g"))
        value = "{value}" if what == "depth" else "{value:,}"
        yield table(
            f"{what} | ms | work, {unit} | memory MB | time for the work",
            f"{value} | {{median_ms:.1f}} | {{work_gmacs:{form}}} | {{peak_memory_mb:.0f}} | {{time_for_work:.2f}}",
            rows,
        )
    yield "![Latency against batch and image size](plots/growth.png)"


def depth(record: Record) -> Iterator[str]:
    settings, rows = record["settings"], []
    for name, seeds in record["results"].items():
        last = [epochs[-1] for epochs in seeds.values()]
        train, test = (sum(row[f"{part}_top1_percent"] for row in last) / len(last) for part in ("train", "test"))
        rows.append({"name": name, "train": train, "test": test, "seeds": len(seeds)})
    changes = []
    for kind in ("plain", "residual"):
        shallow, *_, deep = (row for row in rows if row["name"].startswith(kind))
        changes.append(f"by {deep['train'] - shallow['train']:+.1f} points from {shallow['name']} to {deep['name']}")
    yield (
        f"## Depth\n\nPlain and residual networks on {settings['train_images']:,} CIFAR-10 images, "
        f"{settings['epochs']} epochs by one recipe (`benchmarks/depth.py`; He et al. 2015, section 4.2): figures of "
        f"the last epoch. On the images of the training, top-1 changes {' and '.join(changes)}."
    )
    yield table(
        "network | training top-1 % | test top-1 % | seeds", "{name} | {train:.1f} | {test:.1f} | {seeds}", rows
    )
    yield "![Training error by epoch](results/depth.png)"


SECTIONS: dict[str, Callable[[Record], Iterable[str]]] = {
    **{name: lambda record, name=name: side_by_side(name, record) for name in SIDE_BY_SIDE},  # type: ignore[misc]
    "compare_networks": compare_networks,
    "predict_speed": predict_speed,
    "training_speed": training_speed,
    "gpu": gpu,
    "two_processes": two_processes,
    "segmentation_training": segmentation_training,
    "cost_growth": cost_growth,
    "depth": depth,
}


def machine(record: Record) -> str:
    environment = record["environment"]
    return f"{environment['cpu']} ({environment['cpu_count']} cores; {', '.join(environment.get('cpu_flags', []))})"


class Cells(string.Formatter):
    """Format strings in which a figure that is absent is "-", and a ratio over rounds is its median and extremes."""

    def get_value(self, key: int | str, args: Any, kwargs: Mapping[Any, Any]) -> Any:
        return kwargs.get(key)

    def format_field(self, value: Any, form: str) -> str:
        if isinstance(value, Mapping):
            return f"{value['median']:.2f} ({value['minimum']:.2f} to {value['maximum']:.2f})"
        return "-" if value is None else str(super().format_field(value, form))


def named(results: Mapping[str, Record]) -> list[Record]:
    return [{"name": name, **result} for name, result in results.items()]


def table(header: str, template: str, rows: Iterable[Record]) -> str:
    """Titles of the columns, format string of a row, figures of each row -> a table of Markdown."""
    columns = header.count("|")
    lines = [header, " | ".join(["---", *["---:"] * columns]), *(Cells().vformat(template, (), row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


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
