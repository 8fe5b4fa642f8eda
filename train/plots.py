"""The pictures of a report, as PNG bytes (matplotlib, without a display)."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np


def _figure(width: float = 5.0, height: float = 3.6) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    return figure, figure.add_subplot()


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Matplotlib's own font lacks some scripts; the report names such classes in its tables all the same.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def learning_curves(history: list[dict[str, Any]], score: str) -> bytes:
    """Training and validation loss on the left axis, the validation score on the right one, by epoch."""
    figure, axes = _figure(6.4)
    epochs = [row["epoch"] for row in history]
    axes.plot(epochs, [row["train_loss"] for row in history], label="training loss", color="tab:blue")
    axes.plot(epochs, [row["val_loss"] for row in history], label="validation loss", color="tab:orange")
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    other = axes.twinx()
    other.plot(epochs, [row["val_score"] for row in history], label=f"validation {score}", color="tab:green")
    other.set_ylabel(score)
    lines = axes.get_lines() + other.get_lines()
    axes.legend(lines, [line.get_label() for line in lines], fontsize=8)
    return _png(figure)


def confusion(table: list[list[int]], classes: list[str]) -> bytes:
    """Rows are the truth, columns the guess; shares of each row."""
    counts = np.array(table, float)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    side = min(12.0, 2.5 + 0.28 * len(classes))
    figure, axes = _figure(side + 0.8, side)
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes, shrink=0.7, label="share of the true class")
    if len(classes) <= 60:
        axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=7, parse_math=False)
        axes.set_yticks(range(len(classes)), classes, fontsize=7, parse_math=False)
    if len(classes) <= 15:
        for row in range(len(classes)):
            for column in range(len(classes)):
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(
                    column, row, f"{int(counts[row, column])}", ha="center", va="center", fontsize=7, color=colour
                )
    axes.set_xlabel("guess")
    axes.set_ylabel("truth")
    return _png(figure)


def reliability(bins: list[dict[str, float]], ece: float) -> bytes:
    """Accuracy against confidence, bin by bin; the diagonal is a network that means what it says."""
    figure, axes = _figure(4.4)
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1)
    sure = [b["confidence"] for b in bins]
    axes.bar(sure, [b["accuracy"] for b in bins], width=1 / 18, edgecolor="white", color="tab:blue")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    axes.set_title(f"expected calibration error {ece:.3f}", fontsize=9)
    return _png(figure)


def roc(curve: dict[str, list[float]], auc: float, title: str) -> bytes:
    """True against false positive rate."""
    figure, axes = _figure(4.4)
    axes.plot(curve["fpr"], curve["tpr"], color="tab:blue")
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1)
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.set_title(f"{title}, area {auc:.4f}", fontsize=9)
    return _png(figure)


def bars(classes: list[str], parts: dict[str, list[int]]) -> bytes:
    """Pictures per class and part: the imbalance at a glance."""
    figure, axes = _figure(max(5.0, 2 + 0.22 * len(classes)))
    base = np.zeros(len(classes))
    for name, counts in parts.items():
        axes.bar(range(len(classes)), counts, bottom=base, label=name)
        base += counts
    if len(classes) <= 60:
        axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=7, parse_math=False)
    axes.set_ylabel("pictures")
    axes.legend(fontsize=8)
    return _png(figure)


def before_after(before: dict[str, float], after: dict[str, float]) -> bytes:
    """An embedder's figures, old and new, side by side."""
    names = {
        "three_1": "3 photos,\nDIR at 1 %",
        "three_01": "3 photos,\nat 0.1 %",
        "one_1": "1 photo,\nat 1 %",
        "one_01": "1 photo,\nat 0.1 %",
        "verification": "verification",
    }
    figure, axes = _figure(5.6)
    for offset, (label, figures) in enumerate((("before", before), ("after", after))):
        places = np.arange(len(names)) + (offset - 0.5) * 0.38
        values = [figures[key] for key in names]
        axes.bar(places, values, width=0.36, label=label)
        for x, y in zip(places, values):
            axes.text(x, y + 0.01, f"{y:.3f}", ha="center", fontsize=7)
    axes.set_xticks(range(len(names)), names.values(), fontsize=8)
    axes.set_ylim(0, 1.08)
    axes.legend(fontsize=8)
    return _png(figure)
