"""The recipe faces-metric on the five committed splits: python -m benchmarks.train_metric CROPS OUT [KEY=VALUE ...]

CROPS comes from: facecam crop LFW_DEV/images CROPS. Each split trains on its own people; figures are of its test
people, whom nothing was trained on or calibrated with. Features that do not depend on the split are computed once.
At last OUT/lfw_dev-all is trained on nine tenths of everybody: the network to give away, with no figures of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from train import __main__ as command
from train import augment, checkpoint, data, evaluate, feed, loop, networks, openset, recipe, report

KEYS = openset.FIGURES
#: The network before and after; of plain crops (the training alone), and averaged with their mirror images.
WHEN = ("before", "after", "before, mirrored", "after, plain", "after, mirrored")
#: What is compared: the embedder with the one that came of it; and what each part brings.
CHANGES = (("points", 0, 1), ("trained alone", 0, 3), ("and mirrored", 0, 4), ("of mirrored", 2, 1))


def vectors(network: networks.Network, corpus: data.Corpus, made: recipe.Recipe, memos: dict) -> list[np.ndarray]:
    """Of the test people's pictures as they are, and mirrored: what the lowest stages make of them is in the memos."""
    cpu, found = torch.device("cpu"), []
    pictures = augment.Pictures(corpus.test, made.size, "none", made.seed)
    for side, turn in (("plain", lambda x: x), ("mirrored", lambda x: x.flip(3))):
        lower = network.lower(made.bottom)
        features = feed.Features(lambda x: lower(turn(x)), network, pictures, made, cpu, 1, memos[side])  # noqa: B023
        found.append(feed.forward_all(network.upper(made.bottom), network, features, made, cpu).numpy())
    return found


def judge(network: networks.Network, corpus: data.Corpus, made: recipe.Recipe, memos: dict) -> dict[str, dict]:
    """Figures on the test people: of plain crops, averaged with their mirror images, and as the network ends."""
    plain, turned = vectors(network, corpus, made, memos)
    both = plain + turned
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    whole = network.finish(torch.from_numpy(both if made.mirror else plain)).numpy()
    return {
        name: openset.evaluate(rows, corpus.test, seed=made.seed)
        for name, rows in (("plain", plain), ("mirrored", both), ("whole", whole))
    }


def main() -> None:
    crops, out = Path(sys.argv[1]), Path(sys.argv[2])
    base = recipe.load("faces-metric").with_changes(**command._pairs(tuple(sys.argv[3:])))
    kept = out / f"features-{base.seed}-{base.bottom}-{base.augment}.pt"
    memo: dict[str, torch.Tensor] = torch.load(kept, weights_only=True) if kept.exists() else {}
    memos: dict[str, dict[str, torch.Tensor]] = {"plain": memo, "mirrored": {}}
    rows = []
    for split in sorted(path.stem for path in recipe.SPLITS.glob("lfw_dev-[1-9].json")):
        made = base.with_changes(split=split)
        corpus = evaluate.load_data(crops, made)
        run = out / split
        if not (run / "figures.json").exists():
            loop.fit(made, corpus, run, device="cpu", memo=memo, say=lambda line: print("  ", line, flush=True))
            old = judge(networks.build(made, 2), corpus, made, memos)
            new = judge(evaluate.load_run(run).network, corpus, made, memos)
            figures = {
                "part": "test",
                "before": old["plain"],
                "after": new["whole"],
                "before, mirrored": old["mirrored"],
                "after, plain": new["plain"],
                "after, mirrored": new["mirrored"],
            }
            checkpoint.write_json(run / "figures.json", figures)
            torch.save(memo, kept)
        figures = json.loads((run / "figures.json").read_text())
        print(split, report.headline(figures), flush=True)
        rows.append([[figures[when][key] for key in KEYS] for when in WHEN])
    table = np.array(rows)
    print(f"{'mean of ' + str(len(rows)):24}" + "".join(f"{key:>22}" for key in KEYS))
    changes = [(f"change, {name}", 100 * (table[:, new] - table[:, old])) for name, old, new in CHANGES]
    for name, part in [(name, table[:, i]) for i, name in enumerate(WHEN)] + changes:
        cells = (f"{m:.4f} +- {s:.4f}" for m, s in zip(part.mean(axis=0), part.std(axis=0)))
        print(f"{name:24}" + "".join(f"{cell:>22}" for cell in cells), flush=True)
    made = base.with_changes(split="lfw_dev-all")
    if not (out / made.split / "best.pt").exists():
        corpus = evaluate.load_data(crops, made)
        loop.fit(
            made, corpus, out / made.split, device="cpu", memo=memo, say=lambda line: print("  ", line, flush=True)
        )


if __name__ == "__main__":
    main()
