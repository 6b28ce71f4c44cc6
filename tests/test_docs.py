"""Documentation: what it shows runs, what it names exists, and both READMEs say the same."""

import ast
import dataclasses
import importlib
import inspect
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import typer
from small_classifier import small_classifier
from test_imports import ORDER

import keras_resnet
from keras_resnet.cli.main import app
from keras_resnet.export import export
from keras_resnet.export.formats import FORMATS, Options, takers_of
from keras_resnet.optional import require

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.ko.md")
PAGES = (*READMES, "CONTRIBUTING.md", "CHANGELOG.md", *sorted(f"docs/{page.name}" for page in ROOT.glob("docs/*.md")))
FENCE = re.compile(r"^```(?P<language>[^\n]*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """Page, language of the fence -> its code blocks; those marked `python run` are `python` as well."""
    return [
        match["code"]
        for match in FENCE.finditer(read(page))
        if match["language"] == language or match["language"].split()[:1] == [language]
    ]


def shell_lines(page: str) -> list[str]:
    return [line for block in blocks(page, "sh") for line in block.splitlines() if line and not line.startswith("#")]


def tables(page: str) -> Iterator[list[list[str]]]:
    """Page -> its tables, each a list of rows of cells, the heading first."""
    for lines in re.findall(r"(?:^\|.*\|\n)+", read(page), re.MULTILINE):
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines.splitlines()]
        yield [row for index, row in enumerate(rows) if index != 1]


def table(page: str, first_cell: str) -> list[list[str]]:
    """Page, first cell of the heading -> the rows below it of all such tables."""
    return [row for rows in tables(page) if rows[0][0] == first_cell for row in rows[1:]]


# --- Python -------------------------------------------------------------------------------------------------------


def test_the_block_that_is_marked_runs(tmp_path, monkeypatch):
    """The Korean page has the same code, says a test below."""
    monkeypatch.chdir(tmp_path)
    [code] = blocks("README.md", "python run")
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102  our own page
    assert names["probabilities"].shape == (2, 1000)
    np.testing.assert_allclose(names["probabilities"].sum(axis=1), 1, rtol=1e-5)
    assert set(names["maps"].output) == {"C2", "C3", "C4", "C5"}
    keras.backend.clear_session()


def test_only_the_readmes_have_a_marked_block():
    assert {page for page in PAGES if blocks(page, "python run")} == set(READMES)


@pytest.mark.parametrize(
    ("page", "code"),
    [pytest.param(page, code, id=f"{page}-{i}") for page in PAGES for i, code in enumerate(blocks(page, "python"))],
)
def test_names_and_arguments_of_this_package_exist(page, code):
    """What a block imports exists, and the arguments of its calls fit the signatures."""
    names: dict[str, Any] = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = installed(alias.name)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = getattr(installed(node.module), alias.name)
    calls = 0
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call):
            function = resolve(node.func, names)
            if function is not None and function.__module__.startswith("keras_resnet"):
                keywords = {keyword.arg: None for keyword in node.keywords}
                inspect.signature(function).bind(*node.args, **keywords)
                calls += 1
    assert calls or "keras_resnet" not in names


def installed(module: str) -> Any:
    """Module; the test skips if it belongs to an extra that is not installed."""
    extra = {"onnxruntime": "onnx", "ai_edge_litert": "tflite"}.get(module.split(".")[0])
    if extra is None:
        return importlib.import_module(module)
    try:
        return require(module, extra)
    except ImportError as error:
        pytest.skip(str(error))


def resolve(node: ast.expr, names: dict[str, Any]) -> Any:
    """Dotted expression -> what it names, or None if it starts from a variable of the block."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        parent = resolve(node.value, names)
        return None if parent is None else getattr(parent, node.attr)
    return None


# --- commands -----------------------------------------------------------------------------------------------------

COMMANDS = sorted({(page, line) for page in PAGES for line in shell_lines(page)})


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{page}: {line}" for page, line in COMMANDS])
def test_commands_and_their_options_exist(page, line):
    program, *arguments = shlex.split(line)
    program = program.removeprefix(".venv/bin/")
    if program == "make":
        targets = re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE)
        assert set(argument for argument in arguments if "=" not in argument) <= set(targets)
    elif program == "keras-resnet":
        commands = typer.main.get_command(app).commands
        command = commands[arguments[0]]
        command = command.commands[arguments[1]] if hasattr(command, "commands") else command
        options = {option for parameter in command.params for option in parameter.opts}
        assert {argument for argument in arguments if argument.startswith("-")} <= options
        assert_formats_exist(arguments)
    elif program in ("python", "python3"):
        assert arguments[0] == "-m" or (ROOT / arguments[0]).is_file()
    else:
        assert program in ("pip", "openssl")  # tests/test_signing.py runs the lines of OpenSSL
        extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
        assert set(re.findall(r"\[(\w+)\]", line)) <= set(extras)


def assert_formats_exist(arguments: list[str]) -> None:
    if "--formats" in arguments:
        assert set(arguments[arguments.index("--formats") + 1].split(",")) <= {"all", *FORMATS}


def test_both_readmes_have_the_same_commands_code_and_figures():
    english, korean = READMES
    assert shell_lines(english) == shell_lines(korean)
    programs = [[ast.dump(ast.parse(code)) for code in blocks(page, "python")] for page in READMES]
    assert programs[0] == programs[1]
    shapes = [[(len(rows), len(rows[0])) for rows in tables(page)] for page in READMES]
    assert shapes[0] == shapes[1]
    figures = [
        sorted(re.findall(r"\d+(?:[.,]\d+)*(?:e[-+]\d+)?", " ".join(map(str, tables(page))))) for page in READMES
    ]
    assert figures[0] == figures[1]


def test_the_readme_lists_every_command_and_every_extra():
    commands = {shlex.split(line)[1] for line in shell_lines("README.md") if line.startswith("keras-resnet ")}
    assert commands == set(typer.main.get_command(app).commands)
    extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
    assert [row[0] for row in table("README.md", "extra")] == [f"`{extra}`" for extra in extras]


# --- links and tables ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_somewhere(page):
    for match in LINK.finditer(FENCE.sub("", read(page))):
        target, _, anchor = match["target"].partition("#")
        if target.startswith(("https:", "mailto:")):
            continue
        destination = (ROOT / page).parent / target if target else ROOT / page
        assert destination.exists(), f"{page} links to {target}"
        if anchor:
            text = FENCE.sub("", destination.read_text(encoding="utf-8"))
            anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text)]
            assert anchor in anchors, f"{page} links to {match['target']}"


def test_the_architecture_names_every_part_in_the_order_of_import():
    package = Path(keras_resnet.__file__).parent
    there = {path.stem for path in package.glob("*.py")} | {path.parent.name for path in package.glob("*/__init__.py")}
    rows = [row[0].strip("`").removesuffix("/") for row in table("docs/architecture.md", "part")]
    assert rows == [part for part in ORDER if part in there]


def test_the_architecture_names_every_module_of_the_export():
    there = {path.stem for path in (Path(keras_resnet.__file__).parent / "export").glob("*.py")} - {"__init__"}
    assert {name for row in table("docs/architecture.md", "module") for name in re.findall(r"`(\w+)`", row[0])} == there


def test_the_export_page_has_every_format_with_its_facts():
    rows = table("docs/export.md", "format")
    assert [row[0] for row in rows] == [f"`{name}`" for name in FORMATS]
    for row, format in zip(rows, FORMATS.values(), strict=True):
        _, file, runtime, batch, image, probabilities, bounds = row
        assert file.strip("`/") == format.file_name
        assert runtime == format.runtime
        assert batch == ("any" if format.any_batch else "1")
        assert image == format.input_dtype
        assert probabilities == format.output_dtype
        tolerance = format.tolerance
        expected = [f"agreement {tolerance.top1_agreement_percent:g} %"]
        if tolerance.relative_error is not None:
            expected.append(f"relative error {tolerance.relative_error:.0e}".replace("e-0", "e-"))
        if tolerance.class_error is not None:
            expected.append(f"class error {tolerance.class_error:.0e}".replace("e-0", "e-"))
        if tolerance.unexplained_variance is not None:
            expected.append(f"unexplained variance {tolerance.unexplained_variance:g}")
        if tolerance.mean_error is not None:
            expected.append(f"mean error {tolerance.mean_error * 256:g}/256")
        assert set(bounds.split(", ")) == set(expected), format.name


def test_the_export_page_has_every_option_with_the_formats_that_take_it():
    fields = {"input_type": "input_dtype", "output_type": "output_dtype"}
    rows = {row[0].strip("`-").replace("-", "_"): row[2] for row in table("docs/export.md", "option")}
    told = {fields.get(option, option): re.findall(r"`([\w-]+)`", formats) for option, formats in rows.items()}
    assert {option: formats for option, formats in told.items() if formats} == {
        option: takers_of(option) for option in told if takers_of(option)
    }
    assert told.keys() - {"image_size"} == {field.name for field in dataclasses.fields(Options)}


def test_the_export_page_describes_every_field_of_a_manifest(randomise, tmp_path):
    report = export(randomise(small_classifier()), tmp_path, ["saved_model"])
    manifest = json.loads(report.manifest.read_text())
    entry = manifest["artifacts"]["saved_model"]
    written = [*manifest, *entry, *entry["verification"]]
    assert [row[0].strip("`") for row in table("docs/export.md", "field")] == written
    page = read("docs/export.md")
    description = entry["description"]
    for field in (*description, *description["input"], *description["output"], *description["weights"]):
        assert f"`{field}`" in page, field
    for field in entry["verification"]["checks"][0]:
        assert f"`{field}`" in page, field
    names = " ".join(row[0] for row in table("docs/export.md", "check"))
    for check in entry["verification"]["checks"]:
        assert check["name"] in names


def test_the_export_page_has_the_figures_of_the_records():
    def results(name):
        return json.loads(read(f"benchmarks/results/{name}.json"))["results"]

    for network, title in (("resnet18", "ResNet-18"), ("resnet50", "ResNet-50")):
        latencies, expected = results(f"artifact_latency_{network}"), []
        for name, result in results(f"export_accuracy_{network}").items():
            format_name, *ranges = name.split()
            cell = "model" if name == "model" else ", ".join([f"`{format_name}`", *ranges])
            size = f"{result['size_bytes'] / 1e6:.1f}" if "size_bytes" in result else ""
            agreement = f"{result['agreement_percent']:.2f}" if "agreement_percent" in result else ""
            timed = name != "model" and ranges != ["mse"]
            latency = f"{latencies[format_name]['latency']['median_ms']:.1f}" if timed else ""
            accuracy = (f"{result[key]:.2f}" for key in ("top1_percent", "top5_percent"))
            expected.append([cell, size, *accuracy, agreement, latency])
        assert table("docs/export.md", f"artifact of {title}") == expected
    ways = [results(f"quantizers_{network}") for network in ("resnet18", "resnet50")]
    keys = (("top1_percent", ".2f"), ("agreement_percent", ".2f"), ("unexplained_variance", ".4f"))
    assert table("docs/export.md", "int8 TFLite by") == [
        [name, *(format(way[name][key], digits) for way in ways for key, digits in keys)]
        for name in ways[0]
        if name != "model"
    ]
    assert table("docs/export.md", "rounded part of ResNet-50") == [
        [part, f"{figures['unexplained_variance']:.5f}", f"{figures['agreement_percent']:.2f}"]
        for part, figures in results("int8_noise")["resnet50"].items()
        if part != "images"
    ]
    cost = results("export_cost_resnet50")
    measured = [name for name in cost if f"bare {name}" in cost]
    assert table("docs/export.md", "format and cost") == [
        [
            f"`{name}`",
            *(f"{cost[job]['seconds']:.0f}" for job in (name, f"bare {name}")),
            *(f"{cost[job]['peak_memory_mb']:,}" for job in (name, f"bare {name}")),
        ]
        for name in measured
    ]


def test_the_pages_on_weights_have_every_tag_and_suffix():
    from keras_resnet.variants import VARIANTS
    from keras_resnet.weight_files import WEIGHT_SUFFIXES

    page = read("docs/weights-and-pixels.md")
    contracts = {
        tag: [str(weights.contract.resize), str(weights.contract.size), weights.contract.interpolation]
        for variant in VARIANTS.values()
        for tag, weights in variant.weights.items()
    }
    rows = {
        tag: row[1:] for row in table("docs/weights-and-pixels.md", "weights") for tag in re.findall(r"`(\w+)`", row[0])
    }
    assert rows == contracts
    assert f" {sum(len(variant.weights) for variant in VARIANTS.values())} published sets" in read("README.md")
    for suffix in WEIGHT_SUFFIXES:
        assert f"`{suffix}`" in page
