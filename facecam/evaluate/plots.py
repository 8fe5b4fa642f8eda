"""Curves as PNG files. The only import of matplotlib, and only when a plot is asked for."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from facecam.errors import DependencyMissing
from facecam.evaluate.faces import VARIANTS
from facecam.video.atomic import atomic_bytes, output_error

#: Rates below this cannot be drawn on a logarithmic axis; they stand at its border.
_FLOOR: Final = 1e-5
_TITLES: Final = {"plain": "without mirror images", "mirror": "with mirror images"}


def _figure() -> tuple[Any, Any]:
    """A figure that needs no display, and its axes.

    Raises:
        DependencyMissing: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyMissing(
            f"--plots needs matplotlib, which cannot be loaded ({error}); run: pip install 'facecam[eval]'"
        ) from error
    figure = Figure(figsize=(6.4, 4.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _save(figure: Any, folder: Path, name: str) -> Path:
    data = io.BytesIO()
    figure.savefig(data, format="png")
    path = folder / name
    atomic_bytes(path, data.getvalue(), overwrite=True)
    return path


def prepare(folder: Path) -> None:
    """Make the folder for the plots and see that they can be drawn, before the long work begins.

    Raises:
        OutputError: the folder cannot be made. DependencyMissing: matplotlib is not installed.
    """
    _figure()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error


def plot_pairs(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """roc.png (both kinds of vectors) and scores.png (histogram of the mirror-averaged similarities)."""
    figure, axes = _figure()
    for variant in VARIANTS:
        curve, accuracy = result[variant]["roc"], result[variant]["accuracy"]
        far = [max(_FLOOR, v) for v in curve["far"]]
        axes.plot(far, curve["tar"], drawstyle="steps-post", label=f"{_TITLES[variant]}: accuracy {accuracy:.4f}")
    lowest = min(result[variant]["tar_at_far"]["0.0001"] for variant in VARIANTS)  # where the axis begins
    axes.set(xscale="log", xlim=(1e-4, 1), ylim=(max(0.0, math.floor(lowest * 20 - 0.5) / 20), 1.005))
    axes.set(xlabel="false accept rate", ylabel="true accept rate", title=_title(result, "ROC"))
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="lower right")
    paths = [_save(figure, folder, "roc.png")]
    figure, axes = _figure()
    scores = result["mirror"]["scores"]
    step = (scores["to"] - scores["from"]) / len(scores["genuine"])
    places = [scores["from"] + step * i for i in range(len(scores["genuine"]))]
    for kind, label in (("impostor", "two people"), ("genuine", "one person")):
        axes.bar(places, scores[kind], width=step, align="edge", alpha=0.6, label=f"{label}: {sum(scores[kind])} pairs")
    axes.axvline(result["threshold"], color="black", linestyle="--", label=f"threshold {result['threshold']:.4f}")
    axes.set(xlabel="cosine similarity", ylabel="pairs", title=_title(result, "Similarities"))
    axes.legend()
    paths.append(_save(figure, folder, "scores.png"))
    return paths


def plot_openset(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """det.png: known people missed against strangers named; both axes logarithmic."""
    figure, axes = _figure()
    for variant in VARIANTS:
        draws = result[variant].get("draws")
        title = _TITLES[variant] + (", the first draw" if draws else "")
        curve = result[variant]["det"]
        points = [(f, m) for f, m in zip(curve["fpir"], curve["fnir"]) if f > 0]
        axes.plot([f for f, _ in points], [max(1e-3, m) for _, m in points], drawstyle="steps-post", label=title)
    here = result["at_default"]
    if here["fpir"] > 0:
        axes.plot(here["fpir"], max(1e-3, 1 - here["dir"]), "kx", label="at the tool's own threshold")
    axes.set(xscale="log", yscale="log", xlim=(None, 1), ylim=(1e-3, 1))
    axes.set(xlabel="FPIR: strangers with a false name", ylabel="FNIR: known people not recognised")
    axes.set(title=_title(result, "DET"))
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="lower left")
    return [_save(figure, folder, "det.png")]


def _title(result: Mapping[str, Any], what: str) -> str:
    return f"{what}, pack {result['pack']}"
