"""Prints how long the command line takes to answer: python benchmarks/startup.py

Each command runs in a new process, in turns, so that a busy moment hits all of them; medians are given, and
ratios to a Python that does nothing, since these say more than seconds of somebody else's machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    'python -c "import facecam"': ["-c", "import facecam"],
    "facecam --version": ["-m", "facecam", "--version"],
    "facecam --help": ["-m", "facecam", "--help"],
    "facecam label --help": ["-m", "facecam", "label", "--help"],
}
#: `facecam --help` should answer within this, seconds.
LIMIT = 0.4


def measure(arguments: list[str]) -> float:
    """Seconds for one run."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="Time until the command line answers.")
    parser.add_argument("--runs", type=int, default=11, help="runs of each command (default: 11)")
    runs = parser.parse_args().runs
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    for arguments in COMMANDS.values():  # once unmeasured: files come from the disk then
        measure(arguments)
    times = {name: [0.0] * runs for name in COMMANDS}
    for run in range(runs):
        for name, arguments in COMMANDS.items():
            times[name][run] = measure(arguments)
    base = statistics.median(times["python -c pass"])
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {runs} runs each{load}")
    print()
    print("| command | median | fastest | ratio to python -c pass |")
    print("|---|---|---|---|")
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"| `{name}` | {median * 1000:.0f} ms | {min(taken) * 1000:.0f} ms | {median / base:.1f} |")
    answer = statistics.median(times["facecam --help"])
    print()
    print(f"facecam --help answers in {answer:.2f} s; the limit is {LIMIT} s: {'met' if answer < LIMIT else 'missed'}")


if __name__ == "__main__":
    main()
