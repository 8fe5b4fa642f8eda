"""Helpers of the tests: the real portraits, generated pictures, small clips, CLI calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facecam.demo import package_file
from facecam.values import Image
from facecam.video.photos import read_photo
from facecam.vision.detect import MmodDetector

GOLDEN = json.loads((Path(__file__).parent / "golden" / "dlib.json").read_text())
HOPPER = package_file("matplotlib", "mpl-data/sample_data/grace_hopper.jpg")
ASTRONAUT = package_file("skimage", "data/astronaut.png")
COFFEE = package_file("skimage", "data/coffee.png")


def portrait(name: str) -> Image:
    """One of the two portraits, by its name in the golden file."""
    return read_photo({"grace_hopper": HOPPER, "astronaut": ASTRONAUT}[name])


def generated_crop(seed: int) -> Image:
    """A picture of waves, BGR; golden/make_golden.py makes the same in RGB."""
    y, x = np.mgrid[0:150, 0:150].astype(np.float64)
    waves = [127.5 + 127.5 * np.sin((x * (seed + 1) + y * (c + 2)) / (11.0 + 3 * c + seed)) for c in range(3)]
    rgb = np.floor(np.stack(waves, 2)).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(rgb[..., ::-1])


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


def facecam(*args: object, cwd: Path | None = None, home: Path | None = None, **more: Any) -> Ran:
    """Run the command line in a process of its own, as a user would."""
    environment = dict(os.environ)
    if home is not None:
        environment["FACECAM_HOME"] = str(home)
    done = subprocess.run(
        [sys.executable, "-m", "facecam", *map(str, args)],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=240, **more,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


def lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def fed_pixels(detector: MmodDetector, work: Callable[[], object]) -> int:
    """Pixels that the network was given during a call."""
    fed: list[int] = []
    run = detector.model.run_batch

    def counting(batch: np.ndarray) -> np.ndarray:
        fed.append(batch.size)
        return run(batch)

    detector.model.run_batch = counting  # type: ignore[method-assign]
    try:
        work()
    finally:
        detector.model.run_batch = run  # type: ignore[method-assign]
    return sum(fed)
