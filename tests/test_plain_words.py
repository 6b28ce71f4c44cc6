"""Texts for people are in plain words: phrases that make a reader look for the missing noun or verb are banned."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)


class Banned(NamedTuple):
    """A phrase that no text may have."""

    pattern: str  # matched in any case, and across the end of a line
    reason: str  # and what to write instead
    example: str


BANNED = (
    Banned(r"that of", "the noun stands elsewhere: repeat it", "its loss is below that of the last epoch"),
    Banned(
        r"those (?:that|which|of|before|after|from|with|without)",
        "the noun stands elsewhere: repeat it",
        "the images are those that validate",
    ),
    Banned(
        r"the same(?=\s*(?:[.,;:)|]|$|(?:and|as|at|by|for|from|holds|in|is|on|or|times|to|with)\b))",
        "the noun is missing: name it, or write `equal` or `like`",
        "packed sets hold the same as folders",
    ),
    Banned(r"alone", "`only` stands before what it limits", "the head alone is trained"),
    Banned(r"sa(?:y|ys|id|ying)", "a program prints, reports, states or refuses", "the command says so"),
    Banned(r"go(?:es|ing)? on", "a run continues", "the run goes on"),
    Banned(r"ends? no", "a negation hides in the object: negate the verb", "a broken image ends no run"),
    Banned(
        r"so (?:are|did|do|does|has|have|is|was|were)", "the verb stands elsewhere: repeat it", "and so is the mean"
    ),
    Banned(r"makes? of", "name the action: answers, prints, computes", "what a network makes of an image"),
    Banned(r"so many", "name the number, or the option that holds it", "each process keeps to so many cores"),
    Banned(r"of which", "the reader looks for the noun: start another sentence", "400 images, of which one counts"),
    Banned(r"by turns", "the usual words are `in turn`", "all files are measured by turns"),
    Banned(r"all the same", "the usual words are `even so`, or `like the rest`", "calibrate on noise all the same"),
)


def pages() -> Iterator[tuple[str, str]]:
    """-> name and text of each page, without its code."""
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))):
        yield path.relative_to(ROOT).as_posix(), without_code(path.read_text(encoding="utf-8"))


def without_code(text: str) -> str:
    """Markdown -> the text with its lines where they were, and the word "code" for code."""
    return CODE.sub(lambda match: "code" + "\n" * match[0].count("\n"), text)


# Texts that are checked: a row is their name and what yields the place and the words of each.
TEXTS: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {"pages": pages}


def found_in(text: str, banned: Banned) -> list[tuple[int, str]]:
    """Text -> line and words of each place that has the phrase."""
    phrase = re.compile(rf"\b(?:{banned.pattern})\b".replace(" ", r"\s+"), re.IGNORECASE)
    return [(text.count("\n", 0, match.start()) + 1, " ".join(match[0].split())) for match in phrase.finditer(text)]


@pytest.mark.parametrize("banned", BANNED, ids=[banned.example for banned in BANNED])
@pytest.mark.parametrize("texts", TEXTS)
def test_no_text_has_a_banned_phrase(texts: str, banned: Banned) -> None:
    places = [f"{place}:{line}: {words!r}" for place, text in TEXTS[texts]() for line, words in found_in(text, banned)]
    assert not places, f"{banned.reason}\n" + "\n".join(places)


@pytest.mark.parametrize("banned", BANNED, ids=[banned.example for banned in BANNED])
def test_each_phrase_is_found_in_its_example(banned: Banned) -> None:
    assert found_in(banned.example, banned)
    assert found_in(banned.example.replace(" ", "\n"), banned)


def test_code_is_left_out_and_keeps_its_lines() -> None:
    text = without_code("One `alone` here.\n```python\nalone = 1\n```\nalone\n")
    assert found_in(text, Banned("alone", "", "")) == [(5, "alone")]
