"""A live run for as many frames as a time allows: is memory flat, do time stamps drift?

    python benchmarks/soak.py --minutes 10

A synthetic source gives 30 frames a second of its own time, as fast as they are taken: 2,592,000 of them are 24 hours.
People come and go in it every ten seconds. Exit code 1 if memory moved by more than 5 % after the first twentieth,
or a time stamp of an event is not that of a frame.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from facecam.video.cv import import_cv2

import_cv2()

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks.faults import known  # noqa: E402
from facecam.engine import open_engine  # noqa: E402
from facecam.live.view import LiveOptions, LiveView  # noqa: E402
from facecam.settings import Settings  # noqa: E402
from facecam.video.sources import SyntheticSource  # noqa: E402
from tests.faults import resident  # noqa: E402
from tests.support import portrait  # noqa: E402

FPS = 30
DAY = 24 * 3600 * FPS
#: A scene: Grace for 4 s, nobody for 1 s, Eileen, whom nobody knows, for 4 s, nobody for 1 s.
_SCENE = 10 * FPS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--frames", type=int, default=DAY)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ.setdefault("FACECAM_HOME", home)
        engine = open_engine(Settings(device="cpu"))
        grace, eileen = (cv2.resize(portrait(name), (240, 270)) for name in ("grace_hopper", "astronaut"))
        empty = np.full_like(grace, 90)
        source = SyntheticSource(lambda k: _scene(k % _SCENE, grace, eileen, empty), (240, 270), FPS, given.frames)
        times: list[float] = []
        late: list[float] = []
        memory: list[int] = []

        def emit(event: dict[str, Any]) -> None:
            times.append(event["time"])
            if event["type"] == "appear" and event["name"] == "Grace":
                late.append(event["time"] % (_SCENE / FPS))

        view = LiveView(
            [(source, engine.recogniser(known(engine, [("Grace", grace)])))],
            LiveOptions(max_seconds=given.minutes * 60),
            emit=emit,
            book=engine.book(None, print),
        )
        over = threading.Event()

        def watch() -> None:
            while not over.wait(max(1.0, given.minutes / 10)):
                memory.append(resident())

        threading.Thread(target=watch, daemon=True).start()
        start = time.monotonic()
        outcome = view.run()
        over.set()
    minutes = (time.monotonic() - start) / 60
    settled = memory[len(memory) // 20 :]
    spread = (max(settled) - min(settled)) / 2 / (sum(settled) / len(settled)) * 100
    off = max(abs(t * FPS - round(t * FPS)) / FPS for t in times)
    hours, share = outcome.frames / FPS / 3600, outcome.frames / DAY
    tenth = max(1, len(late) // 10)
    first, last = sum(late[:tenth]) / tenth, sum(late[-tenth:]) / tenth
    print(f"{outcome.frames:,} frames: {hours:.2f} h at {FPS} frames/s, {share:.1%} of a day, in {minutes:.1f} min")
    print(
        f"memory after the first twentieth: {min(settled) / 1e6:.1f} to {max(settled) / 1e6:.1f} MB (+-{spread:.1f} %)"
    )
    print(f"first {settled[0] / 1e6:.1f} MB, last {settled[-1] / 1e6:.1f} MB")
    print(f"{len(times):,} events; their times are those of frames to within {off * 1000:.2f} ms (rounded to 1 ms)")
    print(f"Grace appears {first:.3f} s into the scene in the first tenth, {last:.3f} s in the last")
    print(f"names: {', '.join(sorted(outcome.names))}")
    return int(spread > 5 or off > 0.0006 or abs(last - first) > 0.1 or outcome.names != {"Grace"})


def _scene(k: int, grace: Any, eileen: Any, empty: Any) -> Any:
    if k < 4 * FPS:
        return np.roll(grace, k // 4, axis=1)
    if 5 * FPS <= k < 9 * FPS:
        return np.roll(eileen, k // 4 - 5 * FPS // 4, axis=1)
    return empty


if __name__ == "__main__":
    sys.exit(main())
