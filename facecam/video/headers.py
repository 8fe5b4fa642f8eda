"""What an image file says of itself before anything is decoded: its kind, size and orientation.

A few kilobytes can announce a picture of gigabytes; the size is therefore read here and judged before
a decoder allocates anything.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from facecam.video.content import HEAD, describe, unread_picture

#: EXIF orientation (1 to 8): turn or mirror needed to show the picture upright.
_ORIENTATION, _WIDTH, _HEIGHT = 274, 256, 257
_BITS, _SAMPLES = 258, 277
_PROFILE = 34675
_EXIF = b"Exif\0\0"
_ICC = b"ICC_PROFILE\0"
#: Bytes of a profile: the largest in use have a few million, and a PNG's is packed.
_MOST_PROFILE = 4 << 20


class HeaderError(ValueError):
    """The file is no image of a known kind, or its header is damaged; the text says which."""


@dataclass(frozen=True, slots=True)
class Header:
    """Kind of file, size as stored in pixels, and the EXIF orientation (1 to 8) still to be applied.

    Attributes:
        depth: bytes that a pixel may take while it is decoded.
        profile: what red, green and blue mean (ICC.1), as stored; empty where that is not told.
    """

    kind: str
    width: int
    height: int
    orientation: int = 1
    depth: int = 4
    profile: bytes = b""


def read_header(data: bytes) -> Header:
    """Read the header of a JPEG, PNG, GIF, BMP, WebP or TIFF file.

    Args:
        data: the whole file.

    Raises:
        HeaderError: another kind of file, or a damaged one.
    """
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(data)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            # OpenCV keeps two canvases besides the picture (measured: 8 bytes a pixel).
            width, height = struct.unpack_from("<HH", data, 6)
            return Header("GIF", width, height, depth=8)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:4] in (b"II*\0", b"MM\0*"):
            tags = _tiff_tags(data)
            # OpenCV turns TIFF upright by itself, whatever it is asked; of the other kinds, none.
            depth, profile = _tiff_depth(data, tags), _of_rgb(_tiff_profile(data))
            return Header("TIFF", tags[_WIDTH], tags[_HEIGHT], depth=depth, profile=profile)
        if data[:2] == b"BM":
            return _bmp(data)
    except (struct.error, IndexError, KeyError) as error:
        raise HeaderError("the image is damaged or cut short") from error
    unread = unread_picture(data[:HEAD])
    if unread is not None:
        raise HeaderError(f"{unread} images are not supported; convert it to JPEG first")
    if data[4:8] == b"ftyp":
        raise HeaderError("that is a video, not an image")
    what = describe(data[:HEAD])
    raise HeaderError(f"not an image{f': it is {what}' if what else ''} (JPEG, PNG, WebP, GIF, BMP and TIFF are read)")


def tiff_orientation(data: bytes) -> int:
    """EXIF orientation (1 to 8) of a TIFF file, which OpenCV applies by itself while it decodes."""
    return _exif(data)


def _jpeg(data: bytes) -> Header:
    """Walk the segments to the frame header (ITU-T T.81, B.1 and B.2.2)."""
    position, orientation = 2, 1
    profile: dict[int, bytes] = {}  # in parts of 64 KB, numbered (ICC.1, B.4)
    while True:
        while data[position] != 0xFF:  # decoders skip stray bytes between segments
            position += 1
        while data[position] == 0xFF:
            position += 1
        marker = data[position]
        position += 1
        if marker in (0x01, *range(0xD0, 0xD9)):  # markers without a segment
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, position + 3)
            whole = b"".join(part for _, part in sorted(profile.items()))
            return Header("JPEG", width, height, orientation, depth=3, profile=_of_rgb(whole))
        if marker in (0xD9, 0xDA) or length < 2:
            raise HeaderError("the JPEG is damaged: it has no frame header")
        segment = data[position + 2 : position + length]
        if marker == 0xE1 and segment.startswith(_EXIF):
            orientation = _exif(segment[len(_EXIF) :])
        if marker == 0xE2 and segment.startswith(_ICC) and len(segment) > len(_ICC) + 2:
            profile[segment[len(_ICC)]] = segment[len(_ICC) + 2 :]
        position += length


def _png(data: bytes) -> Header:
    """Size from IHDR, orientation from eXIf; every chunk up to IEND must be whole (PNG, 5.3 and 11.2)."""
    width, height = struct.unpack_from(">II", data, 16)
    position, orientation, profile = 8, 1, b""
    while True:
        length, name = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, position + 8 + length)
        if zlib.crc32(body, zlib.crc32(name)) != checksum:
            raise HeaderError("the PNG is damaged: a checksum does not fit")
        if name == b"eXIf":
            orientation = _exif(body)
        if name == b"iCCP":
            profile = _unpacked(body.partition(b"\0")[2][1:])
        if name == b"IEND":
            bits, colour = data[24], data[25]
            depth = (3 if colour in (0, 2) else 4) * (2 if bits == 16 else 1)
            return Header("PNG", width, height, orientation, depth, _of_rgb(profile))
        position += 12 + length


def _webp(data: bytes) -> Header:
    """Size from the first chunk, orientation from EXIF (RFC 9649, 2.4 to 2.7)."""
    name = data[12:16]
    if name == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif name == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif name == b"VP8 ":
        width, height = (v & 0x3FFF for v in struct.unpack_from("<HH", data, 26))
    else:
        raise HeaderError("the WebP is damaged: it starts with an unknown chunk")
    position, orientation, profile = 12, 1, b""
    while position + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, position + 4)
        if data[position : position + 4] == b"EXIF":
            orientation = _exif(data[position + 8 : position + 8 + length].removeprefix(_EXIF))
        if data[position : position + 4] == b"ICCP":
            profile = data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2
    return Header("WebP", width, height, orientation, profile=_of_rgb(profile))


def _bmp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", data, 18)
    return Header("BMP", abs(width), abs(height))


def _of_rgb(profile: bytes) -> bytes:
    """A profile, if it is one of red, green and blue (ICC.1, 7.2): those of inks and greys do not fit BGR."""
    return profile if profile[16:20] == b"RGB " and profile[36:40] == b"acsp" and len(profile) < _MOST_PROFILE else b""


def _unpacked(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, _MOST_PROFILE)
    except zlib.error:
        return b""


def _exif(tiff: bytes) -> int:
    """Orientation of an EXIF block; damaged EXIF counts as none, the picture may still be fine."""
    try:
        return _orientation(_tiff_tags(tiff))
    except (struct.error, IndexError, HeaderError):
        return 1


def _orientation(tags: dict[int, int]) -> int:
    value = tags.get(_ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def _tiff_depth(data: bytes, tags: dict[int, int]) -> int:
    """Bytes a pixel: samples by bits. Of several equal values of bits only a place is noted: then the widest is assumed
    that cameras and scanners write."""
    samples = max(1, min(tags.get(_SAMPLES, 1), 16))
    bits = tags.get(_BITS, 8 if samples == 1 else _first_bits(data))
    return samples * max(1, min(bits, 64) // 8)


def _tiff_profile(data: bytes) -> bytes:
    for tag, _, number, field in _entries(data):
        if tag == _PROFILE:
            (place,) = struct.unpack_from(_order(data) + "I", data, field)
            return data[place : place + number]
    return b""


def _first_bits(data: bytes) -> int:
    """The first of several BitsPerSample, 16 where it cannot be found."""
    for tag, kind, number, field in _entries(data):
        if tag == _BITS and kind == 3 and number > 2:
            (place,) = struct.unpack_from(_order(data) + "I", data, field)
            (bits,) = struct.unpack_from(_order(data) + "H", data, place)
            return int(bits)
    return 16


def _tiff_tags(data: bytes) -> dict[int, int]:
    """The short and long single values of the first directory (TIFF 6.0, section 2)."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        raise HeaderError("the TIFF part is damaged")
    tags = {}
    for tag, kind, number, field in _entries(data):
        if kind in (3, 4) and number == 1:
            (tags[tag],) = struct.unpack_from(_order(data) + ("H" if kind == 3 else "I"), data, field)
    return tags


def _order(data: bytes) -> str:
    return "<" if data[:2] == b"II" else ">"


def _entries(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type and count of the first directory's entries, and where the four bytes of value or place stand."""
    (start,) = struct.unpack_from(_order(data) + "I", data, 4)
    (count,) = struct.unpack_from(_order(data) + "H", data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(_order(data) + "HHI", data, entry)
        yield tag, kind, number, entry + 8
