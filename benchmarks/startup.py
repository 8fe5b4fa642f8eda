"""Prints how long the command line takes to answer: python benchmarks/startup.py

Each command runs in a new process, in turns, so that a busy moment hits all of them; medians are given, and
ratios to a Python that does nothing, since these say more than seconds of somebody else's machine. The last row is the
way to the first labelled frame of a film of one face: models that are ready in the home are loaded, the film is opened,
one frame goes through all stages.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from facecam.bench import film

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    'python -c "import facecam"': ["-c", "import facecam"],
    "facecam --version": ["-m", "facecam", "--version"],
    "facecam --help": ["-m", "facecam", "--help"],
    "facecam label --help": ["-m", "facecam", "label", "--help"],
}
#: One frame through all stages, from nothing.
FIRST = """
import sys
from facecam.video.cv import import_cv2
import_cv2()
from facecam.engine import open_engine
from facecam.settings import Settings
from facecam.video.sources import FileSource
engine = open_engine(Settings(device="cpu"))
with FileSource(sys.argv[1]) as source:
    recogniser = engine.recogniser(engine.matcher(None))
    recogniser.step(source.read())
assert recogniser.timing.embeddings == 1
"""
FIRST_ROW = "the first labelled frame"
#: Seconds within which an answer should come.
LIMITS = {"facecam --version": 0.15, "facecam --help": 0.4, FIRST_ROW: 1.2}


def measure(arguments: list[str]) -> float:
    """Seconds for one run."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="Time until the command line answers.")
    parser.add_argument("--runs", type=int, default=11, help="runs of each command (default: 11)")
    runs = parser.parse_args().runs
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "film.mp4"
        film.SECONDS = 1  # type: ignore[misc]
        commands = dict(COMMANDS)
        if film.render(clip):
            commands[FIRST_ROW] = ["-c", FIRST, str(clip)]
        for arguments in commands.values():  # once unmeasured: files come from the disk then, and models are made
            measure(arguments)
        times = {name: [0.0] * runs for name in commands}
        for run in range(runs):
            for name, arguments in commands.items():
                times[name][run] = measure(arguments)
    base = statistics.median(times["python -c pass"])
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {runs} runs each{load}")
    print()
    print("| command | median | fastest | ratio to python -c pass | goal |")
    print("|---|---|---|---|---|")
    for name, taken in times.items():
        median = statistics.median(taken)
        goal = ""
        if name in LIMITS:
            goal = f"{LIMITS[name]:g} s: {'met' if median <= LIMITS[name] else 'missed'}"
        shown = name if name == FIRST_ROW else f"`{name}`"
        print(f"| {shown} | {median * 1000:.0f} ms | {min(taken) * 1000:.0f} ms | {median / base:.1f} | {goal} |")


if __name__ == "__main__":
    main()
