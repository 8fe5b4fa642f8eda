"""XMP sidecars: names and face regions beside a photo, as photo managers read them (MWG regions).

Metadata Working Group, Guidelines for Handling Image Metadata 2.0, section 5.9: an area is given by its centre
and size, as shares of the picture *as stored*, before its EXIF orientation is applied.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from facecam.archive.presence import Appearance
from facecam.errors import MediaError, OutputError
from facecam.people.names import escaped
from facecam.values import Box
from facecam.video.atomic import atomic_bytes, output_error
from facecam.video.headers import Header, HeaderError, read_header, tiff_orientation

#: Who wrote the sidecar; an editor that changes it puts its own name there, and then it is not ours any more.
_TOOLKIT: Final = "facecam"
_MARK: Final = f'x:xmptk="{_TOOLKIT}"'.encode()
_NAMESPACES: Final = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "stArea": "http://ns.adobe.com/xmp/sType/Area#",
    "stDim": "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
}


def sidecar_path(photo: Path) -> Path:
    """``photo.jpg.xmp`` beside the photo: where digiKam, darktable, Immich and others look."""
    return photo.with_name(photo.name + ".xmp")


def write_sidecar(photo: Path, faces: Sequence[Appearance], *, overwrite: bool = False) -> Path | None:
    """Write the sidecar of a photo, mode 0600; a photo without faces gets none.

    Args:
        faces: of the photo, with boxes in pixels of the upright picture. Who has no name gets a region without one.
        overwrite: replace a sidecar that another program wrote; facecam's own is always replaced, or removed when
            there is no face any more.

    Returns:
        its path, None where none was written.

    Raises:
        MediaError: the photo cannot be read. OutputError: another program's sidecar is there, or it
            cannot be written.
    """
    path = sidecar_path(photo)
    own = _is_own(path)
    if not faces:
        if own:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        return None
    if not own and not overwrite and path.exists():
        raise OutputError(
            f"{path}: another program wrote this sidecar; facecam does not merge the two: move it away, or replace it "
            "with --overwrite"
        )
    atomic_bytes(path, sidecar(_stored(photo), faces).encode(), overwrite=True)
    return path


def renew_sidecar(photo: Path, faces: Sequence[Appearance]) -> Path | None:
    """After a relabelling: write facecam's own sidecar anew; leave another program's, or one of a photo that is gone.

    Returns:
        its path, None where nothing was written.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        return write_sidecar(photo, faces) if _is_own(sidecar_path(photo)) else None
    except MediaError:
        return None


def sidecar(stored: Header, faces: Sequence[Appearance]) -> str:
    """The text of a sidecar.

    Args:
        stored: size of the picture as stored and its EXIF orientation.
        faces: with boxes in pixels of the upright picture.
    """
    names = list(dict.fromkeys(escaped(face.name) for face in faces if face.name is not None))
    spaces = "".join(f'\n    xmlns:{prefix}="{address}"' for prefix, address in _NAMESPACES.items() if prefix != "rdf")
    # Who has no name comes last: readers that take names and areas as two lists must not shift the names.
    ordered = sorted(faces, key=lambda face: face.name is None)
    regions = "".join(_region(stored, face) for face in ordered if face.box is not None)
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/" {_MARK.decode()}>\n'
        f' <rdf:RDF xmlns:rdf="{_NAMESPACES["rdf"]}">\n'
        f'  <rdf:Description rdf:about=""{spaces}\n    xmp:CreatorTool="facecam">\n'
        f"{_bag('dc:subject', names)}{_bag('Iptc4xmpExt:PersonInImage', names)}"
        '   <mwg-rs:Regions rdf:parseType="Resource">\n'
        f'    <mwg-rs:AppliedToDimensions stDim:w="{stored.width}" stDim:h="{stored.height}" stDim:unit="pixel"/>\n'
        f"    <mwg-rs:RegionList>\n     <rdf:Bag>\n{regions}     </rdf:Bag>\n    </mwg-rs:RegionList>\n"
        "   </mwg-rs:Regions>\n  </rdf:Description>\n </rdf:RDF>\n</x:xmpmeta>\n"
        '<?xpacket end="w"?>\n'
    )


def _bag(name: str, values: Sequence[str]) -> str:
    items = "".join(f"     <rdf:li>{escape(value)}</rdf:li>\n" for value in values)
    return f"   <{name}>\n    <rdf:Bag>\n{items}    </rdf:Bag>\n   </{name}>\n" if items else ""


def _region(stored: Header, face: Appearance) -> str:
    assert face.box is not None
    x, y, w, h = area(stored, face.box)
    name = "" if face.name is None else f" mwg-rs:Name={quoteattr(escaped(face.name))}"
    return (
        f'      <rdf:li>\n       <rdf:Description{name} mwg-rs:Type="Face">\n'
        f'        <mwg-rs:Area stArea:x="{x:.6f}" stArea:y="{y:.6f}" stArea:w="{w:.6f}" stArea:h="{h:.6f}" '
        'stArea:unit="normalized"/>\n       </rdf:Description>\n      </rdf:li>\n'
    )


def area(stored: Header, box: Box) -> tuple[float, float, float, float]:
    """Centre and size of a box of the upright picture as shares of the stored one, each 0 to 1."""
    turned = stored.orientation in (5, 6, 7, 8)
    width, height = (stored.height, stored.width) if turned else (stored.width, stored.height)
    left, top = max(0.0, box[0]) / width, max(0.0, box[1]) / height
    right, bottom = min(float(width), box[0] + box[2]) / width, min(float(height), box[1] + box[3]) / height
    w, h = max(0.0, right - left), max(0.0, bottom - top)
    x, y = left + w / 2, top + h / 2
    # Back through what turns a stored picture upright (`video.photos`), last step first.
    if stored.orientation in (3, 4, 7, 8):
        y = 1 - y
    if stored.orientation in (2, 3, 6, 7):
        x = 1 - x
    return (y, x, h, w) if turned else (x, y, w, h)


def _is_own(path: Path) -> bool:
    try:
        if path.is_fifo():  # it would wait for a writer
            return False
        with path.open("rb") as file:
            return _MARK in file.read(1000)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise output_error(path, error) from error


def _stored(photo: Path) -> Header:
    try:
        data = photo.read_bytes()
        header = read_header(data)
    except OSError as error:
        raise MediaError(f"{photo}: cannot be read ({error.strerror or error})") from error
    except HeaderError as error:
        raise MediaError(f"{photo}: {error}") from error
    return replace(header, orientation=tiff_orientation(data)) if header.kind == "TIFF" else header
