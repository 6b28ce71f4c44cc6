"""Which files are images: by suffix, or by content where the suffix is no image's."""

import functools
import os

from keras_resnet.optional import how_to_install
from keras_resnet.regular_files import open_regular

# The list is explicit, because some other readers of Pillow start a program (EPS) or depend on Pillow's build.
IMAGE_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF")
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"),
    ".avif",
)
HEIC_SUFFIXES = (".heic", ".heif")

# First bytes of these formats. AVIF and HEIC have theirs behind four bytes of length: the word ftyp and a brand.
_SIGNATURES = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*"),
    *(b"P4\n", b"P5\n", b"P6\n"),
)
_AVIF_BRANDS, _HEIC_BRANDS = (
    (b"avif", b"avis"),
    (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"),
)
# What systems and programs leave in folders, in lower case, beside names that start with a dot.
_SYSTEM = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "system volume information"),
    *("lost+found", "__pycache__", "icon\r"),
}


@functools.cache
def no_heic() -> str:
    """-> why an image in HEIC can't be read."""
    return f"HEIC, which needs {how_to_install('heic')}"


def is_hidden(name: str) -> bool:
    """Name of a file or folder -> whether a system or a program has left it there, so that it is never data."""
    return name.startswith((".", "~$")) or name.lower() in _SYSTEM


def has_image_suffix(name: str) -> bool:
    """Name of a file -> whether its suffix belongs to an image that this installation reads."""
    return name.lower().endswith(IMAGE_SUFFIXES + (HEIC_SUFFIXES if reads_heic() else ()))


def image_kind(path: str | os.PathLike[str]) -> str:
    """File -> "image", "heic" for one that takes another package to read, or "" for what is no image."""
    try:
        with open_regular(path) as stream:
            return kind_of_bytes(stream.read(16))
    except OSError:
        return ""


def kind_of_bytes(head: bytes) -> str:
    """First 16 bytes of a file or more -> its kind, as `image_kind` returns it."""
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        return "image" if reads_heic() else "heic"
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    avif = head[4:8] == b"ftyp" and head[8:12] in _AVIF_BRANDS
    return "image" if webp or avif or head.startswith(_SIGNATURES) else ""


@functools.cache
def reads_heic() -> bool:
    """Whether pillow-heif is installed; Pillow then reads HEIC, too."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def readable_formats() -> tuple[str, ...]:
    """-> names of the formats that Pillow is allowed to read."""
    return (*IMAGE_FORMATS, "HEIF") if reads_heic() else IMAGE_FORMATS
