"""Who does the tasks of a run: this process, or several (spawned, each with models of its own)."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import pickle
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from typing import Any, Final, Protocol

from facecam.archive.inputs import PHOTO, Item
from facecam.archive.process import SoFar, no_interrupt, serve
from facecam.archive.study import DIVIDED
from facecam.archive.tools import Tools
from facecam.archive.worker import Task, Worker, again
from facecam.engine import Engine, open_engine
from facecam.errors import FacecamError, UsageFault
from facecam.evidence import Matches
from facecam.settings import Settings
from facecam.video.sources import FileSource
from facecam.zoo.session import cores

#: A task is given to another process this many times after its process died over it.
RETRIES: Final = 1
#: Seconds that a process has to end by itself.
_GRACE: Final = 5.0
#: Bytes of files, and files, from which on it pays to start processes of their own: about ten seconds of work each, of
#: which starting takes one. Measured on two cores with a talk of 640 x 360, whose 26 copies have as many bytes, and
#: with photos of 250 x 250.
_MANY_BYTES: Final = 16 << 20
_MANY_FILES: Final = 200
#: Bytes of memory that the machine should have for each: more than twice what one takes of 4K.
_ROOM: Final = 2 << 30
#: A gallery of more people is not given to several processes, which would hold it each.
_MOST_PEOPLE: Final = 50_000

#: A task's key, and what it gave or why it failed.
Answer = tuple[Hashable, Any]


def processes_for(items: Sequence[Item], tools: Tools) -> int:
    """How many processes should label these files; 0: this one, by itself.

    A process keeps one core and a half busy: one for each two cores, and two of two, but none that finds nothing to do.
    Of one GPU they gain nothing.
    """
    here = cores()
    if tools.engine.device.name != "cpu" or here < 2 or len(tools.matcher) > _MOST_PEOPLE:
        return 0
    size = 0
    for item in items:
        with contextlib.suppress(OSError):  # told when its turn comes
            size += item.path.stat().st_size
    if size < _MANY_BYTES and len(items) < _MANY_FILES:
        return 0
    count = min(max(2, here // 2), _memory() // _ROOM)
    if len(items) < count:
        count = min(count, sum(_pieces(item, tools.study.segment) for item in items))
    return count if count > 1 else 0


def _pieces(item: Item, segment: float) -> int:
    """About how many can look at a file at the same time."""
    if item.kind == PHOTO:
        return 1
    try:
        with FileSource(item.path) as source:
            length = source.info.duration or 0.0
    except FacecamError:  # told when its turn comes
        return 1
    return 1 if length <= DIVIDED * segment else math.floor(length / segment)


def _memory() -> int:
    """Bytes of memory that this machine has; where it does not say (Windows), as many as four processes should find."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 4 * _ROOM


class WorkerLost(FacecamError):
    """The processes that had a task died over it."""


class Crew(Protocol):
    """Does tasks, some at a time, in any order.

    `submit` may be called `idle` times, then `wait` gives an answer: a value, or a FacecamError.
    """

    @property
    def idle(self) -> int: ...

    @property
    def busy(self) -> int: ...

    def submit(self, key: Hashable, task: Task) -> None: ...

    def wait(self) -> Answer: ...

    def close(self) -> None: ...


class Alone:
    """This process: one task at a time, done when its answer is asked for."""

    def __init__(self, engine: Engine, matcher: Matches, tick: Callable[[Hashable, int], None]) -> None:
        """``tick`` is told (key, frames done)."""
        self._worker = Worker(engine, matcher)
        self._tick = tick
        self._task: tuple[Hashable, Task] | None = None

    @property
    def idle(self) -> int:
        return int(self._task is None)

    @property
    def busy(self) -> int:
        return 1 - self.idle

    def submit(self, key: Hashable, task: Task) -> None:
        self._task = key, task

    def wait(self) -> Answer:
        assert self._task is not None
        (key, task), self._task = self._task, None
        try:
            return key, self._worker.do(task, lambda frames: self._tick(key, frames))
        except FacecamError as error:
            return key, error

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class Outfit:
    """What a worker elsewhere needs, as plain values. matcher: pickled."""

    settings: Settings
    matcher: bytes

    @classmethod
    def of(cls, engine: Engine, matcher: Matches, threads: int) -> Outfit:
        """Args: threads: of each worker's models on the CPU."""
        # What this process found is asked for by name: another device or precision would give other figures.
        precise = "int8" if any(m.get("precision") == "int8" for m in engine.models.values()) else "fp32"
        settings = replace(
            engine.settings, threads=threads, pack=engine.pack, device=engine.device.name, precision=precise
        )
        return cls(settings, pickle.dumps(matcher))

    def worker(self) -> Worker:
        """Load the models."""
        return Worker(open_engine(self.settings), pickle.loads(self.matcher))


@dataclass(slots=True)
class _Hand:
    """A process, the end of the pipe to it, and what it has to do. tries: how often that was given out."""

    process: Any = None
    pipe: Any = None
    key: Hashable = None
    task: Task | None = None
    tries: int = 0


class Processes:
    """Several processes of this machine."""

    def __init__(
        self, outfit: Outfit, count: int, tick: Callable[[Hashable, int], None] = lambda key, frames: None
    ) -> None:
        """``tick`` is told (key, frames done), by the thread that waits.

        A process starts when there is something for it to do: where none can be started, `submit` raises FacecamError,
        and `wait` where one died.
        """
        if count < 1:
            raise UsageFault(f"--workers is at least 1, not {count}")
        self._outfit = outfit
        self._tick = tick
        self._context = multiprocessing.get_context("spawn")
        self._hands = [_Hand() for _ in range(count)]

    def _start(self, hand: _Hand) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=serve, args=(theirs, self._outfit), daemon=True)
        try:
            with no_interrupt():
                process.start()
        except OSError as error:  # no process more is allowed, or it was killed before it had read its outfit
            ours.close()
            reason = error.strerror or error
            raise FacecamError(
                f"a worker process cannot be started ({reason}); free some memory, or ask for fewer by --workers"
            ) from error
        finally:
            theirs.close()
        hand.process, hand.pipe = process, ours

    @property
    def idle(self) -> int:
        return sum(hand.task is None for hand in self._hands)

    @property
    def busy(self) -> int:
        return len(self._hands) - self.idle

    def submit(self, key: Hashable, task: Task) -> None:
        hand = next(hand for hand in self._hands if hand.task is None)
        hand.key, hand.task, hand.tries = key, task, 0
        self._send(hand)

    def _send(self, hand: _Hand) -> None:
        if hand.process is None:  # not before there is something to do
            self._start(hand)
        with contextlib.suppress(OSError):  # it has died: `wait` meets that
            hand.pipe.send(hand.task)

    def wait(self) -> Answer:
        while True:
            busy = {hand.pipe: hand for hand in self._hands if hand.task is not None}
            for pipe in wait(list(busy)):
                hand = busy[pipe]
                try:
                    answer = hand.pipe.recv()
                except (EOFError, OSError, pickle.UnpicklingError):
                    lost = self._replace(hand)
                    if lost is not None:
                        return lost
                    continue
                if isinstance(answer, SoFar):
                    self._tick(hand.key, answer.frames)
                    continue
                key, hand.task = hand.key, None
                return key, answer

    def _replace(self, hand: _Hand) -> Answer | None:
        """A process died: another one takes its place and, once, its task."""
        hand.process.join(_GRACE)
        code = hand.process.exitcode
        hand.pipe.close()
        self._start(hand)
        hand.tries += 1
        if hand.tries <= RETRIES and hand.task is not None:
            hand.task = again(hand.task)
            self._send(hand)
            return None
        key, hand.task = hand.key, None
        return key, WorkerLost(f"a worker process died over it {hand.tries} times (exit code {code})")

    def close(self) -> None:
        """End the processes, whatever they are doing; they take away what they have begun to write."""
        self._hands = [hand for hand in self._hands if hand.process is not None]
        for hand in self._hands:
            if hand.task is None:
                with contextlib.suppress(OSError):
                    hand.pipe.send(None)
            else:
                hand.process.terminate()
        for hand in self._hands:
            hand.process.join(_GRACE)
            if hand.process.is_alive():
                hand.process.kill()
                hand.process.join()
            hand.pipe.close()
        self._hands = []
