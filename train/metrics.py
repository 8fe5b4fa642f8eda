"""Figures of a classifier from its probabilities, in numpy: what report.json and report.html show."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Bins of the reliability diagram (Guo et al. 2017 use 15).
BINS = 15


def confusion(labels: np.ndarray, guesses: np.ndarray, classes: int) -> np.ndarray:
    """Counts, classes x classes: row = truth, column = guess."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (labels, guesses), 1)
    return table


def per_class(table: np.ndarray) -> list[dict[str, float]]:
    """Precision, recall, F1 (0 where undefined) and support of each class of a confusion table."""
    right, guessed, there = np.diag(table), table.sum(axis=0), table.sum(axis=1)
    rows = []
    for hit, named, real in zip(right.tolist(), guessed.tolist(), there.tolist()):
        precision, recall = hit / named if named else 0.0, hit / real if real else 0.0
        f1 = 2 * precision * recall / (precision + recall) if hit else 0.0
        rows.append({"precision": precision, "recall": recall, "f1": f1, "support": real})
    return rows


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> tuple[list[dict[str, float]], float]:
    """How far confidence can be believed.

    Args:
        probabilities: N x C, rows of sum 1. labels: N.

    Returns:
        the filled bins (confidence, accuracy, count), and the expected calibration error: the mean
        distance between confidence and accuracy, weighted by count.
    """
    sure = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    bins, error = [], 0.0
    for number in range(BINS):
        inside = place == number
        if inside.any():
            row = {
                "confidence": float(sure[inside].mean()),
                "accuracy": float(right[inside].mean()),
                "count": int(inside.sum()),
            }
            bins.append(row)
            error += abs(row["confidence"] - row["accuracy"]) * row["count"] / len(labels)
    return bins, float(error)


def roc(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Receiver operating characteristic: false positive rate, true positive rate, area under the curve.

    Ties share one point, so that a constant score gives the diagonal and 0.5.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.nonzero(np.diff(ordered))[0], len(ordered) - 1)
    hits, misses = np.cumsum(positive[order])[last], np.cumsum(~positive[order])[last]
    tpr = np.concatenate([[0.0], hits / max(1, hits[-1])])
    fpr = np.concatenate([[0.0], misses / max(1, misses[-1])])
    return fpr, tpr, float(np.trapezoid(tpr, fpr))


def summarise(probabilities: np.ndarray, labels: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """All figures of a classifier on one part of the data, ready for JSON.

    Macro F1 is the mean over the classes that have a picture there or were guessed; "untested" are those without one.
    """
    guesses = probabilities.argmax(axis=1)
    table = confusion(labels, guesses, len(classes))
    bins, ece = reliability(probabilities, labels)
    one_hot = np.eye(len(classes), dtype=bool)[labels]
    if len(classes) == 2:
        curve = roc(probabilities[:, 1], labels == 1)
    else:
        curve = roc(probabilities.ravel(), one_hot.ravel())
    thin = np.unique(np.linspace(0, len(curve[0]) - 1, 200).astype(int))
    likelihood = probabilities[np.arange(len(labels)), labels].clip(1e-12)
    rows = per_class(table)
    return {
        "pictures": len(labels),
        "accuracy": float((guesses == labels).mean()),
        "loss": float(-np.log(likelihood).mean()),
        "macro_f1": float(np.mean([row["f1"] for row, met in zip(rows, table.sum(0) + table.sum(1)) if met])),
        "untested": [name for name, row in zip(classes, rows) if not row["support"]],
        "ece": ece,
        "auc": curve[2],
        "classes": [{"name": name, **row} for name, row in zip(classes, rows)],
        "confusion": table.tolist(),
        "reliability": bins,
        "roc": {"fpr": curve[0][thin].round(5).tolist(), "tpr": curve[1][thin].round(5).tolist()},
    }
