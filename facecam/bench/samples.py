"""Single calls of stages, and what a run's figures are made of."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from facecam.engine import Engine
from facecam.scan import Timing
from facecam.values import SourceInfo

#: The order in which stages are shown; a stage that never ran has no row.
STAGES: Final = ("read", "cut", "search", "detect", "track", "align", "embed", "match", "draw", "encode")


@dataclass(slots=True)
class Samples(Timing):
    """`Timing` that keeps the seconds of every single call.

    Attributes:
        calls: stage -> seconds of each call, in order.
    """

    calls: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, seconds: float) -> None:
        Timing.add(self, name, seconds)
        self.calls.setdefault(name, []).append(seconds)


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage costs.

    Attributes:
        calls: how often it ran. median, p95: of one call, milliseconds.
        per_frame: milliseconds for each frame of the run, calls that did not happen included.
        share: of the run's wall time, 0 to 1; stages that overlap may add up to more than 1. None for a stage
            that the run does not have and that was timed apart.
    """

    calls: int
    median: float
    p95: float
    per_frame: float | None
    share: float | None


@dataclass(slots=True)
class Report:
    """The figures of one run.

    Attributes:
        kind: "file" (as fast as it goes) or "live" (paced).
        width, height: of the pictures. frames, seconds: of the run.
        cpu: CPU seconds of all threads. detections, embeddings: how often these models ran.
        people: enrolled. latencies: seconds from a frame to its labels. decode_fps: frames a second of decoding
            the same file alone; None for a camera. dropped, late: of a live run: frames that came while another
            one was in work and have no labels of their own; frames shown more than a frame's time after they came.
        peak_rss: MB, None where the system does not tell.
    """

    source: str
    kind: str
    device: str
    pack: str
    precision: str
    width: int
    height: int
    people: int
    frames: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    faces: int = 0
    samples: Samples = field(default_factory=Samples)
    apart: Samples = field(default_factory=Samples)
    latencies: list[float] = field(default_factory=list)
    decode_fps: float | None = None
    peak_rss: float | None = None
    dropped: int = 0
    late: int = 0

    @classmethod
    def of(
        cls, source: str, kind: str, engine: Engine, info: SourceInfo, people: int, samples: Samples | None = None
    ) -> Report:
        """An empty one, to be filled while a source runs."""
        device, pack, precision = engine.device.name, engine.pack, engine.precision
        return cls(
            source, kind, device, pack, precision, info.width, info.height, people, samples=samples or Samples()
        )  # fmt: skip

    @property
    def fps(self) -> float:
        return self.frames / self.seconds if self.seconds else 0.0

    @property
    def ratio(self) -> float | None:
        """Share of the decode-only ceiling that was reached; None without a ceiling and for a paced run."""
        if not self.decode_fps or self.kind == "live":
            return None
        return self.fps / self.decode_fps

    @property
    def cpu_per_second(self) -> float:
        return self.cpu / self.seconds if self.seconds else 0.0

    def stages(self) -> dict[str, Stage]:
        """By name, in the order of `STAGES`."""
        rows = {}
        for name in STAGES:
            own = name in self.samples.calls
            calls = (self.samples if own else self.apart).calls.get(name)
            if calls:
                total = sum(calls)
                rows[name] = Stage(
                    len(calls),
                    percentile(calls, 50) * 1e3,
                    percentile(calls, 95) * 1e3,
                    total / self.frames * 1e3 if own and self.frames else None,
                    total / self.seconds if own and self.seconds else None,
                )
        return rows

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` writes; see docs/performance.md."""
        stages = {
            name: {
                "calls": stage.calls,
                "median_ms": _rounded(stage.median, 4),
                "p95_ms": _rounded(stage.p95, 4),
                "per_frame_ms": _rounded(stage.per_frame, 4),
                "share": _rounded(stage.share, 4),
            }
            for name, stage in self.stages().items()
        }
        return {
            "schema": "facecam.bench/1",
            "source": self.source,
            "kind": self.kind,
            "width": self.width,
            "height": self.height,
            "pack": self.pack,
            "device": self.device,
            "precision": self.precision,
            "people": self.people,
            "frames": self.frames,
            "seconds": _rounded(self.seconds, 4),
            "fps": _rounded(self.fps, 2),
            "decode_fps": _rounded(self.decode_fps, 2),
            "ratio_to_decode": _rounded(self.ratio, 4),
            "stages": stages,
            "latency_ms": {f"p{p}": _rounded(percentile(self.latencies, p) * 1e3, 3) for p in (50, 95, 99)},
            "cpu_seconds_per_frame": _rounded(self.cpu / self.frames if self.frames else None, 6),
            "cpu_seconds_per_second": _rounded(self.cpu_per_second, 4),
            "peak_rss_mb": _rounded(self.peak_rss, 1),
            "faces": self.faces,
            "detections": self.samples.detections,
            "embeddings": self.samples.embeddings,
            "dropped": self.dropped,
            "late": self.late,
        }


def percentile(values: Sequence[float], share: float) -> float:
    """Linear between the neighbours; 0 for no values."""
    return float(np.percentile(values, share)) if len(values) else 0.0


def peak_rss() -> float | None:
    """The most memory that this process has had, MB; None where the system does not tell."""
    # Linux counts in what getrusage says the process that started this one, too.
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
