"""Figures of verification (same or not?) and of open-set identification (who, or nobody?) from similarities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from facecam.errors import DependencyMissing

if TYPE_CHECKING:
    from types import ModuleType

#: False accept rates at which true accepts are given, and false positive identification rates.
FARS: Final = (1e-1, 1e-2, 1e-3, 1e-4)
FPIRS: Final = (1e-1, 1e-2, 1e-3)
#: What a picture without a face scores: below every similarity, never accepted.
NO_SCORE: Final = -2.0
#: Part of the distance between the mean genuine and the mean impostor score over which a mistake fades in, and
#: thresholds tried between the two. Chosen for the mean accuracy over 27 variants of the vectors of lfw_dev: 0.9878 so,
#: 0.9876 with the bare count, which also scatters more.
SOFTNESS: Final = 0.02
STEPS: Final = 401
#: Points of a stored curve: enough for a plot, small enough for a file.
CURVE_POINTS: Final = 400

Scores = NDArray[np.float64]
Truth = NDArray[np.bool_]


def scikit() -> ModuleType:
    """sklearn.metrics.

    Raises:
        DependencyMissing: scikit-learn is not installed.
    """
    try:
        import sklearn.metrics
    except ImportError as error:
        raise DependencyMissing(
            f"facecam eval needs scikit-learn, which cannot be loaded ({error}); run: pip install 'facecam[eval]'"
        ) from error
    module: ModuleType = sklearn.metrics
    return module


def key(rate: float) -> str:
    """A rate as it stands in JSON: "0.1", "0.01", "0.001", "0.0001"."""
    return f"{rate:.6f}".rstrip("0")


def best_threshold(scores: Scores, truth: Truth) -> float:
    """The threshold with the fewest mistakes when scores at or above it are called the same.

    Mistakes are counted softly: a score this near to the threshold (`SOFTNESS`) counts in part. The bare count has many
    minima, each owed to a few pairs, of which the lowest on nine folds is not the best on the tenth.

    Args:
        scores: float64, n, finite; truth: bool, n, True for pairs of one person; both kinds are there.
    """
    same, other = scores[truth], scores[~truth]
    low, high = float(other.mean()), float(same.mean())
    if not high > low:  # a model that tells nothing apart: any threshold is as good
        return (low + high) / 2
    width = 2 * SOFTNESS * (high - low)
    thresholds = np.linspace(low, high, STEPS)
    mistakes = [float(np.tanh((t - same) / width).sum() + np.tanh((other - t) / width).sum()) for t in thresholds]
    return float(thresholds[int(np.argmin(mistakes))])


@dataclass(frozen=True, slots=True)
class Folds:
    """Accuracy by cross-validation: float64, one value a fold, and the threshold of each."""

    accuracy: Scores
    thresholds: Scores


def cross_validate(scores: Scores, truth: Truth, fold: NDArray[np.int64], scored: Truth) -> Folds:
    """The protocol of LFW: for each fold the threshold from all others, accuracy on this one.

    Args:
        scored: bool, n: False for pairs without a score, which are errors whatever the threshold.
    """
    accuracy, thresholds = [], []
    for held in np.unique(fold):
        rest = (fold != held) & scored
        if not rest.any():
            raise ValueError("no scored pair outside this fold")
        threshold = best_threshold(scores[rest], truth[rest])
        mine = fold == held
        right = ((scores[mine] >= threshold) == truth[mine]) & scored[mine]
        accuracy.append(float(right.mean()))
        thresholds.append(threshold)
    return Folds(np.array(accuracy), np.array(thresholds))


def verification(scores: Scores, truth: Truth, fold: NDArray[np.int64], scored: Truth) -> dict[str, Any]:
    """All figures of a pairs test, ready for JSON.

    A pair without a score is an error in ``accuracy``. In the curves it is never accepted: a miss for a
    genuine pair, no false accept for an impostor pair (ISO/IEC 19795-1 counts failures to acquire so).

    Args:
        scores: float64, n, cosine similarities; truth, scored: bool, n; fold: int64, n.
    """
    metrics = scikit()
    folds = cross_validate(scores, truth, fold, scored)
    shown = np.where(scored, scores, NO_SCORE)
    far, tar, thresholds = metrics.roc_curve(truth, shown, drop_intermediate=False)
    low, high = _curve_ends(scores[scored])
    return {
        "accuracy": float(folds.accuracy.mean()),
        "std": float(folds.accuracy.std()),
        "standard_error": float(folds.accuracy.std(ddof=1) / np.sqrt(len(folds.accuracy))),
        "tar_at_far": {key(rate): _tar_at(far, tar, rate) for rate in FARS},
        "threshold_at_far": {key(rate): _threshold_at(far, thresholds, rate, high) for rate in FARS},
        "auc": float(metrics.auc(far, tar)),
        "eer": equal_error(far, tar),
        "threshold": float(folds.thresholds.mean()),
        "folds": [round(float(value), 6) for value in folds.accuracy],
        "roc": _thin(_corners({"far": far, "tar": tar}, far)),
        "scores": {
            "from": low,
            "to": high,
            "genuine": _histogram(scores[truth & scored], low, high),
            "impostor": _histogram(scores[~truth & scored], low, high),
        },
    }


def _tar_at(far: Scores, tar: Scores, rate: float) -> float:
    """True accepts at the loosest threshold that keeps the false accepts at ``rate`` or below."""
    return float(tar[far <= rate + 1e-12].max())


def _threshold_at(far: Scores, thresholds: Scores, rate: float, high: float) -> float:
    allowed = thresholds[far <= rate + 1e-12]
    return float(min(allowed[-1], high))  # roc_curve begins with infinity: nothing is accepted


def equal_error(far: Scores, tar: Scores) -> float:
    """Where false accepts and false rejects are equal, between the points of the curve by straight lines.

    Args:
        far, tar: float64, the points of a ROC, far ascending from 0 to 1.
    """
    gap = far - (1 - tar)  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    before = max(0, after - 1)
    span = gap[after] - gap[before]
    share = 0.0 if span <= 0 else -gap[before] / span
    return float(far[before] + share * (far[after] - far[before]))


def _curve_ends(scores: Scores) -> tuple[float, float]:
    low, high = float(np.floor(scores.min() * 50) / 50), float(np.ceil(scores.max() * 50) / 50)
    return low, max(high, low + 0.02)


def _histogram(scores: Scores, low: float, high: float) -> list[int]:
    """Counts in 100 equal steps from low to high."""
    counts, _ = np.histogram(scores, bins=100, range=(low, high))
    return [int(c) for c in counts]


def _corners(curve: dict[str, Scores], rate: Scores) -> dict[str, Scores]:
    """The first point of a curve, and each before its rate rises: the loosest of the thresholds with one rate.

    Args:
        rate: ascending, one of the curve's columns.
    """
    keep = np.append(np.diff(rate) > 0, True)
    keep[0] = True
    return {name: values[keep] for name, values in curve.items()}


def _thin(curve: dict[str, Scores]) -> dict[str, list[float]]:
    """A curve with fewer points; those at low rates, which matter most, are kept densest."""
    first = next(iter(curve.values()))
    size = len(first)
    if size > CURVE_POINTS:
        even = np.linspace(0, size - 1, CURVE_POINTS // 2)
        early = np.geomspace(1, size, CURVE_POINTS // 2) - 1
        keep = np.unique(np.concatenate([even, early]).round().astype(int))
        curve = {name: values[keep] for name, values in curve.items()}
    return {name: [round(float(v), 6) for v in values] for name, values in curve.items()}


# --- open set --------------------------------------------------------------------------------------------


def identification(top: Scores, right: Truth, strangers: Scores) -> dict[str, Any]:
    """Figures of an open-set test, ready for JSON.

    DIR at FPIR x: the share of known probes whose best match is themselves and above the threshold at which
    at most x of the strangers are named (Grother, Ngan, Hanaoka: NIST IR 8271, with rank 1).

    Args:
        top: float64, known probes: similarity of the best match, `NO_SCORE` without a face.
        right: bool, known probes: whether that match is the person.
        strangers: float64: similarity of the best match of each stranger with a face.
    """
    stray = np.sort(strangers)[::-1]
    figures: dict[str, Any] = {"rank1": float(right.mean()), "dir_at_fpir": {}, "threshold_at_fpir": {}}
    for rate in FPIRS:
        threshold = fpir_threshold(stray, rate)
        figures["dir_at_fpir"][key(rate)] = float((right & (top >= threshold)).mean())
        figures["threshold_at_fpir"][key(rate)] = threshold
    thresholds = np.unique(np.concatenate([stray, top[right]]))[::-1]
    fpir = np.searchsorted(np.sort(strangers), thresholds, side="left")
    hits = np.sort(top[right])
    curve = {
        "fpir": 1 - fpir / len(strangers),
        "fnir": 1 - (len(hits) - np.searchsorted(hits, thresholds, side="left")) / len(top),
        "threshold": thresholds,
    }
    figures["det"] = _thin(_corners(curve, curve["fpir"]))
    return figures


def fpir_threshold(stray: Scores, rate: float) -> float:
    """The lowest threshold (accepting scores at or above it) that names at most ``rate`` of the strangers.

    Args:
        stray: float64, descending.
    """
    allowed = int(rate * len(stray) + 1e-9)
    if allowed >= len(stray):
        return float(stray[-1])
    return float(np.nextafter(stray[allowed], np.inf))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation (n - 1) of figures of several draws."""
    array = np.array(values, np.float64)
    return {"mean": float(array.mean()), "std": float(array.std(ddof=1)) if len(array) > 1 else 0.0}
