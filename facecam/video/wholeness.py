"""Whether a video file is all there: containers say how long they are, and a copy that broke off is shorter.

FFmpeg reads such a file as far as it goes and says nothing: without its index a Matroska or AVI file plays well.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from facecam.errors import MediaError
from facecam.video.content import HEAD, is_text, unread_picture

#: First boxes of MP4 and MOV files.
_BOXES: Final = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp")
#: A file of more parts than this is not walked further.
_MOST: Final = 10_000
#: Writers of AVI do not agree whether the padding counts, nor whether the RIFF header does.
_SLACK: Final = 8
#: Names of the EBML header and of the segment.
_EBML: Final = b"\x1a\x45\xdf\xa3"
_SEGMENT: Final = b"\x18\x53\x80\x67"
#: The longest page of an Ogg, bytes.
_OGG_PAGE: Final = 65_307
#: The header object of ASF (WMV), as stored.
_ASF: Final = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")


def cut_short(file: BinaryIO, size: int, path: Path) -> bool:
    """Whether the file ends before it says that it does; False where its kind does not say, or is not known.

    Args:
        file: at any place. size: of it, bytes. path: for the message.

    Raises:
        MediaError: an MP4 or MOV file that ends before its index, or a picture with the boxes of one: nothing of it
            can be decoded.
    """
    file.seek(0)
    head = file.read(HEAD)
    if is_text(head):  # "The free encyclopedia" has a box's name where a box has it
        return False
    for begins, check in _KINDS:
        if begins(head):
            return check(file, size, path)
    return False


def _boxes(file: BinaryIO, size: int, path: Path) -> bool:
    """The top-level boxes of an MP4 or MOV (ISO/IEC 14496-12, 4.2)."""
    position = 0
    names: list[bytes] = []
    while position + 8 <= size and len(names) < _MOST:
        file.seek(position)
        head = file.read(16)
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        names.append(name)
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:  # reaches to the end of the file, as its writer says
            break
        if length < 8:
            return False
        position += length
    if b"moov" not in names:
        file.seek(0)
        unread = unread_picture(file.read(HEAD))
        if unread is not None:
            raise MediaError(
                f"{path}: not a video: it is a picture of kind {unread}, which is not read; convert it to JPEG"
            )
        raise MediaError(f"{path}: the video is cut short (its index, the moov box, is missing); copy it again")
    return position > size


def _matroska(file: BinaryIO, size: int, path: Path) -> bool:
    """The EBML header and the segment behind it (RFC 8794, 4 to 6; RFC 9559, 5); a live one has no size."""
    position = 0
    for name in (_EBML, _SEGMENT):
        file.seek(position)
        head = file.read(12)
        if head[:4] != name:
            return False
        width = 9 - head[4].bit_length() if len(head) == 12 else 9  # of the size, bytes: its leading zeros tell
        if width > 8:
            return False
        most = (1 << 7 * width) - 1
        length = int.from_bytes(head[4 : 4 + width], "big") & most
        if length == most:
            return False
        position += 4 + width + length
    return position > size


def _avi(file: BinaryIO, size: int, path: Path) -> bool:
    """The RIFF parts of an AVI, one each gigabyte (OpenDML 1.02). A recorder that was killed leaves sizes of 0."""
    position = parts = 0
    while position + 12 <= size and parts < _MOST:
        file.seek(position)
        head = file.read(8)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] != b"RIFF" or length == 0:
            return False
        position += 8 + length + length % 2
        parts += 1
    return position > size + _SLACK


def _flv(file: BinaryIO, size: int, path: Path) -> bool:
    """Behind each tag of an FLV stands its length (Adobe FLV 10.1, E.3): that of the last one must lead to a tag."""
    file.seek(max(0, size - 4))
    length = int.from_bytes(file.read(4), "big")
    if not 11 <= length <= size - 4:
        return True
    file.seek(size - 4 - length)
    head = file.read(4)
    return head[0] & 0x1F not in (8, 9, 18) or int.from_bytes(head[1:4], "big") != length - 11


def _ogg(file: BinaryIO, size: int, path: Path) -> bool:
    """The last page of an Ogg is whole, and ends a stream (RFC 3533, 6)."""
    file.seek(max(0, size - _OGG_PAGE))
    tail = file.read()
    start = tail.rfind(b"OggS")
    if start < 0 or len(tail) < start + 27:
        return True
    lengths = tail[start + 27 : start + 27 + tail[start + 26]]
    return not tail[start + 5] & 4 or start + 27 + len(lengths) + sum(lengths) > len(tail)


def _objects(file: BinaryIO, size: int, path: Path) -> bool:
    """The top-level objects of an ASF or WMV (ASF 01.20.05, 2.1): a GUID and a size each."""
    position = parts = 0
    while position + 24 <= size and parts < _MOST:
        file.seek(position + 16)
        length = int.from_bytes(file.read(8), "little")
        if length < 24:  # a broadcast's data has none
            return False
        position += length
        parts += 1
    return position > size


def _packets(file: BinaryIO, size: int, path: Path) -> bool:
    """A transport stream (ISO/IEC 13818-1, 2.4.3) ends with a whole packet, of 188 bytes, or 192 in cameras."""
    file.seek(0)
    length = 188 if file.read(1) == b"\x47" else 192
    return size % length != 0


def _is_stream(head: bytes) -> bool:
    return any(head[start::length][:3] == b"\x47" * 3 for start, length in ((0, 188), (4, 192)) if len(head) > 388)


_KINDS: Final[tuple[tuple[Callable[[bytes], bool], Callable[[BinaryIO, int, Path], bool]], ...]] = (
    (lambda head: head.startswith(_EBML), _matroska),
    (lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI ", _avi),
    (lambda head: head.startswith(b"FLV\x01"), _flv),
    (lambda head: head.startswith(b"OggS"), _ogg),
    (lambda head: head.startswith(_ASF), _objects),
    (lambda head: head[4:8] in _BOXES, _boxes),  # behind those that may have such a name there by chance
    (_is_stream, _packets),
)
