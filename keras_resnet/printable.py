"""Text from files, such as the name of an image or a class, as text that a terminal does not obey."""


def printable(text: object) -> str:
    """Text of one line -> the text, with control characters and other invisible ones as escape sequences.

    A terminal would obey control characters: they change colours, move the cursor and overwrite earlier lines.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def printable_lines(text: object) -> str:
    """Text of several lines -> the text as `printable` gives it, with its ends of lines."""
    return "\n".join(map(printable, str(text).split("\n")))
