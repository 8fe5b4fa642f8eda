"""Photos in and out: any common kind of image file to upright BGR, and labelled copies back."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from facecam.errors import MediaError, OutputError
from facecam.values import Image
from facecam.video.atomic import atomic_bytes
from facecam.video.cv import quiet_stderr
from facecam.video.headers import HeaderError, read_header

#: Suffixes (lower case) by which folders are searched for photos and for videos. The last three of the photos are not
#: read: a phone's folder is full of them, and they are to be told, not left out in silence.
IMAGE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
        *(".heic", ".heif", ".avif"),
    }
)
VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
        *(".wmv", ".flv", ".3gp", ".ogv", ".vob"),
    }
)

#: A larger picture is taken for an attack or an error: decoding it would take gigabytes.
MAX_PIXELS = 100_000_000
MAX_SIDE = 20_000
_MAX_BYTES = 512 * 1024 * 1024
#: Bytes of a decoded picture: 100 megapixels of three bytes. Deep and transparent ones have fewer pixels then. With the
#: copy that is made of it, and the models, a hostile picture stays below 1 GiB (fuzz/hostile.py).
_MAX_DECODED = 3 * MAX_PIXELS
#: Rows are converted in blocks of so many pixels: the intermediate values take several times the room.
_BLOCK = 1 << 20
_JPEG_QUALITY = 92
#: Sizes of the headers of a BMP, as stored: of version 3, and of those with the masks in them.
_BMP3 = (40).to_bytes(4, "little")
_LONG_BMP = frozenset(size.to_bytes(4, "little") for size in (52, 56, 108, 124))


def read_photo(path: str | os.PathLike[str]) -> Image:
    """Read an image file.

    Grey, 16-bit, palette and CMYK pictures become BGR; transparent ones stand on white; of an
    animation the first picture is taken; EXIF orientation is applied.

    Returns:
        BGR uint8, H x W x 3, contiguous, upright.

    Raises:
        MediaError: missing, unreadable, no image of a known kind, damaged, cut short, or larger than
            100 megapixels or 20,000 pixels a side (judged from the header, before decoding).
    """
    path = Path(path)
    return decode_photo(read_bytes(path), str(path))


def decode_photo(data: bytes, name: str = "image") -> Image:
    """As `read_photo`, from the bytes of a file; ``name`` stands in error messages."""
    if not data:
        raise MediaError(f"{name}: the file is empty")
    try:
        header = read_header(data)
    except HeaderError as error:
        raise MediaError(f"{name}: {error}") from error
    width, height = header.width, header.height
    if width < 1 or height < 1:
        raise MediaError(f"{name}: the image is damaged: it says it is {width} x {height} pixels")
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        raise MediaError(
            f"{name}: {width} x {height} pixels; at most 100 megapixels and {MAX_SIDE} a side are read, make it smaller"
        )
    if width * height * header.depth > _MAX_DECODED:
        raise MediaError(
            f"{name}: {width} x {height} pixels of {header.depth} bytes each; a {header.kind} image of at most "
            f"{_MAX_DECODED // header.depth // 1_000_000} megapixels of this depth is read, make it smaller"
        )
    stored = _decode(_plain_bmp(data) if header.kind == "BMP" else data)
    if stored is None or stored.nbytes > 4 * MAX_PIXELS:
        raise MediaError(
            f"{name}: the {header.kind} image is damaged, cut short, or of an unusual kind; if other programs show it, "
            "convert it to JPEG"
        )
    if header.kind == "BMP" and stored.ndim == 3 and stored.shape[2] == 4 and not stored[:, :, 3].any():
        stored = stored[:, :, :3]  # most programs that write 32 bits leave the fourth byte empty
    image = _as_bgr(stored, premultiplied=header.kind == "TIFF")
    del stored  # or three copies of the picture would be there at once
    return _turned(image, header.orientation)


def profile_of(path: str | os.PathLike[str]) -> bytes:
    """The ICC profile of a photo's red, green and blue, empty if it has none.

    Raises:
        MediaError: the file cannot be read.
    """
    try:
        return read_header(read_bytes(Path(path))).profile
    except HeaderError:
        return b""


def write_photo(path: str | os.PathLike[str], image: Image, *, overwrite: bool = False, profile: bytes = b"") -> None:
    """Write a picture as JPEG or PNG, by the suffix; it appears whole or not at all.

    Args:
        image: BGR uint8, H x W x 3.
        profile: ICC profile of its colours; without one viewers take them for sRGB.

    Raises:
        OutputError: another suffix, the file exists, or it cannot be written.
    """
    import cv2

    suffix = Path(path).suffix.lower()
    if suffix not in (".jpg", ".jpeg", ".png"):
        raise OutputError(f"{path}: a picture is written as .jpg or .png; choose one of these")
    options = [] if suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    done = False
    coded: Any = None
    if profile:  # refused where it is damaged, or too long for a JPEG's segment: then the picture goes without
        chunk: Any = np.frombuffer(profile, np.uint8)
        with quiet_stderr(), contextlib.suppress(cv2.error):
            done, coded = cv2.imencodeWithMetadata(suffix, image, [cv2.IMAGE_METADATA_ICCP], [chunk], options)
    if not done:
        done, coded = cv2.imencode(suffix, image, options)
    if not done:
        raise OutputError(f"{path}: the picture cannot be encoded")
    atomic_bytes(path, coded.tobytes(), overwrite=overwrite)


def check_regular(path: Path) -> None:
    """Refuse a pipe, device or folder: opening one may wait for ever, reading one may never end.

    Raises:
        MediaError: something else than a regular file is there. OSError: it cannot be looked at.
    """
    if path.exists() and not path.is_file():
        raise MediaError(f"{path}: is not a regular file; give a photo or a video")


def read_bytes(path: Path) -> bytes:
    """The content of an image file of at most 512 MiB.

    Raises:
        MediaError: missing, unreadable, no regular file, or larger.
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > _MAX_BYTES:
                raise MediaError(f"{path}: {size / 2**20:.0f} MiB; images of at most 512 MiB are read")
            return file.read()
    except FileNotFoundError as error:
        raise MediaError(f"{path}: no such file") from error
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror or error})") from error


def _plain_bmp(data: bytes) -> bytes:
    """A BMP of 16 bits with masks under the header of version 3: OpenCV looks behind longer ones for the masks, which
    stand at byte 54 in all of them (BITMAPV5HEADER, BI_BITFIELDS).
    """
    masked = data[14:18] in _LONG_BMP and data[28:34] == b"\x10\0\x03\0\0\0"
    return data[:14] + _BMP3 + data[18:] if masked else data


def _decode(data: bytes) -> Any:
    """The picture as stored: H x W or H x W x (3 or 4), any depth; None when it is damaged."""
    import cv2

    with quiet_stderr():
        try:
            return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except (cv2.error, MemoryError):
            return None


def _as_bgr(stored: Any, *, premultiplied: bool) -> Image:
    """BGR uint8 over white; libtiff gives 8-bit colours already multiplied by their alpha."""
    image = np.asarray(stored)
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return np.ascontiguousarray(image)
    top = None if image.dtype in (np.uint8, np.uint16) else _top(image)
    out = np.empty((*image.shape[:2], 3), np.uint8)
    step = max(1, _BLOCK // max(1, image.shape[1]))
    for start in range(0, image.shape[0], step):
        out[start : start + step] = _block_as_bgr(image[start : start + step], premultiplied, top)
    return out


def _block_as_bgr(image: Any, premultiplied: bool, top: float | None) -> Image:
    premultiplied = premultiplied and image.dtype == np.uint8
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    elif image.dtype != np.uint8:
        image = _stretched(image, top or 0.0)
    if image.ndim == 2:
        image = image[:, :, None]
    channels = image.shape[2]
    if channels in (2, 4):
        alpha = image[:, :, -1:].astype(np.uint16)
        colour = image[:, :, :-1].astype(np.uint16)
        if not premultiplied:
            colour = (colour * alpha + 127) // 255
        image = np.minimum(colour + 255 - alpha, 255).astype(np.uint8)
    if image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    return np.ascontiguousarray(image[:, :, :3])


def _plain(image: Any) -> Any:
    with np.errstate(over="ignore"):  # a double that no float holds
        return np.nan_to_num(image.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _top(image: Any) -> float:
    """The highest value of a picture of another type than uint8 and uint16; never below 0."""
    return max((float(_plain(row).max(initial=0.0)) for row in image), default=0.0)


def _stretched(image: Any, top: float) -> Any:
    """Floating point (TIFF; 0 to 1, or any scale) and other whole numbers as uint8."""
    scale = 255.0 / (1.0 if 0 < top <= 1.0 else max(top, 255.0))
    with np.errstate(over="ignore"):  # far below zero: black all the same
        return np.clip(_plain(image) * scale, 0, 255).astype(np.uint8)


def _turned(image: Image, orientation: int) -> Image:
    """Apply an EXIF orientation (CIPA DC-008, 4.6.4: 0th row and column in the shown picture)."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
