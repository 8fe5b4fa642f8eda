"""What a run writes down while it goes: the bar, metrics.csv, run.json."""

from __future__ import annotations

import csv
import io
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from train import checkpoint, networks, weights
from train.data import Corpus
from train.recipe import Recipe


def progress(items: Any, total: int, epoch: int) -> Any:
    """A bar on a terminal, nothing elsewhere (each epoch prints a line anyway)."""
    if not sys.stderr.isatty():
        return items
    from rich.progress import track

    return track(items, total=total, description=f"epoch {epoch + 1}", transient=True)


def write_metrics(path: Path, history: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, list(history[0]))
    table.writeheader()
    table.writerows(history)
    checkpoint.write_atomic(path, text.getvalue().encode())


def run_facts(recipe: Recipe, corpus: Corpus, device: torch.device, network: networks.Network) -> dict[str, Any]:
    """What run.json says: settings, versions, data, seed."""
    import torchvision

    return {
        "recipe": recipe.to_dict(),
        "seed": recipe.seed,
        "data": {
            "root": str(Path(corpus.root).resolve()),
            "sha256": corpus.digest,
            "classes": len(corpus.classes),
            "pictures": {"train": len(corpus.train), "val": len(corpus.val), "test": len(corpus.test)},
            "skipped": [list(row) for row in corpus.skipped],
        },
        "network": {
            "parameters": sum(p.numel() for p in network.parameters()),
            "start": weights.fingerprint(network),
        },
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    }
