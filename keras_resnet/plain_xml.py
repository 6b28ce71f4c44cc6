"""XML file from elsewhere -> its elements, without what XML can do besides: name other files, or fill the memory."""

from os import PathLike
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from keras_resnet.errors import reason
from keras_resnet.regular_files import read_regular


def read_xml(file: str | PathLike[str], most_bytes: int) -> Element:
    """XML file, its largest size -> its first element.

    Raises:
        OSError: The file can't be read, or is larger.
        ValueError: It is no XML, or has a document type, which can name other files, or fill the memory.
    """
    builder, parser = TreeBuilder(), expat.ParserCreate()

    def refuse(*_: Any) -> None:
        raise ValueError("it must have no document type (<!DOCTYPE ...>), since it needs none. Remove it")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(read_regular(file, most_bytes), True)
    except (expat.ExpatError, LookupError) as error:
        raise ValueError(f"not an XML file: {reason(error)}. Export it again") from error
    return builder.close()
