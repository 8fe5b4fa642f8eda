"""Kills a process that changes a gallery, again and again, and looks at what is left.

    python -m tests.kill_gallery --rounds 300

After each kill: everything that was acknowledged is there, the change under way is there wholly or not at all, the
database is whole, the backup is one that was whole at some moment, and nobody who was removed is found in any byte.
POSIX only: the processes are forked.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from facecam.errors import PersonNotFound, UsageFault
from facecam.people import backup, carry, encryption, seal
from facecam.people.gallery import Gallery
from tests.people_fakes import SPACE, digest, sample, traces, vector

OTHER = "space-two"
PASSPHRASE = "correct horse battery"
KINDS = ("add", "add", "add", "add", "rename", "merge", "remove", "migrate", "backup", "reseal")
#: Person -> digest -> spaces.
State = dict[str, dict[str, frozenset[str]]]


def steps(seed: int, count: int = 150) -> list[tuple[str, tuple]]:
    """Random operations on six names; every sample is new, so that what was removed can be searched for."""
    chance = random.Random(seed)
    names = [f"Person number {i}" for i in range(6)]
    made = []
    for i in range(count):
        kind = chance.choice(KINDS)
        one, two = chance.sample(names, 2)
        what: tuple = {
            "add": (one, tuple(seed * 10_000 + i * 10 + k for k in range(3))),
            "remove": (one,),
            "rename": (one, two),
            "merge": (one, two),
        }.get(kind, ())
        made.append((kind, what))
    return made


def act(gallery: Gallery, copy: Path, step: tuple[str, tuple]) -> None:
    """Do one step; what cannot be done (nobody of that name) is nothing, as in `expect`."""
    kind, what = step
    with contextlib.suppress(PersonNotFound, UsageFault):
        if kind == "add":
            gallery.add(what[0], [sample(seed) for seed in what[1]])
        elif kind == "rename":
            gallery.rename(*what)
        elif kind == "merge":
            gallery.merge(*what)
        elif kind == "remove":
            removed = gallery.remove(what[0])
            assert removed.problem is None and not removed.stale, removed
        elif kind == "migrate":
            todo = carry.lacking(gallery, OTHER).samples
            for start in range(0, len(todo), 4):
                batch = todo[start : start + 4]
                carry.add_vectors(gallery, OTHER, [(s, vector(s, OTHER)) for s in batch])
        elif kind == "backup":
            backup.back_up(gallery, copy, replace=True)
            backup.keep_last_good(gallery)
        else:
            done = encryption.reseal(gallery, None if encryption.encrypted(gallery) else PASSPHRASE)
            assert done.erased.problem is None, done


def expect(state: State, step: tuple[str, tuple]) -> bool:
    """What `act` should have done; whether a backup was made (a removal makes those that there are anew)."""
    kind, what = step
    if kind == "add":
        state.setdefault(what[0], {}).update({digest(n): frozenset({SPACE}) for n in what[1]})
    elif kind == "rename" and what[0] in state and what[1] not in state:
        state[what[1]] = state.pop(what[0])
    elif kind == "merge" and what[0] in state and what[1] in state:
        state[what[1]].update(state.pop(what[0]))
    elif kind == "remove":
        return state.pop(what[0], None) is not None
    elif kind == "migrate":
        for samples in state.values():
            samples.update({d: frozenset({SPACE, OTHER}) for d in samples})
    return kind in ("backup", "reseal")


def seen(path: Path) -> State:
    """What the gallery holds; every sample must be whole, the file sound."""
    found: State = {}
    with Gallery.open(path) as gallery:
        for person in gallery.people():
            records = gallery.samples(person.name, crops=True)
            assert len(records) == person.samples == person.crops > 0, person
            for record in records:
                assert record.crop is not None and record.landmarks is not None, record
            found[person.name] = {record.digest: frozenset(record.vectors) for record in records}
        with gallery.store.read() as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    return found


def fits(got: State, certain: State, possible: State, step: tuple[str, tuple] | None) -> bool:
    """Whether the gallery is as it was before the step under way, or as after; migrating goes sample by sample."""
    if got in (certain, possible):
        return True
    if step is None or step[0] != "migrate" or got.keys() != certain.keys():
        return False
    return all(
        got[name].keys() == certain[name].keys()
        and all(got[name][d] in (certain[name][d], possible[name][d]) for d in got[name])
        for name in got
    )


def copied(state: State) -> State:
    return {name: dict(samples) for name, samples in state.items()}


def round_of(folder: Path, seed: int, chance: random.Random) -> str:
    """Fork, kill, look. Returns the kind of step that was under way, "none" if the process was done."""
    path, copy = folder / "home" / "gallery.db", folder / "copy.db"
    todo = steps(seed)
    acknowledged = child_of(path, copy, todo, chance)
    certain: State = {}
    backups: list[State] = []
    for step in todo[:acknowledged]:
        if expect(certain, step) and (backups or step[0] == "backup"):
            backups.append(copied(certain))
    under_way = todo[acknowledged] if acknowledged < len(todo) else None
    possible = copied(certain)
    if under_way is not None and expect(possible, under_way):
        backups.append(copied(possible))
    got = seen(path)
    assert fits(got, certain, possible, under_way), (seed, acknowledged, under_way, got, certain)
    if copy.exists():
        assert seen(copy) in backups, (seed, acknowledged, under_way)
    living = {d for samples in (*got.values(), *(possible if backups else certain).values()) for d in samples}
    gone = [digest(n) for kind, what in todo[:acknowledged] if kind == "add" for n in what[1]]
    secrets = [d.encode() for d in gone if d not in living]
    assert traces(folder, secrets, 64) == [], (seed, acknowledged, under_way)
    return "none" if under_way is None else under_way[0]


def child_of(path: Path, copy: Path, todo: list[tuple[str, tuple]], chance: random.Random) -> int:
    """Let a process do the steps and kill it somewhere; how many it acknowledged."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            with Gallery.open(path) as gallery:
                for step in todo:
                    act(gallery, copy, step)
                    os.write(writer, b".")
            os._exit(0)
        except BaseException as error:
            os.write(2, f"worker: {type(error).__name__}: {error}\n".encode())
        os._exit(1)
    os.close(writer)
    wanted, acknowledged = chance.randrange(1, 120), 0
    while acknowledged < wanted and (got := os.read(reader, 1)):
        acknowledged += len(got)
    time.sleep(chance.random() * 0.015)  # not always right after an acknowledgement
    os.kill(child, signal.SIGKILL)
    while got := os.read(reader, 4096):
        acknowledged += len(got)
    os.close(reader)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"the worker failed: {status}"
    return acknowledged


@contextlib.contextmanager
def cheap_passphrase() -> Iterator[None]:
    """A cost of scrypt that hundreds of rounds can pay."""
    cost, before = seal.COST, os.environ.get(seal.VARIABLE)
    seal.COST = 16  # type: ignore[misc]
    os.environ[seal.VARIABLE] = PASSPHRASE
    try:
        yield
    finally:
        seal.COST = cost  # type: ignore[misc]
        os.environ.pop(seal.VARIABLE)
        if before is not None:
            os.environ[seal.VARIABLE] = before


def run(rounds: int, seed: int, folder: Path) -> Counter[str]:
    """That many kills; what was under way at each."""
    chance, hit = random.Random(seed), Counter[str]()
    with cheap_passphrase():
        for number in range(rounds):
            place = folder / str(number)
            hit[round_of(place, seed + number, chance)] += 1
            shutil.rmtree(place)
    return hit


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=300)
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    began = time.monotonic()
    # In memory where there is such a file system: a kill, unlike a power cut, loses nothing that was written.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        hit = run(given.rounds, given.seed, Path(folder))
    what = ", ".join(f"{kind} {count}" for kind, count in hit.most_common())
    print(f"{given.rounds} kills in {time.monotonic() - began:.0f} s, each survived; under way at the kill: {what}")


if __name__ == "__main__":
    sys.exit(main())
