"""Who does the tasks of a run: actors on a Ray cluster (extra ``facecam[ray]``), each with models of its own.

Ray decides where an actor lives and starts it again elsewhere when its process or node is lost. The only import of
ray. All nodes must see the inputs and the output folder under the same paths.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Hashable
from typing import Any, Final

from facecam.archive.crew import RETRIES, Answer, Outfit, WorkerLost
from facecam.archive.worker import Task, Worker
from facecam.errors import DependencyMissing, FacecamError, OutputError
from facecam.zoo.session import cpu_threads

#: An actor that Ray starts anew so often has something wrong with it.
_RESTARTS: Final = 100


class Seat:
    """The body of an actor: loads the models when it is made, and does one task at a time."""

    def __init__(self, outfit: Outfit) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._failed: FacecamError | None = None
        self._worker: Worker | None = None
        try:
            self._worker = outfit.worker()
        except FacecamError as error:
            self._failed = error  # told to whoever asks for something

    def pid(self) -> int:
        """Of the actor's process."""
        return os.getpid()

    def do(self, task: Task) -> Any:
        """What the task gives, or the FacecamError that it failed with."""
        if self._worker is None:
            return self._failed
        try:
            return self._worker.do(task)
        except FacecamError as error:
            return error


class RayActors:
    """Actors on a Ray cluster.

    Raises:
        DependencyMissing: Ray is not installed. OutputError: the cluster cannot be reached.
    """

    def __init__(self, outfit: Outfit, count: int, address: str | None) -> None:
        """Connect, or start Ray on this machine, and start the actors.

        Args:
            count: of actors; 0: one for each GPU of the cluster, without any one for each `threads` cores.
            address: of a running cluster ("auto": the one that this machine is part of); None starts one here,
                without a dashboard, that ends with the run.
        """
        try:
            import ray
        except ImportError as error:
            raise DependencyMissing("--engine ray needs Ray; run: pip install 'facecam[ray]'") from error
        self._ray = ray
        self._own = not ray.is_initialized()
        cuda, threads = outfit.settings.device == "cuda", max(1, outfit.settings.threads)
        if self._own:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves this machine unasked
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            local: dict[str, Any] = {}
            if address is None:
                # As many as asked for fit, whatever Ray thinks of this machine's cores.
                local = {"include_dashboard": False, "num_cpus": max(count * threads, cpu_threads())}
            try:
                ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **local)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise OutputError(f"--engine ray: the cluster cannot be reached ({reason}); check --address") from error
        try:
            resources = ray.cluster_resources()
            count = count or int(resources.get("GPU", 0) if cuda else resources.get("CPU", 1) // threads) or 1
            seat = ray.remote(Seat).options(
                num_cpus=threads, num_gpus=int(cuda), max_restarts=_RESTARTS, max_task_retries=RETRIES
            )
            packed = self._outfit = ray.put(outfit)  # kept: an actor that is started again asks for it again
            self._idle: list[Any] = [seat.remote(packed) for _ in range(count)]
        except BaseException:
            self.close()
            raise
        self._busy: dict[Any, tuple[Hashable, Any]] = {}

    def pids(self) -> list[int]:
        """Of the idle actors' processes; waits until these have started."""
        found: list[int] = self._ray.get([actor.pid.remote() for actor in self._idle])
        return found

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def busy(self) -> int:
        return len(self._busy)

    def submit(self, key: Hashable, task: Task) -> None:
        actor = self._idle.pop(0)
        self._busy[actor.do.remote(task)] = key, actor

    def wait(self) -> Answer:
        (reference, *_), _ = self._ray.wait(list(self._busy), num_returns=1)
        key, actor = self._busy.pop(reference)
        self._idle.append(actor)
        try:
            return key, self._ray.get(reference)
        except self._ray.exceptions.RayActorError:
            return key, WorkerLost(f"a worker died over it {RETRIES + 1} times")
        except self._ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from error

    def close(self) -> None:
        """End the actors, and the cluster if it was started here."""
        if self._own:
            self._ray.shutdown()
            return
        for actor in [*self._idle, *(actor for _, actor in self._busy.values())]:
            self._ray.kill(actor)
