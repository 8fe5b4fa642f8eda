from __future__ import annotations

import io
import os
import stat
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecam.errors import MediaError, OutputError
from facecam.video.headers import HeaderError, read_header
from facecam.video.photos import IMAGE_SUFFIXES, VIDEO_SUFFIXES, decode_photo, profile_of, read_photo, write_photo
from tests.fakes import corners, quarters, smooth

pil = pytest.importorskip("PIL.Image", reason="Pillow makes the test pictures")
PICTURE = smooth(96, 64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    path = tmp_path / "files"
    path.mkdir()
    return path


def _pil(image: Any = PICTURE) -> Any:
    return pil.fromarray(np.ascontiguousarray(image[:, :, ::-1]))


def _saved(image: Any, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def _rgba() -> Any:
    image = _pil().convert("RGBA")
    image.putalpha(pil.fromarray(smooth(96, 64, 3)[:, :, 0]))
    return image


def _on_white(image: Any) -> Any:
    """What Pillow makes of it: the reference, BGR."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        white = pil.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return np.asarray(image.convert("RGB"))[:, :, ::-1]


KINDS = {
    "jpeg": lambda: _saved(_pil(), "JPEG", quality=95),
    "progressive": lambda: _saved(_pil(), "JPEG", progressive=True),
    "grey jpeg": lambda: _saved(_pil().convert("L"), "JPEG"),
    "cmyk jpeg": lambda: _saved(_pil().convert("CMYK"), "JPEG"),
    "png": lambda: _saved(_pil(), "PNG"),
    "alpha png": lambda: _saved(_rgba(), "PNG"),
    "grey alpha png": lambda: _saved(_rgba().convert("LA"), "PNG"),
    "palette png": lambda: _saved(_pil().convert("P"), "PNG"),
    "transparent palette png": lambda: _saved(_pil().convert("P"), "PNG", transparency=3),
    "one bit png": lambda: _saved(_pil().convert("1"), "PNG"),
    "gif": lambda: _saved(_pil().convert("P"), "GIF"),
    "animated gif": lambda: _saved(
        _pil().convert("P"), "GIF", save_all=True, append_images=[_pil().convert("P").rotate(180)]
    ),
    "webp": lambda: _saved(_pil(), "WEBP"),
    "lossless webp": lambda: _saved(_pil(), "WEBP", lossless=True),
    "alpha webp": lambda: _saved(_rgba(), "WEBP", lossless=True, exact=True),
    "animated webp": lambda: _saved(_pil(), "WEBP", save_all=True, append_images=[_pil().rotate(180)], lossless=True),
    "animated png": lambda: _saved(_pil(), "PNG", save_all=True, append_images=[_pil().rotate(180)]),
    "tiff": lambda: _saved(_pil(), "TIFF"),
    "lzw tiff": lambda: _saved(_pil(), "TIFF", compression="tiff_lzw"),
    "alpha tiff": lambda: _saved(_rgba(), "TIFF"),
    "bmp": lambda: _saved(_pil(), "BMP"),
    "palette bmp": lambda: _saved(_pil().convert("P"), "BMP"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_becomes_bgr(kind: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = KINDS[kind]()
    path = folder / "photo"
    path.write_bytes(content)
    image = read_photo(path)
    assert image.shape == (64, 96, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    expected = _on_white(pil.open(io.BytesIO(content)))
    assert np.abs(image.astype(int) - expected).max() <= 2
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_cut_short_is_refused_in_silence(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    content = KINDS[kind]()
    for length in (1, 10, 30, len(content) // 2, len(content) - 4):
        if kind == "animated gif" and length == len(content) - 4:
            continue  # its first picture is whole
        with pytest.raises(MediaError) as caught:
            decode_photo(content[:length], "photo")
        assert str(caught.value).startswith("photo: ")
        assert "\n" not in str(caught.value)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_sixteen_bits_become_eight() -> None:
    grey = (np.arange(64 * 96).reshape(64, 96) * 10).astype(np.uint16)
    colour = np.dstack([grey, grey // 2, grey // 3])
    for picture, shown in ((grey, np.dstack([grey >> 8] * 3)), (colour, colour >> 8)):
        for suffix in (".png", ".tiff"):
            coded = cv2.imencode(suffix, picture)[1].tobytes()
            assert np.array_equal(decode_photo(coded), shown)


def test_floating_point_tiff() -> None:
    ramp = np.linspace(0, 1, 64 * 96, dtype=np.float32).reshape(64, 96)
    ramp[0, 0] = np.nan
    image = decode_photo(cv2.imencode(".tiff", ramp)[1].tobytes())
    assert image.shape == (64, 96, 3)
    assert image[-1, -1].tolist() == [255, 255, 255]
    assert image[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied(orientation: int, kind: str) -> None:
    from PIL import ImageOps

    exif = pil.Exif()
    exif[274] = orientation
    content = _saved(_pil(quarters(96, 64)), kind, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(pil.open(io.BytesIO(content))).convert("RGB"))[:, :, ::-1]
    image = decode_photo(content)
    assert image.shape == expected.shape
    assert corners(image) == corners(expected)
    assert "?" not in corners(image)


def test_damaged_exif_does_not_spoil_a_photo() -> None:
    exif = pil.Exif()
    exif[274] = 6
    content = _saved(_pil(), "JPEG", exif=exif)
    start = content.index(b"Exif\0\0") + 6
    for damage in (b"\0" * 8, b"II*\0\xff\xff\xff\x7f", b"II*\0\x08\0\0\0"):
        broken = content[:start] + damage + content[start + 8 :]
        assert decode_photo(broken).shape == (64, 96, 3)


def test_a_sound_picture_of_an_unusual_kind_is_not_called_damaged_alone() -> None:
    content = _saved(_pil(), "TIFF", compression="lzma")
    with pytest.raises(MediaError, match=r"photo: the TIFF image is .*unusual kind; .*convert it to JPEG"):
        decode_photo(content, "photo")


def test_one_pixel_is_a_photo() -> None:
    for suffix in (".png", ".jpg", ".bmp"):
        image = decode_photo(cv2.imencode(suffix, np.full((1, 1, 3), 200, np.uint8))[1].tobytes())
        assert image.shape == (1, 1, 3)


def _masked_bmp(rows: Any, bits: int, masks: tuple[int, ...], header: int) -> bytes:
    """A BMP with masks (BI_BITFIELDS), its rows from the top; a header of 40 has them behind it, a longer one in it."""
    height, width = rows.shape[:2]
    body = b"".join(row.tobytes() for row in rows)
    head = struct.pack("<IiiHHIIiiII", header, width, -height, 1, bits, 3, len(body), 0, 0, 0, 0)
    head += b"".join(struct.pack("<I", mask) for mask in masks)
    head = head.ljust(header, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(body), 0, 0, 14 + len(head)) + head + body


@pytest.mark.parametrize("header", [40, 56, 108, 124])
def test_a_bmp_of_32_bits_without_transparency_is_not_white(header: int) -> None:
    rows = np.dstack([PICTURE, np.zeros(PICTURE.shape[:2], np.uint8)])
    masks = (0xFF0000, 0xFF00, 0xFF) + (() if header == 40 else (0xFF000000,))
    assert np.array_equal(decode_photo(_masked_bmp(rows, 32, masks, header)), PICTURE)


@pytest.mark.parametrize("header", [40, 52, 56, 108, 124])
def test_a_bmp_of_16_bits_with_any_header(header: int) -> None:
    blue, green, red = (PICTURE[:, :, i].astype(np.uint16) for i in range(3))
    rows = (red >> 3 << 11 | green >> 2 << 5 | blue >> 3).astype("<u2")
    image = decode_photo(_masked_bmp(rows, 16, (0xF800, 0x7E0, 0x1F), header))
    assert np.abs(image.astype(int) - PICTURE).max() <= 8


def _png(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def _jpeg(width: int, height: int) -> bytes:
    content = bytearray(_saved(_pil(), "JPEG"))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def _gif(width: int, height: int) -> bytes:
    content = bytearray(_saved(_pil().convert("P"), "GIF"))
    content[6:10] = struct.pack("<HH", width, height)
    return bytes(content)


def _bmp(width: int, height: int) -> bytes:
    content = bytearray(_saved(_pil(), "BMP"))
    content[18:26] = struct.pack("<ii", width, -height)
    return bytes(content)


def _tiff(width: int, height: int) -> bytes:
    content = bytearray(_saved(_pil(), "TIFF"))
    start = struct.unpack_from("<I", content, 4)[0]
    for entry in range(struct.unpack_from("<H", content, start)[0]):
        place = start + 2 + 12 * entry
        tag = struct.unpack_from("<H", content, place)[0]
        if tag in (256, 257):
            struct.pack_into("<HII", content, place + 2, 4, 1, width if tag == 256 else height)
    return bytes(content)


def _webp(width: int, height: int) -> bytes:
    content = bytearray(_saved(_rgba(), "WEBP", exif=b"Exif\0\0II*\0"))
    assert content[12:16] == b"VP8X"
    content[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(content)


@pytest.mark.parametrize("make", [_png, _jpeg, _gif, _bmp, _tiff, _webp])
@pytest.mark.parametrize("size", [(60_000, 60_000), (20_001, 10), (10, 20_001), (15_000, 15_000)])
def test_a_bomb_is_refused_before_it_is_decoded(
    make: Any, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *args: pytest.fail("it was decoded"))
    with pytest.raises(MediaError, match=f"{size[0]} x {size[1]} pixels; at most"):
        decode_photo(make(*size))


def test_sizes_within_the_limits_reach_the_decoder() -> None:
    for make in (_png, _jpeg, _gif, _bmp, _tiff, _webp):
        header = read_header(make(96, 64))
        assert (header.width, header.height) == (96, 64)


def test_a_gif_whose_picture_is_larger_than_its_screen_does_no_harm() -> None:
    content = bytearray(_saved(_pil().convert("P"), "GIF"))
    place = content.index(b"\x2c\0\0\0\0" + struct.pack("<HH", 96, 64))
    content[place + 5 : place + 9] = struct.pack("<HH", 60_000, 60_000)
    start = time.monotonic()
    try:
        assert decode_photo(bytes(content)).shape == (64, 96, 3)
    except MediaError:
        pass
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"Dear diary", "not an image"),
        (bytes(100), "not an image"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
        (b"\0\0\0\x18ftypmif1" + bytes(40), "HEIC"),
        (b"\0\0\0\x18ftypavif" + bytes(40), "AVIF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "JPEG 2000"),
        (b"II+\0" + bytes(40), "BigTIFF"),
        (b"\0\0\0\x18ftypisom" + bytes(40), "video"),
        (b"\xff\xd8\xff", "damaged"),
    ],
)
def test_what_is_no_photo_is_refused_in_one_line(folder: Path, content: bytes, said: str) -> None:
    path = folder / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(MediaError) as caught:
        read_photo(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_folder_and_pipe_are_refused(folder: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        read_photo(folder / "none.jpg")
    with pytest.raises(MediaError, match="not a regular file"):
        read_photo(folder)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.jpg")
        with pytest.raises(MediaError, match="not a regular file"):  # and does not wait for a writer
            read_photo(folder / "pipe.jpg")


def test_a_corrupt_photo_is_read_or_refused_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(5)
    refused = 0
    for kind, make in KINDS.items():
        content = bytearray(make())
        for _ in range(5):
            place = int(rng.integers(20, len(content) - 8))
            hurt = bytes(content[:place]) + rng.integers(0, 256, 8, np.uint8).tobytes() + bytes(content[place + 8 :])
            try:
                assert decode_photo(hurt, kind).dtype == np.uint8
            except MediaError:
                refused += 1
    assert refused > 20
    assert capfd.readouterr().err == ""


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_any_header_is_read_or_refused(kind: str, draw: st.DataObject) -> None:
    content = bytearray(KINDS[kind]()[:400])
    for _ in range(draw.draw(st.integers(0, 6))):
        content[draw.draw(st.integers(8, len(content) - 1))] = draw.draw(st.integers(0, 255))
    try:
        header = read_header(bytes(content))
    except HeaderError:
        return
    assert header.width >= 0
    assert header.height >= 0
    assert 1 <= header.orientation <= 8


@given(st.binary(max_size=64), st.sampled_from([b"", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"GIF89a"]))
def test_any_bytes_are_a_photo_or_refused(content: bytes, start: bytes) -> None:
    with pytest.raises(MediaError):
        decode_photo(start + content)


def test_suffixes_are_lower_case_and_apart() -> None:
    assert not IMAGE_SUFFIXES & VIDEO_SUFFIXES
    assert all(s == s.lower() and s.startswith(".") for s in IMAGE_SUFFIXES | VIDEO_SUFFIXES)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG", ".png"])
def test_a_photo_is_written_and_read_back(folder: Path, suffix: str) -> None:
    path = folder / f"ñ 山{suffix}"
    write_photo(path, PICTURE)
    assert np.abs(read_photo(path).astype(int) - PICTURE).mean() < 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(folder) == [path.name]
    assert read_header(path.read_bytes()).kind == ("PNG" if suffix == ".png" else "JPEG")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_the_profile_of_colours_goes_along(kind: str, suffix: str, folder: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (folder / "in").write_bytes(_saved(_pil(), kind, icc_profile=profile))
    assert profile_of(folder / "in") == profile
    write_photo(folder / f"out{suffix}", read_photo(folder / "in"), profile=profile)
    assert pil.open(folder / f"out{suffix}").info["icc_profile"] == profile
    write_photo(folder / f"plain{suffix}", read_photo(folder / "in"))
    assert np.array_equal(read_photo(folder / f"out{suffix}"), read_photo(folder / f"plain{suffix}"))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_profile_that_cannot_be_written_costs_no_picture(
    suffix: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    damaged = (bytes(16) + b"RGB " + bytes(16) + b"acsp").ljust(100_000, b"p")  # two segments of a JPEG
    (folder / "in").write_bytes(_saved(_pil(), "JPEG", icc_profile=damaged))
    assert profile_of(folder / "in") == damaged
    write_photo(folder / f"out{suffix}", read_photo(folder / "in"), profile=damaged)
    assert read_photo(folder / f"out{suffix}").shape == (64, 96, 3)
    assert capfd.readouterr().err == ""


def test_a_profile_of_other_colours_or_without_end_is_none(folder: Path) -> None:
    inks = (bytes(16) + b"CMYK" + bytes(16) + b"acsp").ljust(1000, b"p")
    bomb = (bytes(16) + b"RGB " + bytes(16) + b"acsp").ljust(5 << 20, b"p")
    for content in (
        _saved(_pil().convert("CMYK"), "JPEG", icc_profile=inks),
        _saved(_pil(), "PNG", icc_profile=bomb),
        _saved(_pil(), "PNG"),
    ):
        (folder / "in").write_bytes(content)
        assert profile_of(folder / "in") == b""
        assert read_photo(folder / "in").shape == (64, 96, 3)


def test_a_photo_is_not_overwritten_unasked(folder: Path) -> None:
    path = folder / "photo.png"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        write_photo(path, PICTURE)
    assert path.read_bytes() == b"precious"
    write_photo(path, PICTURE, overwrite=True)
    assert np.array_equal(read_photo(path), PICTURE)


def test_a_photo_of_another_suffix_is_refused(folder: Path) -> None:
    with pytest.raises(OutputError, match=r"\.jpg or \.png"):
        write_photo(folder / "photo.gif", PICTURE)


@pytest.mark.data
def test_the_real_photos(data: Path) -> None:
    for path in sorted((data / "clip" / "people").glob("*/*")):
        image = read_photo(path)
        reference = cv2.imread(str(path), cv2.IMREAD_COLOR)
        assert reference is not None
        assert np.abs(image.astype(int) - reference).max() <= 1
