"""Names from files, through every command: nothing printed or written is obeyed by what shows it."""

import ast
import contextlib
import csv
import io
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from command_line import in_process
from foreign_texts import (
    FOLDERS,
    HARMLESS,
    HARMLESS_FOLDERS,
    HOSTILE,
    check_csv,
    check_html,
    check_terminal,
)
from pictures import picture
from PIL import Image
from small_classifier import small_classifier

import keras_resnet
from keras_resnet.cli.main import main
from keras_resnet.data.reading import PLAIN
from keras_resnet.data.tables import read_table
from keras_resnet.model_files import save_model
from keras_resnet.printable import csv_cell, csv_line, csv_text, html_text, markdown_text, printable
from keras_resnet.variants import InputContract

IMAGES = 3  # of each class


class World(NamedTuple):
    """A stranger's data and model, all with the same names."""

    names: tuple
    table: object  # CSV file whose classes have the names
    folder: object  # class folders and files that have those of the names that a file can have
    model: object


def make_world(root, names, folders, randomise):
    images = [Image.fromarray(picture(36, 36, seed)) for seed in range(IMAGES)]
    (root / "images").mkdir(parents=True)
    with (root / "table.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label"])
        for place, name in enumerate(names):
            for number, image in enumerate(images):
                image.save(root / "images" / f"{place}-{number}.png")
                writer.writerow([f"images/{place}-{number}.png", csv_cell(name)])
    for name in folders:
        (root / "folder" / name).mkdir(parents=True)
        for number, image in enumerate(images):
            image.save(root / "folder" / name / f"{name}{number}.png")
        (root / "folder" / name / f"{name} broken.png").write_bytes(b"")
        (root / "folder" / name / f"{name}.txt").touch()
    model = randomise(small_classifier(classes=len(names)), seed=4)
    save_model(model, root / "model.keras", sorted(names), InputContract(32, 32))
    return World(names, root / "table.csv", root / "folder", root / "model.keras")


@pytest.fixture(scope="module")
def worlds(randomise, tmp_path_factory):
    """The hostile world, and one of its size in which all names are harmless."""
    root = tmp_path_factory.mktemp("worlds")
    return (
        make_world(root / "hostile", HOSTILE, FOLDERS, randomise),
        make_world(root / "harmless", HARMLESS, HARMLESS_FOLDERS, randomise),
    )


@pytest.mark.parametrize(
    ("command", "shows"),
    [
        ("data check {folder}", FOLDERS),
        ("data check {table}", HOSTILE),
        ("data pack {folder} {out}", ()),
        ("evaluate {model} {table} --split all --out {out}", ()),
        ("predict {folder} --model {model}", FOLDERS),
        ("predict {folder} --model {model} --top 40 --csv -", HOSTILE),
        ("predict {folder} --model {model} --json -", ()),
        ("explain {folder} --model {model} --out {out}", ()),
        ("info {model}", ()),
        ("info {model} --json", ()),
        ("evaluate {model} {folder} --split all", ()),
        ("train --data {folder} --out {out} --network resnet20 --classes 3", ()),
        ("predict {folder}/nothing\x1b[31m[/red]", ()),
        ("list --\x1b[31m[/red]", ()),
        ("predict\x1b[31m", ()),
    ],
)
def test_no_command_obeys_a_name(worlds, tmp_path, monkeypatch, command, shows):
    monkeypatch.setenv("COLUMNS", "300")
    printed = []
    for number, world in enumerate(worlds):
        named = world._asdict() | {"out": tmp_path / str(number)}
        arguments = [part.format(**named) for part in command.split(" ")]
        status, lines, errors = in_process(*arguments, account=True)
        printed.append((status, len(lines), len(errors)))
        check_terminal([*lines, *errors])
        for name in shows if number == 0 else ():
            shown = printable(name).replace('"', '""') if "--csv" in command else printable(name)
            assert any(shown in line for line in lines), ascii(shown)
    assert printed[0] == printed[1]


def test_tables_of_answers_hold_text_that_no_spreadsheet_computes(worlds, tmp_path):
    """What the package reads again is the text as it was."""
    world, _ = worlds
    in_process("predict", world.folder, "--model", world.model, "--csv", tmp_path / "a.csv", "--top", 1)
    _, *rows = check_csv((tmp_path / "a.csv").read_bytes().decode())
    assert {csv_text(row[1]) for row in rows} <= {*HOSTILE, ""}
    in_process("evaluate", world.model, world.table, "--split", "all", "--out", tmp_path)
    _, *rows = check_csv((tmp_path / "predictions.csv").read_bytes().decode())
    assert {csv_text(row[2]) for row in rows} == {*HOSTILE}
    assert all(0 <= float(row[5]) <= 1 for row in rows)  # numbers stay numbers
    assert {row["label"] for row in read_table(tmp_path / "predictions.csv", PLAIN).rows} == {*HOSTILE}
    status, lines, errors = in_process("evaluate", world.model, tmp_path / "predictions.csv", "--split", "all")
    assert (status, errors) == (0, [])
    assert lines[0].split() == ["images", str(len(HOSTILE) * IMAGES)]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_lacks_characters_gets_escape_sequences(worlds, encoding):
    world, _ = worlds
    for command in (("predict", world.folder, "--model", world.model), ("info", world.model)):
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = in_process_of_streams(*command)
        assert status in (0, 1)
        for stream in (out, err):
            stream.flush()
            check_terminal(stream.buffer.getvalue().decode(encoding).splitlines())


def in_process_of_streams(*arguments):
    """As `in_process`, with the streams as they are."""
    typed, sys.argv = sys.argv, ["keras-resnet", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as left:
            main()
    finally:
        sys.argv = typed
    return left.value.code or 0


def test_an_artifact_and_its_report_show_names_as_text(worlds, tmp_path):
    pytest.importorskip("onnxruntime")
    world, _ = worlds
    made = ("export", "--model", world.model, "--formats", "onnx", "--out", tmp_path)
    status, lines, errors = in_process(*made, "--data", world.table, "--split", "all", "--report", account=True)
    assert status == 0, errors
    check_terminal([*lines, *errors])
    page = check_html((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Accuracy: on" in page
    check_terminal((tmp_path / "REPORT.md").read_text(encoding="utf-8").splitlines())
    for command in (
        ("info", tmp_path / "model.onnx"),
        ("info", tmp_path),
        ("verify", tmp_path / "model.onnx", "--model", world.model),
        ("benchmark", tmp_path, "--rounds", 1, "--data", world.table),
        ("predict", world.folder, "--model", tmp_path / "model.onnx"),
    ):
        _, lines, errors = in_process(*command, account=True)
        assert lines
        check_terminal([*lines, *errors])
    (tmp_path / "[red]\x1b[31mx.onnx").write_bytes((tmp_path / "model.onnx").read_bytes())
    status, lines, errors = in_process("benchmark", tmp_path / "[red]\x1b[31mx.onnx", "--rounds", 1)
    assert status == 0, errors
    check_terminal(lines)
    assert any(r"[red]\x1b[31mx.onnx" in line for line in lines)


def test_a_run_says_and_writes_names_as_text(worlds, tmp_path):
    world, _ = worlds
    arguments = ("--data", world.table, "--out", tmp_path / "[/red]\x1b[31m", "--network", "resnet20", "--size", 32)
    shorter = ("--crop", "padded", "--epochs", 1, "--batch-size", 32, "--xla", "off")
    status, lines, errors = in_process("train", *arguments, *shorter, account=True)
    assert status == 0, errors
    check_terminal([*lines, *errors])
    assert any(r"[/red]\x1b[31m/model.keras: epoch 1" in line for line in lines)


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_text_in_every_form(text):
    check_terminal([printable(text), markdown_text(text), html_text(text)])
    assert csv_text(csv_cell(text)) == text
    assert check_html(f'<p title="{html_text(text)}">{html_text(text)}</p>') == printable(text)


@pytest.mark.parametrize(
    "text",
    [
        "가족 👨\u200d👩\u200d👧",
        "👩🏽\u200d🚀",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "क्\u200dष",
        "❤\ufe0f",
        "עברית",
        "العربية",
        "1\ufe0f\u20e3",
    ],
)
def test_what_a_script_needs_stays(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[a](https://b)", r"\[a\](https\://b)"),
        ("<b> | `c` *d* _e_ $f$ ~g~", r"\<b\> \| \`c\` \*d\* \_e\_ \$f\$ \~g\~"),
        ("www.a.b me@b", r"www\.a.b me\@b"),
        ("model.tflite 3.2 (1 to 2)", "model.tflite 3.2 (1 to 2)"),
    ],
)
def test_markdown_shows_text(text, shown):
    assert markdown_text(text) == shown


@pytest.mark.parametrize("number", ["-1", "+3", "-0.5"])
def test_what_begins_like_a_formula_is_marked(number):
    """Numbers are not given to this function."""
    assert csv_cell(number) == f"'{number}"
    assert csv_text(f"'{number}") == number
    assert csv_text("'a") == "'a"


def test_a_carriage_return_begins_no_row():
    assert csv_line(["a\r=1", 'b"c', "d;e", 0.5, -1]) == '"a\r=1","b""c","d;e",0.5,-1\n'


def test_a_fault_of_the_package_is_one_line(worlds, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a\x1b[31m[/red]\nb")

    monkeypatch.setattr("keras_resnet.cli.info.content_of_model", broken)
    monkeypatch.delenv("KERAS_RESNET_TRACEBACK")
    status, lines, [error] = in_process("info", worlds[0].model)
    assert (status, lines) == (70, [])
    assert error.startswith(
        r"error: this is a fault of keras-resnet: RuntimeError: a\x1b[31m[/red]. Set the environment"
    )
    monkeypatch.setenv("KERAS_RESNET_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        in_process_of_streams("info", worlds[0].model)


def test_every_line_that_is_printed_goes_through_one_function():
    """A call of print takes literal text, numbers, or what `printable` gives."""
    allowed = ("printable(", "printable_lines(", "error.lines", "json.dumps(", "__version__")
    odd = []
    for file in sorted(Path(keras_resnet.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "typer.echo"):
                for argument in node.args:
                    if not is_plain(argument) and not any(name in ast.unparse(argument) for name in allowed):
                        odd.append(f"{file.name}:{node.lineno}: {ast.unparse(node)}")
    assert odd == []


# Numbers, and text of the package itself.
OWN = {"self.images", "read_count", "len(lines)", "len(listed)", "title", "text", "each", "width", "purpose(each)"}
OWN |= {f"_cell(figures['{name}_percent'])" for name in ("mean_average_precision", "micro_f1", "macro_f1")}


def is_plain(node):
    """Literal text, or a number with its format."""
    if ast.unparse(node) in OWN:
        return True
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.BinOp):
        return is_plain(node.left) and (isinstance(node.op, ast.Mult) or is_plain(node.right))
    if not isinstance(node, ast.JoinedStr):
        return False
    parts = [part for part in node.values if isinstance(part, ast.FormattedValue)]
    return all(
        ast.unparse(part.value) in OWN
        or (part.format_spec is not None and re.search(r"[dfg,]'$", ast.unparse(part.format_spec)))
        for part in parts
    )
