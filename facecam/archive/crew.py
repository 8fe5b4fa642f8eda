"""Who does the tasks of a run: this process, or several (spawned, each with models of its own)."""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any, Final, Protocol

from facecam.archive.worker import Task, Worker
from facecam.engine import Engine, open_engine
from facecam.errors import FacecamError, UsageFault
from facecam.evidence import Matches
from facecam.settings import Settings

#: A task is given to another process this many times after its process died over it.
RETRIES: Final = 1
#: Seconds that an idle process has to end by itself.
_GRACE: Final = 5.0

#: A task's key, and what it gave or why it failed.
Answer = tuple[Hashable, Any]


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

    process: Any
    pipe: Connection
    key: Hashable = None
    task: Task | None = None
    tries: int = 0


class Processes:
    """Several processes of this machine."""

    def __init__(self, outfit: Outfit, count: int) -> None:
        if count < 1:
            raise UsageFault(f"--workers is at least 1, not {count}")
        self._outfit = outfit
        self._context = multiprocessing.get_context("spawn")
        self._hands: list[_Hand] = []
        try:
            for _ in range(count):
                self._hands.append(self._start())
        except BaseException:
            self.close()
            raise

    def _start(self) -> _Hand:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._outfit), daemon=True)
        process.start()
        theirs.close()
        return _Hand(process, ours)

    @property
    def pids(self) -> list[int]:
        """Of the processes."""
        return [hand.process.pid for hand in self._hands]

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
        with contextlib.suppress(OSError):  # it has died: `wait` meets that
            hand.pipe.send(hand.task)

    def wait(self) -> Answer:
        while True:
            busy = {hand.pipe: hand for hand in self._hands if hand.task is not None}
            for pipe in wait(list(busy)):
                hand = busy[pipe]  # type: ignore[index]
                try:
                    answer = hand.pipe.recv()
                except (EOFError, OSError, pickle.UnpicklingError):
                    lost = self._replace(hand)
                    if lost is not None:
                        return lost
                    continue
                key, hand.task = hand.key, None
                return key, answer

    def _replace(self, hand: _Hand) -> Answer | None:
        """A process died: another one takes its place and, once, its task."""
        hand.process.join(_GRACE)
        code = hand.process.exitcode
        hand.pipe.close()
        fresh = self._start()
        hand.process, hand.pipe = fresh.process, fresh.pipe
        hand.tries += 1
        if hand.tries <= RETRIES:
            self._send(hand)
            return None
        key, hand.task = hand.key, None
        return key, WorkerLost(f"a worker process died over it {hand.tries} times (exit code {code})")

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        for hand in self._hands:
            if hand.task is None:
                with contextlib.suppress(OSError):
                    hand.pipe.send(None)
            else:
                hand.process.kill()
        for hand in self._hands:
            hand.process.join(_GRACE)
            if hand.process.is_alive():
                hand.process.kill()
                hand.process.join()
            hand.pipe.close()
        self._hands = []


def _serve(pipe: Connection, outfit: Outfit) -> None:
    """The body of a worker process: tasks come through the pipe until None does, or its other end is gone."""
    import signal

    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the business of the process that started it
    cv2.setNumThreads(1)
    failed: FacecamError | None = None
    worker: Worker | None = None
    try:
        worker = outfit.worker()
    except FacecamError as error:
        failed = error  # told to whoever asks for something
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        if task is None:
            return
        answer: Any = failed
        if worker is not None:
            try:
                answer = worker.do(task)
            except FacecamError as error:
                answer = error
        try:
            pipe.send(answer)
        except OSError:
            return
