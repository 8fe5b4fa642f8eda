"""What matching costs, from 10 to 1,000,000 people.

Usage: python -m benchmarks.gallery [--people 10,100,...] [--samples 1] [--runs 30] [--hnsw]

Every row is measured in a process of its own, so that the memory is that row's: people are random unit vectors of 128
values, added in portions of 20,000. `match` is one probe against everybody. `exact` keeps float32 rows; `half` float16
ones in FAISS (extra "large"), which a gallery of more than 200,000 people gets by itself. `same` compares with a plain
product: how often the best person is the same, and the largest difference of a similarity. --hnsw adds an approximate
index for comparison (USearch, if installed).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.lfw import ROOT

DIM = 128
#: Goals: people -> milliseconds, MB.
GOALS = {1_000: (0.1, None), 100_000: (5.0, None), 1_000_000: (40.0, 600.0)}
PORTION = 20_000
PROBES = 20


def portion(number: int, people: int, samples: int) -> np.ndarray:
    """float32, people * samples x DIM: unit vectors, the same for the same number."""
    rng = np.random.default_rng(number)
    centre = rng.standard_normal((people, 1, DIM), np.float32)
    if samples > 1:
        centre = centre + 0.5 * rng.standard_normal((people, samples, DIM), np.float32)
    rows = centre.reshape(-1, DIM)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def median_ms(work: Callable[[], object], runs: int) -> float:
    work()
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken)) * 1e3


def resident() -> float:
    """MB of memory that this process holds now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(people: int, samples: int, kind: str, runs: int) -> dict[str, Any]:
    """One row, in this process."""
    from facecam.people.match import Matcher

    many = 0 if kind == "half" else 10**9
    empty = np.zeros((0, DIM), np.float32)
    start = time.perf_counter()
    matcher = Matcher((), np.zeros(0, np.int32), empty, threshold=0.5, many=many)
    for number, first in enumerate(range(0, people, PORTION)):
        count = min(PORTION, people - first)
        names = [f"P{first + i}" for i in range(count)]
        owner = np.repeat(np.arange(count, dtype=np.int32), samples)
        matcher.extend(names, owner, portion(number, count, samples))
    build = time.perf_counter() - start
    rng = np.random.default_rng(99)
    first_rows = portion(0, min(PORTION, people), samples)
    probes = first_rows[rng.integers(0, len(first_rows), PROBES)]
    probes = probes + np.float32(0.05) * rng.standard_normal(probes.shape, np.float32)
    probes[::2] = rng.standard_normal(probes[::2].shape, np.float32)  # every second one is a stranger
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    one = median_ms(lambda: matcher.match(probes[:1]), runs)
    eight = median_ms(lambda: matcher.match(probes[:8]), max(3, runs // 4))
    memory = resident()
    answers = matcher.match(probes)
    similar, best = _plain(probes, people, samples)
    newcomer = portion(10**6, 1, 1)
    fresh = iter(range(10**6))
    add = median_ms(lambda: matcher.extend([f"New {next(fresh)}"], np.zeros(1, np.int32), newcomer), 9)
    gone = iter([f"P{i}" for i in rng.permutation(people)[:9]])
    remove = median_ms(lambda: matcher.remove(next(gone)), min(people, 9) - 1)
    return {
        "people": people,
        "kind": kind,
        "build_s": build,
        "one_ms": one,
        "eight_ms": eight,
        "rss_mb": memory,
        "add_ms": add,
        "remove_ms": remove,
        "same": float(np.mean([a.candidate == f"P{b}" for a, b in zip(answers, best)])),
        "off": float(max(abs((a.similarity or 0.0) - s) for a, s in zip(answers, similar))),
    }


def _plain(probes: np.ndarray, people: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarity and index of the best person of each probe, by the definition, portion by portion."""
    from facecam.people.match import SAMPLE_DISCOUNT

    best, index = np.full(len(probes), -np.inf), np.zeros(len(probes), int)
    for number, first in enumerate(range(0, people, PORTION)):
        count = min(PORTION, people - first)
        rows = portion(number, count, samples).reshape(count, samples, DIM)
        mean = rows.sum(axis=1)
        mean /= np.linalg.norm(mean, axis=1, keepdims=True)
        scores = probes @ mean.T
        if samples > 1:
            nearest = (probes @ rows.reshape(-1, DIM).T).reshape(len(probes), count, samples).max(axis=2)
            scores = np.maximum(scores, 1 - (1 - nearest) * SAMPLE_DISCOUNT)
        here = scores.argmax(axis=1)
        value = scores[np.arange(len(probes)), here]
        index = np.where(value > best, here + first, index)
        best = np.maximum(best, value)
    return best, index


def hnsw(people: int, runs: int) -> dict[str, Any]:
    """The same rows in an approximate index: what its building costs, and how often it finds the best person."""
    from usearch.index import Index

    start = time.perf_counter()
    index = Index(ndim=DIM, metric="ip", dtype="f16")
    for number, first in enumerate(range(0, people, PORTION)):
        count = min(PORTION, people - first)
        index.add(np.arange(first, first + count), portion(number, count, 1))
    build = time.perf_counter() - start
    rng = np.random.default_rng(99)
    probes = rng.standard_normal((200, DIM), np.float32)
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    one = median_ms(lambda: index.search(probes[0], 2), runs)
    memory = resident()
    _, best = _plain(probes, people, 1)
    found = np.array([index.search(probe, 1).keys[0] for probe in probes])
    return {"people": people, "kind": "HNSW", "build_s": build, "one_ms": one, "rss_mb": memory,
            "same": float(np.mean(found == best))}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of matching, from 10 to 1,000,000 people.")
    parser.add_argument("--people", default="10,100,1000,10000,100000,1000000", help="numbers of people, by commas")
    parser.add_argument("--samples", type=int, default=1, help="samples of each person (default: 1)")
    parser.add_argument("--runs", type=int, default=30, help="probes timed in each row (default: 30)")
    parser.add_argument(
        "--hnsw", action="store_true", help="an approximate index of USearch, too (minutes at a million)"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the child's row, as JSON
    arguments = parser.parse_args()
    if arguments.one:
        people, kind = json.loads(arguments.one)
        row = (
            hnsw(people, arguments.runs) if kind == "HNSW" else measure(people, arguments.samples, kind, arguments.runs)
        )
        print(json.dumps(row))
        return
    kinds = ["exact", *(["half"] if find_spec("faiss") else []), *(["HNSW"] if arguments.hnsw else [])]
    if "half" not in kinds:
        print("half is left out, FAISS is not installed: pip install 'facecam[large]'", file=sys.stderr)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start; {arguments.samples} sample(s) a person")
    print()
    heads = ("people", "rows", "match one", "match eight", "add one", "remove one", "build", "memory", "same best")
    print("| " + " | ".join((*heads, "off by", "goal")) + " |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for people in map(int, arguments.people.split(",")):
        for kind in kinds:
            if kind != "exact" and people < 10_000:
                continue
            command = [sys.executable, "-m", "benchmarks.gallery", "--one", json.dumps([people, kind])]
            command += ["--samples", str(arguments.samples), "--runs", str(arguments.runs)]
            done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
            print(_line(json.loads(done.stdout), arguments.samples), flush=True)


def _line(row: dict[str, Any], samples: int) -> str:
    goal = GOALS.get(row["people"])
    chosen = "half" if row["people"] > 200_000 else "exact"
    verdict = ""
    if goal is not None and row["kind"] == chosen and samples == 1:
        met = row["one_ms"] <= goal[0] and (goal[1] is None or row["rss_mb"] <= goal[1])
        verdict = f"{goal[0]:g} ms" + (f", {goal[1]:.0f} MB" if goal[1] else "") + (": met" if met else ": missed")
    cells = [f"{row['people']:,}", row["kind"], f"{row['one_ms']:.3f} ms"]
    cells += [f"{row[key]:.2f} ms" if key in row else "" for key in ("eight_ms", "add_ms", "remove_ms")]
    cells += [f"{row['build_s']:.2f} s", f"{row['rss_mb']:.0f} MB", f"{row['same']:.1%}"]
    cells += [f"{row['off']:.0e}" if "off" in row else "", verdict]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
