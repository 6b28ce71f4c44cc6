"""Text from files, as it is printed: a terminal obeys none of it."""

import pytest
from command_line import in_process
from pictures import jpeg, picture

from keras_resnet.printable import printable, printable_lines

RED = "\x1b[31m"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("고양이 é 1.jpg", "고양이 é 1.jpg"),
        (f"a{RED}\n\t.jpg", r"a\x1b[31m\n\t.jpg"),
        ("\x7f\x9b31m\u202egpj.\udcff", r"\x7f\x9b31m\u202egpj.\udcff"),  # \u202e turns the direction of writing
        (ValueError("a\rb"), r"a\rb"),
    ],
)
def test_control_characters_are_escaped(text, shown):
    assert printable(text) == shown
    assert printable_lines(f"one\n{text}").split("\n")[0] == "one"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Class folders, one of which would colour the terminal; in each one, an unreadable image would."""
    folder = tmp_path_factory.mktemp("data")
    for place, label in enumerate(("ant", f"bee{RED}")):
        (folder / label).mkdir()
        for seed in range(3):
            (folder / label / f"{seed}{RED}.jpg").write_bytes(jpeg(picture(40, 48, 10 * place + seed)))
        (folder / label / f"broken{RED}.jpg").write_bytes(b"")
        (folder / label / f"notes{RED}.txt").touch()
    return folder


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (("data", "check", "{data}"), r"bee\x1b[31m/broken\x1b[31m.jpg: the file is empty"),
        (("data", "pack", "{data}", "{out}"), r"bee\x1b[31m/broken\x1b[31m.jpg: the file is empty"),
        (("evaluate", "{model}", "{data}", "--split", "all"), r"broken\x1b[31m.jpg: the file is empty"),
        (("predict", "{data}", "--model", "{model}"), r"0\x1b[31m.jpg"),
        (("explain", "{data}", "--model", "{model}", "--out", "{out}"), r"0\x1b[31m-explained.png: "),
        (("predict", "{data}/no" + RED), r"no\x1b[31m: no such file or folder"),
        (("predict", "0.jpg", "--model", RED), r"Received: \x1b[31m"),
    ],
)
def test_no_command_repeats_control_characters(model_file, data, tmp_path, monkeypatch, command, shown):
    named = {"data": data, "out": tmp_path / "out", "model": model_file}
    monkeypatch.chdir(tmp_path)
    _, lines, errors = in_process(*(part.format(**named) for part in command), account=True)
    text = "\n".join([*lines, *errors])
    assert shown in text
    assert all(printable(line) == line for line in (*lines, *errors))
