"""How an embedder is judged: verification on pairs, and open-set identification, on people it never saw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from facecam.errors import UsageFault
from train.data import Item

#: What `evaluate` measures, besides counts.
FIGURES = ("dir_1", "dir_01", "three_1", "three_01", "one_1", "one_01", "rank1", "verification", "threshold_1")
#: Draws of who is enrolled, for the figures that are means over draws.
DRAWS = 10


def evaluate(vectors: np.ndarray, items: Sequence[Item], *, seed: int = 1, pairs: int = 45) -> dict[str, float]:
    """Open-set and verification figures of one embedder.

    Everyone with two or more pictures is enrolled with up to three of them (the mean, normalised); their
    other pictures are probes that have a name. People with one picture are strangers. DIR at FPIR x: the share of
    named probes that come out as themselves at the threshold which names x of the strangers wrongly.

    Args:
        vectors: float32 N x D, L2 norm 1. items: their pictures.
        pairs: genuine pairs of a person at most; there are as many impostor pairs in all.

    Returns:
        dir_1, dir_01 (FPIR 1 % and 0.1 %); the same as `drawn` finds them, with up to three photos enrolled
        (three_1, three_01) and with one (one_1, one_01); verification (10-fold accuracy), threshold_1, and the
        counts enrolled, probes, strangers of the first.
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
    found = identify(vectors, np.stack(gallery), probes, owners, strangers)
    figures = {f"dir_{rate}": found[f"dir_{rate}"] for rate in ("1", "01")}
    figures |= {key: found[key] for key in ("threshold_1", "threshold_01", "rank1")}
    for name, most in (("three", 3), ("one", 1)):
        draws = [drawn(vectors, list(people.values()), most, seed + draw) for draw in range(DRAWS)]
        for rate in ("1", "01"):
            figures[f"{name}_{rate}"] = float(np.mean([draw[f"dir_{rate}"] for draw in draws]))
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


def drawn(vectors: np.ndarray, people: list[list[int]], most: int, seed: int) -> dict[str, float]:
    """Open-set figures as `facecam eval openset` draws them: more strangers, and fewer photos where asked.

    A random half of those with several pictures is enrolled with up to ``most`` of them, drawn at random; their
    other pictures are the probes; all pictures of everybody else are strangers.
    """
    rng = np.random.default_rng(seed)
    several = [number for number, rows in enumerate(people) if len(rows) > 1]
    known = sorted(rng.permutation(several)[: max(1, len(several) // 2)].tolist())
    gallery, probes, owners = [], [], []
    for place, number in enumerate(known):
        rows = [people[number][i] for i in rng.permutation(len(people[number]))]
        enrolled = rows[: min(most, len(rows) - 1)]
        mean = vectors[enrolled].mean(axis=0)
        gallery.append(mean / np.linalg.norm(mean))
        probes += rows[len(enrolled) :]
        owners += [place] * (len(rows) - len(enrolled))
    chosen = set(known)
    strangers = [row for number, rows in enumerate(people) if number not in chosen for row in rows]
    return identify(vectors, np.stack(gallery), probes, owners, strangers)


def identify(
    vectors: np.ndarray, gallery: np.ndarray, probes: list[int], owners: list[int], strangers: list[int]
) -> dict[str, float]:
    """dir_1, dir_01, threshold_1, threshold_01 and rank1 of one gallery.

    Args:
        gallery: float32 K x D, a row for each enrolled person. owners: row of each probe's person.
        probes, strangers: positions in ``vectors``.
    """
    scores = vectors[probes] @ gallery.T
    top, hit = scores.max(axis=1), scores.argmax(axis=1) == np.array(owners)
    stray = np.sort((vectors[strangers] @ gallery.T).max(axis=1))[::-1]
    figures = {"rank1": float(hit.mean())}
    for name, rate in (("1", 0.01), ("01", 0.001)):
        # The threshold stands at the first stranger who must stay unknown; a tie with it is refused.
        threshold = stray[min(len(stray) - 1, int(rate * len(stray)))]
        figures[f"dir_{name}"] = float((hit & (top > threshold)).mean())
        figures[f"threshold_{name}"] = float(threshold)
    return figures


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
    """LFW's protocol: the threshold from nine folds, accuracy on the tenth, the mean of ten; of fewer where there are
    fewer pairs."""
    scores = np.concatenate([genuine, impostor])
    truth = np.concatenate([np.ones(len(genuine), bool), np.zeros(len(impostor), bool)])
    fold = np.concatenate([np.arange(len(genuine)) % 10, np.arange(len(impostor)) % 10])
    accuracies = []
    for held in np.unique(fold):
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
