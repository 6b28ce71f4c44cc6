"""Help texts, comments, docstrings and messages are in plain words: no phrase of `PATTERNS` is found in `TEXTS`."""

import ast
import io
import re
import tokenize
from pathlib import Path
from typing import Any

import pytest
import typer.main

import keras_resnet
from keras_resnet.cli.main import app

PACKAGE = Path(keras_resnet.__file__).parent
FILES = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
Texts = list[tuple[str, str]]  # place and text


def help_texts(command: Any, name: str = "keras-resnet") -> Texts:
    """Command -> its help, and the help of its parameters and of the commands inside it."""
    found = [(name, command.help or "")]
    found += [(f"{name} {parameter.name}", getattr(parameter, "help", None) or "") for parameter in command.params]
    for child in getattr(command, "commands", {}).values():
        found += help_texts(child, f"{name} {child.name}")
    return found


def comments() -> Texts:
    """-> all comments; lines of comment that follow each other are one text."""
    found: Texts = []
    for path, content in FILES.items():
        last = 0  # number of the last line of comment
        for token in tokenize.generate_tokens(io.StringIO(content).readline):
            if token.type == tokenize.COMMENT:
                line, text = token.start[0], token.string.lstrip("# ")
                whole = token.line.lstrip().startswith("#")
                if whole and line == last + 1:
                    found[-1] = (found[-1][0], f"{found[-1][1]} {text}")
                else:
                    found.append((f"{path.relative_to(PACKAGE)}:{line}", text))
                last = line if whole else 0
    return found


def literals(docstrings: bool) -> Texts:
    """-> all docstrings, or all other strings with a space, such as messages."""
    found: Texts = []
    for path, content in FILES.items():
        tree = ast.parse(content)
        documented = [node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))]
        described = {id(node.body[0].value) for node in documented if node.body and isinstance(node.body[0], ast.Expr)}
        for node in ast.walk(tree):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value
            if is_text and (id(node) in described) == docstrings:
                found.append((f"{path.relative_to(PACKAGE)}:{node.lineno}", " ".join(node.value.split())))
    return found


TEXTS = {
    "help": help_texts(typer.main.get_command(app)),
    "comment": comments(),
    "docstring": literals(docstrings=True),
    "string": literals(docstrings=False),
}

# Phrase, the sets of texts in which it is looked for, and what to write instead.
PATTERNS = [
    (r"^(Of|Likewise|That of|Those of|Those that|Within it)\b", [*TEXTS], "start with the thing itself"),
    (r"^(of|that|those|which|whose|as|at most|in words)\b", ["help", "comment"], "start with the thing itself"),
    (r"\b(that|those) of\b", [*TEXTS], "name the thing again"),
    (r"\bthose that\b", [*TEXTS], "name the things"),
    (r"\bthe (former|latter)\b", [*TEXTS], "name the thing again"),
    (
        r"\bthe same\b(?! \w)|\bthe same (as|with|in|for|by|on|to|of|whose)\b",
        [*TEXTS],
        "name the thing, or write `equal`",
    ),
    (r"\ball the same\b", [*TEXTS], "write `anyway`"),
    (r"\bwhat (it|they|\w+ \w+) says?\b|\bsays? (about|of) (it|itself)\b", [*TEXTS], "name what is said"),
    (r", say\b|\bsay,|\bsay[.)]", [*TEXTS], "write `for example`"),
    (r"\b(go|goes|going) on\b", [*TEXTS], "write `continue`"),
    (r"\bends? no\b|\btells? nothing\b", [*TEXTS], "say what happens"),
    (r"\balone\b", [*TEXTS], "write `only`"),
    (r"\bbut for\b", [*TEXTS], "write `except for`"),
    (r"\banew\b", [*TEXTS], "write `again`"),
    (r"\bin (the )?place of\b", [*TEXTS], "write `instead of`"),
    (r"\bas (it|they) (is|are|was|were)\b(?! \w+ed\b)", [*TEXTS], "write `unchanged`"),
    (r"\bhas it (once|twice)\b|\bthere twice\b", [*TEXTS], "name what is there"),
]


@pytest.mark.parametrize(("pattern", "sets", "advice"), PATTERNS, ids=[pattern for pattern, _, _ in PATTERNS])
def test_no_text_has_the_phrase(pattern: str, sets: list[str], advice: str) -> None:
    texts = [(f"{name} of {place}", text) for name in sets for place, text in TEXTS[name]]
    assert [found for found in texts if re.search(pattern, found[1])] == [], advice
