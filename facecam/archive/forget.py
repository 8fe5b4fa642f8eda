"""Takes a person out of an archive index: the templates and pictures of every track that carries their name.

In two steps, so that a relabelling between them sees what changes and writes the outputs anew: `clear` first, `scrub`
last. Both may be done twice; what a kill left is erased when the index is next opened.
"""

from __future__ import annotations

from pathlib import Path

from facecam.archive.crops import drop_crops
from facecam.archive.index import ArchiveIndex
from facecam.archive.outputs import CROPS
from facecam.archive.sheets import merged
from facecam.evidence import Likeness
from facecam.people.database import Erased


def clear(index: ArchiveIndex, name: str, space: str, likeness: Likeness) -> tuple[int, list[str]]:
    """Delete what the index holds of the tracks that carry ``name``: vectors, landmarks, pictures; and their crops.

    Where they were, and that it was a face, stays.

    Args:
        space, likeness: of the embedder in use.

    Returns:
        how many tracks it was; files that show the person and were analysed by another model, so that their tracks
        cannot be told apart: label them again.
    """
    count, others = 0, []
    for entry in index.entries():
        seen = index.answers(entry.id)
        mine = {track for track, one in seen.items() if name in (one.result.match.name, one.given)}
        if mine and entry.space != space:
            others.append(entry.source)
        elif mine:
            ids = merged(list(index.pieces(entry.id, data=False)), likeness).ids
            index.clear_parts(
                entry.id, [(n, local) for n, own in enumerate(ids) for local, track in own.items() if track in mine]
            )
            count += len(mine)
            if CROPS in entry.outputs.get("write", ()):
                drop_crops(Path(entry.outputs["folder"]), entry.item.stem, mine)
    return count, others


def scrub(index: ArchiveIndex, name: str) -> Erased:
    """Delete the name wherever it still stands, and let nothing deleted stay in the files (`Database.erase`)."""
    index.drop_name(name)
    for entry in index.entries():
        outputs, only = entry.outputs, entry.info.get("only")
        if "files" in outputs:  # crops stand in folders of people's names
            there = [k for k, path in enumerate(outputs["files"]) if Path(path).exists()]
            kept = {key: [outputs[key][k] for k in there] for key in ("files", "shown")}
            index.set_state(entry.id, entry.state, outputs=outputs | kept, problem=entry.problem)
        if only is not None and name in only:
            index.note_info(entry.id, entry.info | {"only": [other for other in only if other != name]})
    return index.erase()
