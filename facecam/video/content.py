"""What a file holds, judged by its first bytes: for the line that says why it is no video, or no photo."""

from __future__ import annotations

from typing import Final

#: So many bytes from the beginning of a file are enough for `describe`.
HEAD: Final = 4096

#: Beginnings -> what the file is, and the suffix that photos of the kind have. From the formats' specifications.
_PICTURES: Final = (
    (b"\xff\xd8\xff", "a JPEG image", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image", ".png"),
    (b"GIF87a", "a GIF image", ".gif"),
    (b"GIF89a", "a GIF image", ".gif"),
    (b"II*\0", "a TIFF image", ".tif"),
    (b"MM\0*", "a TIFF image", ".tif"),
)
#: Pictures that no decoder here reads.
_UNREAD: Final = (
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"II+\0", "BigTIFF"),
    (b"MM\0+", "BigTIFF"),
    (b"8BPS", "Photoshop"),
)
#: Brands of HEIF files (ISO/IEC 23008-12; AV1 Image File Format), which have the boxes of an MP4.
_BRANDS: Final = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1", b"heim", b"heis"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
}
_OTHERS: Final = (
    (b"PK\x03\x04", "a ZIP archive (unpack it first)"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\x1f\x8b", "a gzip archive (unpack it first)"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive (unpack it first)"),
    (b"Rar!\x1a\x07", "a RAR archive (unpack it first)"),
    (b"%PDF-", "a PDF document"),
    (b"SQLite format 3\0", "a database"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)
#: Control characters that stand in text: tab, line feed, form feed, carriage return, escape.
_TEXT_CONTROLS: Final = frozenset(b"\t\n\f\r\x1b")


def kind_of_picture(head: bytes) -> tuple[str, str] | None:
    """("a JPEG image", ".jpg") for the beginning of an image file that `photos.read_photo` knows, else None."""
    for magic, what, suffix in _PICTURES:
        if head.startswith(magic):
            return what, suffix
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a WebP image", ".webp"
    # "BM" begins many a text: the four bytes that the format reserves, and the sizes of its headers, tell (BMP).
    if head[:2] == b"BM" and head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS:
        return "a BMP image", ".bmp"
    return None


def unread_picture(head: bytes) -> str | None:
    """ "HEIC" for the beginning of an image file of a kind that is known, but not read; else None."""
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12])
    return next((kind for magic, kind in _UNREAD if head.startswith(magic)), None)


_BMP_HEADERS: Final = frozenset(size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124))


def describe(head: bytes) -> str | None:
    """What a file is that begins like this, for people ("text", "a ZIP archive (unpack it first)"); None: no idea.

    Args:
        head: its first `HEAD` bytes, or all that there are.
    """
    found = kind_of_picture(head)
    if found is not None:
        return found[0]
    for magic, what in _OTHERS:
        if head.startswith(magic):
            return what
    if head and not any(head):
        return "nothing but zeros, as an unfinished download leaves them"
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, as a failed download leaves it"
    if head[257:262] == b"ustar":
        return "a tar archive (unpack it first)"
    return "text" if is_text(head) else None


def is_text(head: bytes) -> bool:
    """Whether a file that begins like this holds UTF-8 text."""
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or error.reason != "unexpected end of data":
            return False
        head = head[: error.start]  # the last character was cut in two
    return bool(head) and all(byte >= 32 or byte in _TEXT_CONTROLS for byte in head)
