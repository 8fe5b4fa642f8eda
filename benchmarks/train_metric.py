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


def judge(network: networks.Network, corpus: data.Corpus, made: recipe.Recipe, memo: dict) -> dict[str, float]:
    """Figures on the test people; what the lowest stages make of their pictures comes from the memo."""
    cpu = torch.device("cpu")
    pictures = augment.Pictures(corpus.test, made.size, "none", made.seed)
    features = feed.Features(network.lower(made.bottom), network, pictures, made, cpu, 1, memo)
    vectors = feed.forward_all(network.upper(made.bottom), network, features, made, cpu)
    return openset.evaluate(vectors.numpy(), corpus.test, seed=made.seed)


def main() -> None:
    crops, out = Path(sys.argv[1]), Path(sys.argv[2])
    base = recipe.load("faces-metric").with_changes(**command._pairs(tuple(sys.argv[3:])))
    kept = out / f"features-{base.seed}-{base.bottom}-{base.augment}.pt"
    memo: dict[str, torch.Tensor] = torch.load(kept, weights_only=True) if kept.exists() else {}
    rows = []
    for split in sorted(path.stem for path in recipe.SPLITS.glob("lfw_dev-[1-9].json")):
        made = base.with_changes(split=split)
        corpus = evaluate.load_data(crops, made)
        run = out / split
        if not (run / "figures.json").exists():
            loop.fit(made, corpus, run, device="cpu", memo=memo, say=lambda line: print("  ", line, flush=True))
            figures = {
                "part": "test",
                "before": judge(networks.build(made, 2), corpus, made, memo),
                "after": judge(evaluate.load_run(run).network, corpus, made, memo),
            }
            checkpoint.write_json(run / "figures.json", figures)
            torch.save(memo, kept)
        figures = json.loads((run / "figures.json").read_text())
        print(split, report.headline(figures), flush=True)
        rows.append([[figures[when][key] for key in KEYS] for when in ("before", "after")])
    table = np.array(rows)
    print(f"{'mean of ' + str(len(rows)):18}" + "".join(f"{key:>22}" for key in KEYS))
    change = 100 * (table[:, 1] - table[:, 0])
    for name, part in (("before", table[:, 0]), ("after", table[:, 1]), ("change, points", change)):
        cells = (f"{m:.4f} +- {s:.4f}" for m, s in zip(part.mean(axis=0), part.std(axis=0)))
        print(f"{name:18}" + "".join(f"{cell:>22}" for cell in cells), flush=True)
    made = base.with_changes(split="lfw_dev-all")
    if not (out / made.split / "best.pt").exists():
        corpus = evaluate.load_data(crops, made)
        loop.fit(
            made, corpus, out / made.split, device="cpu", memo=memo, say=lambda line: print("  ", line, flush=True)
        )


if __name__ == "__main__":
    main()
