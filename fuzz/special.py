"""Hostile files that no mutation finds: bombs, lies, things that are no files."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from fuzz import files


def photos(folder: Path) -> list[Path]:
    """Pictures that want memory or time, and what else may stand under a picture's name."""
    made: dict[str, bytes] = {
        "side30000.png": png(30_000, 30_000, 1, 0),
        "long.png": png(2, 30_000, 8, 2),
        "bomb16rgba.png": png(12_000, 8_000, 16, 6),
        "bomb8rgba.png": png(10_000, 9_900, 8, 6),
        "bomb16rgb.png": png(10_000, 9_900, 16, 2),
        "palette.png": png(9_900, 9_900, 8, 3),
        "zero.png": png(0, 5, 8, 2),
        "interlaced.png": png(9_900, 9_900, 8, 2, interlace=1),
        "scans.jpg": scans(files.photos()["progressive.jpg"], 2_000),
        "bigscans.jpg": resized(scans(files.photos()["progressive.jpg"], 100), 9_900, 9_900),
        "bigprogressive.jpg": resized(files.photos()["progressive.jpg"], 10_000, 9_900),
        "bigbaseline.jpg": resized(files.photos()["baseline.jpg"], 10_000, 9_900),
        "side65535.jpg": resized(files.photos()["baseline.jpg"], 65_535, 65_535),
        "side65535.gif": b"GIF89a\xff\xff\xff\xff\0\0\0," + bytes(100),
        "big.gif": b"GIF89a" + struct.pack("<HH", 9_900, 9_900) + files.photos()["plain.gif"][10:],
        "big.bmp": b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, 9_900, -9_900, 1, 32, 0, 0, 0, 0, 0, 0),
        "rle.bmp": b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, 9_900, 9_900, 1, 8, 1, 0, 0, 0, 256, 0),
        "least.bmp": b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, -(2**31), -(2**31), 1, 24, 0, 0, 0, 0, 0, 0),
        "loop.tiff": b"II*\0\x08\0\0\0\x02\0" + struct.pack("<HHII", 256, 4, 1, 99) * 2 + b"\x08\0\0\0",
        "big.tiff": tiff(9_900, 9_900, 8),
        "float64.tiff": tiff(9_900, 9_900, 64),
        "svg.jpg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "zip.jpg": slipping_zip(),
        "heic.jpg": b"\0\0\0\x18ftypheic" + bytes(60),
        "text.png": b"hello\n" * 100,
        "empty.jpg": b"",
        "exif.jpg": b"\xff\xd8\xff\xe1\0\x20Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(40),
    }
    paths = []
    for name, data in made.items():
        paths.append(folder / name)
        paths[-1].write_bytes(data)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.jpg")
        (folder / "zero.jpg").symlink_to("/dev/zero")
        (folder / "loop.jpg").symlink_to("loop.jpg")
        paths += [folder / "pipe.jpg", folder / "zero.jpg", folder / "loop.jpg"]
    (folder / "folder.jpg").mkdir()
    (folder / "name\n\x1b[31m.jpg").write_bytes(b"x")
    return [*paths, folder / "folder.jpg", folder / "name\n\x1b[31m.jpg", folder / "absent.jpg"]


def png(width: int, height: int, depth: int, colour: int, interlace: int = 0) -> bytes:
    """A PNG of zeros that compresses a thousandfold; colour: 0 grey, 2 RGB, 3 palette, 6 RGBA."""
    channels = {0: 1, 2: 3, 3: 1, 6: 4}[colour]
    row = 1 + (width * channels * depth + 7) // 8
    packer = zlib.compressobj(1)
    packed = [packer.compress(bytes(row)) for _ in range(height)]
    body = b"".join(packed) + packer.flush()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))]
    if colour == 3:
        chunks.append((b"PLTE", bytes(range(3))))
    chunks += [(b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def scans(jpeg: bytes, count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again: each makes a decoder walk over the whole picture."""
    at = jpeg.rindex(b"\xff\xda")
    return jpeg[:-2] + jpeg[at:-2] * count + jpeg[-2:]


def resized(jpeg: bytes, width: int, height: int) -> bytes:
    """The same data under another size."""
    at = next(i for i in range(len(jpeg) - 1) if jpeg[i] == 0xFF and jpeg[i + 1] in (0xC0, 0xC2))
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def tiff(width: int, height: int, depth: int) -> bytes:
    """A TIFF of one strip that is not there."""
    entries = (
        (256, 4, width),
        (257, 4, height),
        (258, 3, depth),
        (259, 3, 8),
        (262, 3, 1),
        (273, 4, 122),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, 100),
    )
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries))
    return head + b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in entries) + bytes(4) + zlib.compress(bytes(9))


def slipping_zip() -> bytes:
    """An archive that leaves its folder, with a bomb inside."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../../../tmp/slipped", b"x")
        archive.writestr("bomb", bytes(5_000_000))
    return buffer.getvalue()


def videos(folder: Path) -> list[Path]:
    """Videos whose headers lie, without pictures, of nothing for hours, of changing size, and playlists."""
    small = files.video(".ts", "mpeg2video")
    made = {
        "still.mp4": files.video(".mp4", "libx264", frames=6, rate="1/3600"),
        "fast.mp4": files.video(".mp4", "libx264", frames=6, rate="90000"),
        "size.ts": small + files.video(".ts", "mpeg2video", size=(192, 160)) + small,
        "wide.mp4": wide(files.video(".mp4", "libx264"), 30_000, 30_000),
        "sound.mp4": sound(),
        "playlist.mp4": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "concat.mkv": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        "reference.mov": b"\0\0\0\x14ftypqt  " + bytes(8) + b"\0\0\0\x08moov",
        "boxes.mp4": b"\0\0\0\x10ftypisom" + bytes(4) + b"\0\0\0\x08free" * 50_000,
        "deep.mp4": b"\0\0\0\x10ftypisom" + bytes(4) + nested(3_000),
        "zip.mp4": slipping_zip(),
        "empty.mkv": b"",
        "raw.h264.mp4": b"\0\0\0\x01\x67\x64\0\x3f" + b"\xff" * 300,
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in made]


def nested(depth: int) -> bytes:
    """Boxes within boxes."""
    data = b""
    for _ in range(depth):
        data = struct.pack(">I4s", len(data) + 8, b"moov") + data
    return data


def wide(mp4: bytes, width: int, height: int) -> bytes:
    """The sample description says another size (ISO/IEC 14496-12, 12.1.3)."""
    at = mp4.index(b"avc1", mp4.index(b"stsd"))
    return mp4[: at + 28] + struct.pack(">HH", width, height) + mp4[at + 32 :]


def sound() -> bytes:
    """A file with a tone and no picture."""
    import tempfile

    import av
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tone.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=16_000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16_000
            for packet in (*stream.encode(frame), *stream.encode()):  # type: ignore[attr-defined]
                container.mux(packet)
        return path.read_bytes()


def exports(folder: Path) -> list[Path]:
    """Exports that want memory, and other things under their name."""
    head = '{"schema": "facecam.gallery/2", "created": "2026-01-31T12:00:00Z", "people": '
    made = {
        "brackets.json": b"[" * 2_000_000,
        "numbers.json": b"[" + b"9" * 3_000_000 + b"]",
        "people.json": (head + "[" + "{}," * 1_500_000 + "{}]}").encode(),
        "long.json": (head + json.dumps([{"name": "x" * 20_000_000, "consent": None, "samples": []}]) + "}").encode(),
        "same.json": files.export().replace(b'"\\u738b\\u5c0f\\u660e"', b'"Ada"'),
        "slip.zip": slipping_zip(),
        "latin.json": files.export() + b"\xff\xfe",
        "bomb.json": files.export().replace(b'"crop": "', b'"crop": "' + b"A" * 4_000_000, 1),
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
    (folder / "folder.json").mkdir()
    return [*(folder / name for name in made), folder / "folder.json", folder / "absent.json"]


SPECIAL: dict[str, Callable[[Path], list[Path]]] = {"photo": photos, "video": videos, "export": exports}
