"""How an embedder is judged: verification on pairs, and open-set identification, on people it never saw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from facecam.errors import UsageFault
from train.data import Item


def evaluate(vectors: np.ndarray, items: Sequence[Item], *, seed: int = 1, pairs: int = 45) -> dict[str, float]:
    """Open-set and verification figures of one embedder.

    Everyone with two or more pictures is enrolled with up to three of them (the mean, normalised); their
    other pictures are probes that have a name. People with one picture are strangers. DIR at FPIR x: the share of
    named probes that come out as themselves at the threshold which names x of the strangers wrongly.

    Args:
        vectors: float32 N x D, L2 norm 1. items: their pictures.
        pairs: genuine pairs of a person at most; there are as many impostor pairs in all.

    Returns:
        dir_1, dir_01 (FPIR 1 % and 0.1 %), verification (10-fold accuracy), threshold_1, and the counts
        enrolled, probes, strangers.
    """
    people: dict[int, list[int]] = defaultdict(list)
    for i, item in enumerate(items):
        people[item.label].append(i)
    known = [rows for rows in people.values() if len(rows) > 1]
    strangers = [rows[0] for rows in people.values() if len(rows) == 1]
    if len(known) < 2 or len(strangers) < 10:
        raise UsageFault(
            f"an embedder's validation needs 2 people with two pictures and 10 people with one; there are "
            f"{len(known)} and {len(strangers)}; add people to the split"
        )
    gallery, probes, owners = [], [], []
    for number, rows in enumerate(known):
        enrolled = rows[: min(3, len(rows) - 1)]
        mean = vectors[enrolled].mean(axis=0)
        gallery.append(mean / np.linalg.norm(mean))
        probes += rows[len(enrolled) :]
        owners += [number] * (len(rows) - len(enrolled))
    table = np.stack(gallery)
    scores = vectors[probes] @ table.T
    top, hit = scores.max(axis=1), scores.argmax(axis=1) == np.array(owners)
    stray = np.sort((vectors[strangers] @ table.T).max(axis=1))[::-1]
    figures = {}
    for name, rate in (("1", 0.01), ("01", 0.001)):
        # The threshold stands at the first stranger who must stay unknown; a tie with it is refused.
        threshold = stray[min(len(stray) - 1, int(rate * len(stray)))]
        figures[f"dir_{name}"] = float((hit & (top > threshold)).mean())
        figures[f"threshold_{name}"] = float(threshold)
    figures["rank1"] = float(hit.mean())
    same, other = draw_pairs(known, seed, pairs)
    genuine = (vectors[same[:, 0]] * vectors[same[:, 1]]).sum(axis=1)
    impostor = (vectors[other[:, 0]] * vectors[other[:, 1]]).sum(axis=1)
    figures["verification"] = ten_fold(genuine, impostor)
    return figures | {
        "enrolled": len(known),
        "probes": len(probes),
        "strangers": len(strangers),
        "pairs": len(same),
    }


def draw_pairs(known: list[list[int]], seed: int, per_person: int) -> tuple[np.ndarray, np.ndarray]:
    """Genuine and impostor pairs of positions, the same for every embedder: two arrays, N x 2.

    Args:
        known: positions of each person's pictures.
        per_person: genuine pairs at most, so that nobody with many pictures outweighs the others.
    """
    rng = np.random.default_rng(seed)
    same: list[tuple[int, int]] = []
    for rows in known:
        every = [(a, b) for n, a in enumerate(rows) for b in rows[n + 1 :]]
        same += [every[i] for i in rng.permutation(len(every))[:per_person]]
    other: list[tuple[int, int]] = []
    while len(other) < len(same):
        a, b = rng.integers(len(known), size=2)
        if a != b:
            other.append((known[a][rng.integers(len(known[a]))], known[b][rng.integers(len(known[b]))]))
    return np.array(same), np.array(other)


def ten_fold(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """LFW's protocol: the threshold from nine folds, accuracy on the tenth, the mean of ten."""
    scores = np.concatenate([genuine, impostor])
    truth = np.concatenate([np.ones(len(genuine), bool), np.zeros(len(impostor), bool)])
    fold = np.concatenate([np.arange(len(genuine)) % 10, np.arange(len(impostor)) % 10])
    accuracies = []
    for held in range(10):
        rest = fold != held
        threshold = best_threshold(scores[rest], truth[rest])
        accuracies.append(np.mean((scores[~rest] >= threshold) == truth[~rest]))
    return float(np.mean(accuracies))


def best_threshold(scores: np.ndarray, truth: np.ndarray) -> float:
    """The threshold (scores >= it are called the same) with the fewest mistakes."""
    order = np.argsort(-scores)
    right = np.cumsum(truth[order]) + (np.sum(~truth) - np.cumsum(~truth[order]))
    place = int(right.argmax())
    after = scores[order[place + 1]] if place + 1 < len(order) else scores[order[place]] - 1e-3
    return float((scores[order[place]] + after) / 2)
