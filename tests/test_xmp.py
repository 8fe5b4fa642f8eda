"""XMP sidecars: parsed as XML, regions where the faces are in every orientation, other programs' files safe."""

from __future__ import annotations

import os
import stat
import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecam.archive.presence import Appearance
from facecam.archive.xmp import area, renew_sidecar, sidecar, sidecar_path, write_sidecar
from facecam.errors import MediaError, OutputError
from facecam.video.headers import Header
from facecam.video.photos import read_photo

NS = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "ext": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "area": "http://ns.adobe.com/xmp/sType/Area#",
    "dim": "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
}
NASTY = '<script>alert(1)</script> "O\'Hara" & Zoë שלום'


def face(name: str | None = "Ada", box: tuple[float, float, float, float] = (10, 20, 30, 40), n: int = 1) -> Appearance:
    return Appearance(n, name, None, box=box)


def parsed(text: str) -> tuple[list[str], list[str], list[tuple[str | None, tuple[float, ...]]], tuple[str, str]]:
    """subjects, people, (name, area) of each region, dimensions."""
    root = ElementTree.fromstring(text)
    subjects = [e.text or "" for e in root.findall(".//dc:subject/rdf:Bag/rdf:li", NS)]
    people = [e.text or "" for e in root.findall(".//ext:PersonInImage/rdf:Bag/rdf:li", NS)]
    regions = []
    for entry in root.findall(".//rs:RegionList/rdf:Bag/rdf:li/rdf:Description", NS):
        assert entry.get(f"{{{NS['rs']}}}Type") == "Face"
        where = entry.find("rs:Area", NS)
        assert where is not None and where.get(f"{{{NS['area']}}}unit") == "normalized"
        values = tuple(float(where.get(f"{{{NS['area']}}}{k}", "nan")) for k in "xywh")
        regions.append((entry.get(f"{{{NS['rs']}}}Name"), values))
    size = root.find(".//rs:AppliedToDimensions", NS)
    assert size is not None and size.get(f"{{{NS['dim']}}}unit") == "pixel"
    return subjects, people, regions, (size.get(f"{{{NS['dim']}}}w", ""), size.get(f"{{{NS['dim']}}}h", ""))


def test_names_and_regions_are_read_back() -> None:
    text = sidecar(Header("JPEG", 200, 100), [face(None, (150, 50, 20, 20)), face(NASTY, n=2), face(NASTY, n=3)])
    subjects, people, regions, size = parsed(text)
    assert subjects == people == [NASTY]
    assert [name for name, _ in regions] == [NASTY, NASTY, None], "no reader may shift the names"
    assert regions[0][1] == pytest.approx((25 / 200, 40 / 100, 30 / 200, 40 / 100))
    assert size == ("200", "100")


@given(st.text(max_size=60))
def test_any_name_gives_xml(name: str) -> None:
    parsed(sidecar(Header("JPEG", 200, 100), [face(name)]))


def oriented_jpeg(path: Path, image: np.ndarray, orientation: int) -> Path:
    """The picture as a JPEG whose EXIF says how it is to be turned."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    data = cv2.imencode(".jpg", image)[1].tobytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:])
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_region_is_where_the_face_is_stored(tmp_path: Path, orientation: int) -> None:
    """A white patch is found in the upright picture; the region must name the patch of the stored one."""
    stored = np.zeros((96, 160, 3), np.uint8)
    stored[16:48, 96:112] = 255
    photo = oriented_jpeg(tmp_path / "photo.jpg", stored, orientation)
    upright = read_photo(photo)
    assert upright.shape[:2] == ((160, 96) if orientation >= 5 else (96, 160))
    ys, xs = np.nonzero(upright[:, :, 0] > 127)
    box = (float(xs.min()), float(ys.min()), float(np.ptp(xs) + 1), float(np.ptp(ys) + 1))
    path = write_sidecar(photo, [face("Ada", box)])
    assert path == tmp_path / "photo.jpg.xmp"
    _, _, regions, size = parsed(path.read_text(encoding="utf-8"))
    assert size == ("160", "96")
    assert regions[0][1] == pytest.approx((104 / 160, 32 / 96, 16 / 160, 32 / 96), abs=0.013)


def test_a_turned_tiff_counts_as_stored(tmp_path: Path) -> None:
    stored = np.zeros((96, 160, 3), np.uint8)
    stored[16:48, 96:112] = 255
    tags = [
        (256, 160),
        (257, 96),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 0),
        (274, 6),
        (277, 1),
        (278, 96),
        (279, 160 * 96),
    ]
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0\0\0\0"
    photo = tmp_path / "photo.tif"
    photo.write_bytes(head + stored[:, :, 0].tobytes())
    upright = read_photo(photo)
    assert upright.shape[:2] == (160, 96), "OpenCV turned it"
    ys, xs = np.nonzero(upright[:, :, 0] > 127)
    box = (float(xs.min()), float(ys.min()), float(np.ptp(xs) + 1), float(np.ptp(ys) + 1))
    path = write_sidecar(photo, [face("Ada", box)])
    assert path is not None
    _, _, regions, _ = parsed(path.read_text(encoding="utf-8"))
    assert regions[0][1] == pytest.approx((104 / 160, 32 / 96, 16 / 160, 32 / 96), abs=0.013)


def test_a_box_over_the_edge_is_cut() -> None:
    assert area(Header("JPEG", 100, 100), (-10, 90, 20, 30)) == pytest.approx((0.05, 0.95, 0.1, 0.1))


def test_a_sidecar_of_another_program_is_kept(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    cv2.imwrite(str(photo), np.zeros((100, 100, 3), np.uint8))
    other = sidecar_path(photo)
    other.write_text('<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 6.0"/>')
    before = other.read_bytes()
    with pytest.raises(OutputError, match="does not merge"):
        write_sidecar(photo, [face()])
    assert other.read_bytes() == before
    assert write_sidecar(photo, []) is None and other.read_bytes() == before
    assert write_sidecar(photo, [face()], overwrite=True) == other
    assert stat.S_IMODE(other.stat().st_mode) == 0o600
    write_sidecar(photo, [face("Grace")])  # now it is ours
    assert parsed(other.read_text(encoding="utf-8"))[0] == ["Grace"]
    assert write_sidecar(photo, []) is None and not other.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes")
def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    cv2.imwrite(str(photo), np.zeros((100, 100, 3), np.uint8))
    os.mkfifo(sidecar_path(photo))
    with pytest.raises(OutputError, match="move it away"):
        write_sidecar(photo, [face()])
    assert write_sidecar(photo, []) is None and renew_sidecar(photo, [face()]) is None


def test_a_relabelling_renews_only_what_is_ours(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    cv2.imwrite(str(photo), np.zeros((100, 100, 3), np.uint8))
    assert renew_sidecar(photo, [face()]) is None, "there was none"
    write_sidecar(photo, [face()])
    path = renew_sidecar(photo, [face("Grace")])
    assert path is not None and parsed(path.read_text(encoding="utf-8"))[0] == ["Grace"]
    photo.rename(tmp_path / "moved.jpg")
    assert renew_sidecar(photo, [face("Ada")]) is None and path.exists()
    path.write_text(path.read_text(encoding="utf-8").replace('x:xmptk="facecam"', 'x:xmptk="XMP Core"'), "utf-8")
    before = path.read_bytes()
    assert renew_sidecar(tmp_path / "photo.jpg", [face("Ada")]) is None and path.read_bytes() == before


def test_what_is_no_photo_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_bytes(b"nothing")
    for name in ("no.jpg", "missing.jpg"):
        with pytest.raises(MediaError):
            write_sidecar(tmp_path / name, [face()])
    assert not list(tmp_path.glob("*.xmp"))
