"""Records in benchmarks/results/ -> benchmarks/RESULTS.md and its plots.

python benchmarks/results_page.py            writes them
python benchmarks/results_page.py --check    exit status 1 if they are not what the records give
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from results_plots import (
    Record,
    accuracy_plot,
    growth_plot,
    hashed,
    is_ours,
    networks_plot,
    save,
    segmentation_plot,
    source_of,
)

from keras_resnet.benchmark.networks import ROWS, Row
from keras_resnet.whole_files import write_whole

HERE = Path(__file__).parent
RECORDS, PAGE, PLOTS = HERE / "results", HERE / "RESULTS.md", HERE / "plots"
# Records of `keras-resnet benchmark`: what they are of, and the command.
SIDE_BY_SIDE = {
    "rivals_resnet50": ("ResNet-50", "--rivals"),
    "rivals_deeplabv3_resnet50": ("DeepLabV3 over ResNet-50, 224x224 pixels, 21 classes", "--rivals"),
    "segmentation_formats": ("Formats of the trained segmentation network", "--data"),
}
PLOTTED = "rivals_resnet50"

Cells = Sequence[Sequence[str]]


def main(check: Annotated[bool, typer.Option("--check", help="Compare in place of writing.")] = False) -> None:
    """Writes the page and its plots, or says what of them is not current."""
    records = {path.stem: json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))}
    drawn = plots(records)
    page = text_of(records)
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


# --- text -----------------------------------------------------------------------------------------------------------


def text_of(records: dict[str, Record]) -> str:
    """Records by name -> the page."""
    parts = [
        "# Results",
        losses(records),
        "Everything here is made from the records in `results/` by `python benchmarks/results_page.py`; each record "
        "says which machine, versions and code it is of. ms are medians of calls; a ratio is the median, over the "
        "rounds of one run, of medians of turns that follow one another. 1 MB = 10^6 bytes.",
    ]
    for name in SIDE_BY_SIDE:
        if name in records:
            parts += side_by_side(name, records[name])
    for name, part in SECTIONS.items():
        if name in records:
            parts += [*part(records[name])]
    parts += ["## Other records", listed(records)]
    return "\n\n".join(parts) + "\n"


def losses(records: dict[str, Record]) -> str:
    """What we lose, and win, in one paragraph: each of our files beside the fastest rival of its kind."""
    said = []
    for record in SIDE_BY_SIDE:
        if record not in records:
            continue
        for kind in ("float32", "int8"):
            contenders = fastest_first(records[record], kind)
            rival = next((pair for pair in contenders if not is_ours(pair[0])), None)
            if rival is None:
                continue
            ours = (
                f"{name} {latency_ms:.1f} ms ({latency_ms / rival[1]:.2f} of its time)"
                for name, latency_ms in contenders
                if is_ours(name)
            )
            said.append(
                f"{SIDE_BY_SIDE[record][0]} at batch 1 beside the fastest {kind} rival, {rival[0]} with {rival[1]:.1f} "
                "ms: " + ", ".join(ours)
            )
    if "training_speed" in records:
        for name, result in records["training_speed"]["results"].items():
            if not name.startswith("ours") and result["ours_against_it"] < 1:
                said.append(
                    f"training of ResNet-50 in float32 on the CPU runs at {result['ours_against_it']:.2f} of the rate "
                    f"of {name}"
                )
    if "input_pipeline" in records:
        rates = {name: row["images_per_second"] for name, row in records["input_pipeline"]["results"].items()}
        said.append(f"the input pipeline reaches {rates['ours'] / rates['limit the areas']:.2f} of bare JPEG decoding")
    return (
        "What we lose (above 1.00 of a rival's time, or below 1.00 of its rate) and where we are ahead: "
        + "; ".join(said)
        + "."
    )


def fastest_first(record: Record, kind: str) -> list[tuple[str, float]]:
    """Record of `keras-resnet benchmark` -> names and ms of its float32 or int8 contenders, the fastest first."""
    found = [
        (name, result["timings"]["1"]["latency"]["median_ms"])
        for name, result in record["results"]["contenders"].items()
        if kind_of(name) == kind
    ]
    return sorted(found, key=lambda pair: pair[1])


def kind_of(name: str) -> str:
    return next((kind for kind in ("int8", "bfloat16", "float16") if kind in name), "float32")


def side_by_side(name: str, record: Record) -> Iterable[str]:
    """Name and record of `keras-resnet benchmark` -> its section."""
    title, option = SIDE_BY_SIDE[name]
    settings, contenders = record["settings"], record["results"]["contenders"]
    setting = f"{machine(record)}, {settings['threads']} threads, {settings['rounds']} rounds"
    yield f"## {title}\n\n{setting} (`keras-resnet benchmark {option}`)."
    for batch_size in settings["batch_sizes"]:
        columns = ("batch " + str(batch_size), "p50 ms", "p90 ms", "p99 ms", "images/s", "ratio (range)")
        rows = []
        for contender, result in contenders.items():
            timing = result["timings"][str(batch_size)]
            latency = timing["latency"]
            rows.append(
                (
                    contender,
                    *(f"{latency[key]:.1f}" for key in ("median_ms", "p90_ms", "p99_ms")),
                    f"{timing['images_per_s']:.1f}",
                    spread(timing["ratio_to_first"]),
                )
            )
        yield table(columns, rows)
    masks = any(result.get("mean_iou_percent") is not None for result in contenders.values())
    accuracy, key = ("mean IoU %", "mean_iou_percent") if masks else ("top-1 %", "top1_percent")
    header = ("", accuracy, "file MB", "import ms", "load ms", "memory MB", "setting")
    yield table(
        header,
        [
            (
                contender,
                cell(result[key], ".2f"),
                cell(result["size_mb"], ".1f"),
                f"{result['opening']['import_ms']:.0f}",
                f"{result['opening']['load_ms']:.0f}",
                f"{result['peak_memory_mb']:.0f}",
                result["setting"],
            )
            for contender, result in contenders.items()
        ],
    )
    if name == PLOTTED:
        yield "![Accuracy against latency](plots/accuracy_latency.png)"
    yield from roofline(record)


def roofline(record: Record) -> Iterable[str]:
    """Record of `keras-resnet benchmark` -> GFLOP/s of each contender and the share of the machine's peak."""
    peak, profiles = record["results"].get("peak"), record["results"].get("profiles")
    if not peak or not profiles:
        return
    gmacs = next(iter(profiles.values()))["macs"] / 1e9
    yield (
        f"The machine's measured peak is {peak['gflops']:.0f} GFLOP/s in float32 ({peak['how']}), its bandwidth "
        f"{peak['bandwidth_gb_per_s']:.1f} GB/s. int8 has a higher peak of its own, which was not measured: its share "
        "is of float32's."
    )
    rows = []
    for name, result in record["results"]["contenders"].items():
        gflops = 2e3 * gmacs / result["timings"]["1"]["latency"]["median_ms"]
        rows.append((name, f"{gflops:.0f}", f"{100 * gflops / peak['gflops']:.0f}"))
    yield table(("batch 1", "GFLOP/s", "% of the peak"), rows)
    yield "Where the time goes, in percent by kind of layer (`--profile`):"
    kinds = list(dict.fromkeys(kind for one in profiles.values() for kind in one["share_percent_by_kind"]))
    yield table(
        ("", *kinds),
        [
            (name, *(cell(one["share_percent_by_kind"].get(kind), ".1f") for kind in kinds))
            for name, one in profiles.items()
        ],
    )


def training_speed(record: Record) -> Iterable[str]:
    settings = record["settings"]
    yield (
        f"## Training\n\n{settings['network']}, batch {settings['batch_size']}, {settings['size']} pixels, "
        f"{machine(record)}, {settings['rounds']} rounds (`benchmarks/training_speed.py`)."
    )
    yield table(
        ("", "images/s", "range", "ours in float32 against it", "memory MB"),
        [
            (
                name,
                f"{result['images_per_second']:.2f}",
                f"{result['minimum']:.2f} to {result['maximum']:.2f}",
                f"{result['ours_against_it']:.2f}",
                f"{result['peak_memory_mb']:.0f}",
            )
            for name, result in record["results"].items()
        ],
    )


def gpu(record: Record) -> Iterable[str]:
    settings = record["settings"]
    card = settings["gpu"]
    where = f"{card['name']}, {card['memory_mb'] / 1e3:.0f} GB" if card else machine(record)
    peak = settings["peak_tflops"]
    versions = ", ".join(f"{name} {version}" for name, version in settings["versions"].items())
    yield (
        f"## On a GPU\n\n{where}, {settings['dtype']}, batch {settings['batch_size']}, {settings['size']} pixels, "
        f"synthetic images on the device, {settings['rounds']} rounds; {versions} (`benchmarks/gpu.py`). "
        + (f"MFU is a share of the card's published {peak:.0f} TFLOP/s." if peak else "The card's peak is unknown.")
    )
    for subject, result in record["results"].items():
        work, _, network = subject.partition(" ")
        yield table(
            (f"{network}, {work}", "images/s", "p10 to p90", "ours against it (range)", "MFU %", "peak memory MB"),
            [
                (
                    f"{name}: {row['setting']}",
                    f"{row['images_per_second']:,.0f}",
                    f"{row['images_per_second_p10']:,.0f} to {row['images_per_second_p90']:,.0f}",
                    spread(row["ours_against_it"]),
                    cell(row["mfu_percent"], ".1f"),
                    f"{row['peak_memory_mb']:,.0f}",
                )
                for name, row in result["contenders"].items()
            ],
        )
        for reason in result["failures"].values():
            yield f"Not measured: {reason}."


def two_processes(record: Record) -> Iterable[str]:
    results = record["results"]
    ratio = results["two_against_one"]
    yield (
        "## Number of workers\n\nTwo processes of one core each, on the JAX backend, against one process of one core, "
        f"{record['settings']['network']}, batch {record['settings']['batch_size']}, {machine(record)} "
        f"(`benchmarks/two_processes.py`): {ratio['median']:.2f} of its images/s ({ratio['smallest']:.2f} to "
        f"{ratio['largest']:.2f}), where 2 would be perfect: at each BatchNorm both wait for a collective over "
        "loopback. The losses of 20 steps differ by "
        f"{results['largest_relative_difference']:.1e} relative at the most."
    )


def cost_growth(record: Record) -> Iterable[str]:
    yield (
        f"## How cost grows\n\n{machine(record)} (`benchmarks/cost_growth.py`). The last column is time for the work, "
        "as a multiple of the first row's: what stays near 1, or falls, grows no faster than its work. Two rows grow "
        "faster. Two threads share one memory, and at batch 1 they wait for each other at the end of every "
        "convolution. A head of 100,000 classes is 205 MB of weights, which batch 1 reads for one multiplication each: "
        "the memory's bandwidth counts, not the arithmetic. Workers: see training, above."
    )
    for what, rows in record["results"].items():
        unit = "files" if what == "files" else "GMACs a core-pair" if what == "threads" else "GMACs"
        yield table(
            (what, "ms", f"work, {unit}", "memory MB", "time for the work"),
            [
                (
                    f"{row['value']:,}" if isinstance(row["value"], int) else row["value"],
                    f"{row['median_ms']:.1f}",
                    f"{row['work_gmacs']:,.3g}" if what != "files" else f"{row['work_gmacs']:,}",
                    cell(row.get("peak_memory_mb"), ".0f"),
                    f"{row['time_for_work']:.2f}",
                )
                for row in rows
            ],
        )
    yield "![Latency against batch and image size](plots/growth.png)"


def depth(record: Record) -> Iterable[str]:
    settings = record["settings"]
    yield (
        f"## Depth\n\nPlain and residual networks on {settings['train_images']:,} CIFAR-10 images, "
        f"{settings['epochs']} epochs by one recipe (`benchmarks/depth.py`; He et al. 2015, section 4.2): figures of "
        "the last epoch. The deeper plain network is far worse than the shallow one, on the images it was trained on; "
        "the deeper residual network is close to the shallow one after so short a training."
    )
    rows = []
    for name, seeds in record["results"].items():
        last = [epochs[-1] for epochs in seeds.values()]
        means = (sum(row[key] for row in last) / len(last) for key in ("train_top1_percent", "test_top1_percent"))
        rows.append((name, *(f"{mean:.1f}" for mean in means), str(len(seeds))))
    yield table(("network", "training top-1 %", "test top-1 %", "seeds"), rows)
    yield "![Training error by epoch](results/depth.png)"


def predict_speed(record: Record) -> Iterable[str]:
    settings, results = record["settings"], record["results"]
    yield (
        f"## `keras-resnet predict`\n\n{settings['network']}, {settings['images']} photographs, batch "
        f"{settings['batch_size']}, {machine(record)}, {settings['rounds']} rounds (`benchmarks/predict_speed.py`). "
        "Alone: the network with pixels in memory; stated: what the command says at its end, from the first image on; "
        "process: with the start of Python and the opening of the network."
    )
    yield table(
        ("images/s", "alone", "stated", "of alone", "process"),
        [
            (
                subject,
                f"{kinds['alone']['median']:.1f}",
                f"{kinds['stated']['median']:.1f}",
                spread(kinds["stated"]["of_the_network_alone"]),
                f"{kinds['process']['median']:.1f}",
            )
            for subject, kinds in results["images_per_second"].items()
        ],
    )
    yield table(
        ("first prediction from a cold start", "seconds", "of keras.applications"),
        [
            (name, f"{value['median']:.1f}", spread(value["of_keras_applications"]))
            for name, value in results["first_prediction_s"].items()
        ],
    )


def compare_networks(record: Record) -> Iterable[str]:
    settings = record["settings"]
    yield (
        f"## Networks to choose among\n\nTop-1 as published for the weights of `imagenet`; parameters and MACs "
        f"counted; TFLite files in float32, batch 1, {settings['threads']} threads, {machine(record)}, "
        f"{settings['rounds']} rounds (`benchmarks/compare_networks.py`). `keras-resnet list --compare` prints it with "
        "advice, and with the best weights of each network."
    )
    yield table(
        ("", "top-1 %", "parameters, M", "GMACs", "file MB", "p50 ms", "p99 ms", "memory MB"),
        [
            (
                f"{row.package} {row.network}",
                f"{row.top1_percent:.1f}",
                f"{row.parameters / 1e6:.1f}",
                f"{row.gmacs:.2f}",
                f"{result['size_bytes'] / 1e6:.1f}",
                *(f"{result['latency'][key]:.1f}" for key in ("median_ms", "p99_ms")),
                f"{result['memory_mb']:.0f}",
            )
            for row, result in weighed(record)
        ],
    )
    yield "![Accuracy against MACs, latency and size](plots/networks.png)"


def weighed(record: Record) -> list[tuple[Row, Record]]:
    """Record of `compare_networks.py` -> each of its networks with its default weights, and what was measured."""
    rows = {row.network: row for row in reversed(ROWS)}  # the default weights stand first
    return [(rows[network], result) for network, result in record["results"].items()]


def segmentation_training(record: Record) -> Iterable[str]:
    settings, results = record["settings"], record["results"]
    yield (
        f"## Segmentation\n\n`recipes/{settings['recipe']}` on {settings['train_images']} images of street scenes of "
        f"240x180 pixels in 11 classes (CamVid), {settings['precision']}, {machine(record)}: mean IoU on "
        f"{settings['val_images']} others, with the backbone's ImageNet weights and without "
        "(`benchmarks/segmentation_training.py`). Other work ran on the machine at times: the minutes are upper bounds."
    )
    yield table(
        ("network", "backbone", "epochs", "minutes", "mean IoU %", "pixel accuracy %"),
        [
            (
                *name.rsplit("-", 1),
                str(len(run["history"])),
                f"{run['minutes']:.1f}",
                *(f"{best(run)[f'val_{key}']:.2f}" for key in ("mean_iou_percent", "pixel_accuracy_percent")),
            )
            for name, run in results.items()
        ],
    )
    yield "![Mean IoU by epoch](plots/segmentation.png)"


def best(run: Record) -> Record:
    """-> the epoch with the highest mean IoU."""
    return max(run["history"], key=lambda row: row["val_mean_iou_percent"])


SECTIONS: dict[str, Callable[[Record], Iterable[str]]] = {
    "compare_networks": compare_networks,
    "predict_speed": predict_speed,
    "training_speed": training_speed,
    "gpu": gpu,
    "two_processes": two_processes,
    "segmentation_training": segmentation_training,
    "cost_growth": cost_growth,
    "depth": depth,
}


def listed(records: dict[str, Record]) -> str:
    shown = {*SIDE_BY_SIDE, *SECTIONS}
    return table(
        ("record", "of", "machine"),
        [
            (f"[{name}](results/{name}.json)", record["environment"]["created"][:10], machine(record))
            for name, record in records.items()
            if name not in shown
        ],
    )


def machine(record: Record) -> str:
    environment = record["environment"]
    return f"{environment['cpu']} ({environment['cpu_count']} cores; {', '.join(environment.get('cpu_flags', []))})"


def table(header: Sequence[str], rows: Cells) -> str:
    lines: Cells = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def spread(ratio: dict[str, float] | None) -> str:
    """Ratio over the rounds -> its median and extremes."""
    if ratio is None:
        return "-"
    return f"{ratio['median']:.2f} ({ratio['minimum']:.2f} to {ratio['maximum']:.2f})"


# --- plots ----------------------------------------------------------------------------------------------------------


def plots(records: dict[str, Record]) -> dict[str, tuple[str, Callable[[], Any]]]:
    """Records by name -> by file name: hash of what a plot shows, and what draws it."""
    drawn: dict[str, tuple[str, Callable[[], Any]]] = {}
    if PLOTTED in records:
        contenders = records[PLOTTED]["results"]["contenders"]
        drawn["accuracy_latency.png"] = (hashed(contenders), lambda: accuracy_plot(contenders))
    if "compare_networks" in records:
        networks = weighed(records["compare_networks"])
        drawn["networks.png"] = (
            hashed([[asdict(row), result] for row, result in networks]),
            lambda: networks_plot(networks),
        )
    if "cost_growth" in records:
        curves = records["cost_growth"]["results"]
        drawn["growth.png"] = (hashed(curves), lambda: growth_plot(curves))
    if "segmentation_training" in records:
        runs = records["segmentation_training"]["results"]
        drawn["segmentation.png"] = (hashed(runs), lambda: segmentation_plot(runs))
    return drawn


if __name__ == "__main__":
    typer.run(main)
