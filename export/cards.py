"""The card of an exported model, and the threshold in it: found on data, said in a sentence."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export import impostors
from export.to_onnx import INPUT, output_name
from facecam.errors import MediaError, UsageFault
from facecam.zoo.card import ModelCard, Threshold, vector_space
from train import augment, data, evaluate, openset, picture, weights
from train.evaluate import Run

#: Of the right answers on validation pictures, this share may be refused where no strangers are given.
REFUSED = 0.01


@dataclass(frozen=True, slots=True)
class Found:
    """A threshold and what it does.

    Attributes:
        known: share of the validation pictures that are named, and rightly. strangers: share named; None without any.
        impostor: an embedder's impostor curve, where there were people enough to measure one.
        warning: why the threshold may not keep what was asked for; "" where it does.
    """

    threshold: Threshold
    known: float | None = None
    strangers: float | None = None
    impostor: dict[str, Any] | None = None
    warning: str = ""


def pictures_below(
    folder: Path, limit: int, seed: int = 1, *, crop: str = "image"
) -> tuple[tuple[data.Item, ...], list[tuple[str, str]]]:
    """Usable pictures of a folder and its sub-folders, at most ``limit``, spread evenly by chance.

    Returns:
        the pictures, and (path, reason) of those that cannot be used.

    Raises:
        UsageFault: there are none, or they are not the crops that the model eats.
    """
    walk = os.walk(folder, followlinks=True)
    files = sorted(
        Path(where) / n for where, _, names in walk for n in names if Path(n).suffix.lower() in picture.SUFFIXES
    )
    if not files:
        raise UsageFault(f"{folder}: expected a folder with pictures (crops: see facecam crop); found none")
    order = np.random.default_rng(seed).permutation(len(files))[:limit]
    items, skipped = [], []
    for path in (files[i] for i in sorted(order)):
        try:
            items.append(data.Item(str(path), 0, "", "", size=picture.check_picture(path, path.read_bytes())))
        except (OSError, MediaError) as error:
            skipped.append((str(path), str(error)))
    if not items:
        path, reason = skipped[0]
        raise UsageFault(
            f"{folder}: none of the {len(skipped)} pictures can be used, the first is {path} ({reason}); give others"
        )
    evaluate.check_crops(folder, items, crop)
    return tuple(items), skipped


def classifier_threshold(run: Run, known: Sequence[data.Item], strangers: Sequence[data.Item], risk: float) -> Found:
    """The probability from which a name is said.

    Args:
        known: validation pictures, labelled. strangers: pictures of none of the classes.
        risk: share of the strangers that may get a name.
    """
    device = torch.device("cpu")
    if not known:
        return Found(Threshold(0.5, "probability", "not calibrated: no validation pictures were at hand"))
    rows = evaluate.outputs(run, known, device)
    right = rows.argmax(axis=1) == np.array([item.label for item in known])
    top = rows.max(axis=1)
    warning = ""
    if strangers:
        best = np.sort(evaluate.outputs(run, strangers, device).max(axis=1))[::-1]
        value = float(np.nextafter(best[min(len(best) - 1, int(risk * len(best)))], np.float32(2)))
        value = min(value, 1.0)
        count = int((best >= value).sum())
        how = f"{count} of {len(best)} pictures of strangers get a name (asked: at most {risk:.2%})"
        if count > risk * len(best):
            warning = f"no threshold keeps the risk of {risk:.2%}: {how}; train with others=DIR, or on more pictures"
        elif 0 < risk * len(best) < 1:
            warning = (
                f"{len(best)} pictures of strangers cannot show a risk of {risk:.2%}: {math.ceil(1 / risk)} or more "
                "do; give more with --unknown, or a larger --risk"
            )
    else:
        best = np.empty(0)
        value = float(np.quantile(top[right], REFUSED)) if right.any() else 0.5
        how = f"{REFUSED:.0%} of the right answers on {len(known)} validation pictures are refused; no strangers given"
    named = float((right & (top >= value)).mean())
    how += f"; {named:.1%} of {len(known)} validation pictures are named rightly"
    share = float((best >= value).mean()) if len(best) else None
    return Found(Threshold(value, "probability", how), named, share, warning=warning)


def embedder_threshold(run: Run, calibrate: Sequence[data.Item], trained: Sequence[data.Item]) -> Found:
    """The cosine at which 1 % of the strangers among the calibration people are taken for somebody enrolled.

    Args:
        calibrate: the calibration people's pictures. trained: those that the run learnt from; should be of others.
    """
    if not calibrate:
        raise UsageFault("an embedder's threshold needs its calibration people; give the crops with --data")
    cpu = torch.device("cpu")
    figures = openset.evaluate(evaluate.outputs(run, calibrate, cpu), calibrate, seed=run.recipe.seed)
    still = evaluate.outputs(run, calibrate, cpu, mirror=True)
    curve = impostors.measure(still, np.array([item.label for item in calibrate]))
    seen = data.shared(calibrate, trained)
    how = (
        f"FPIR 1 % on {figures['strangers']} strangers against {figures['enrolled']} enrolled people, "
        f"{seen or 'none'} of them trained on; {figures['dir_1']:.1%} of {figures['probes']} probes are named rightly"
    )
    warning = "the threshold is that of people who were trained on; keep people apart with --split" if seen else ""
    return Found(Threshold(figures["threshold_1"], "cosine", how), figures["dir_1"], 0.01, curve, warning)


def make(run: Run, found: Found, *, name: str, licence: str, precision: str) -> ModelCard:
    """Everything that facecam must know of the model."""
    recipe, metric = run.recipe, run.recipe.metric
    mean, std = run.network.mean, run.network.std
    start = run.state["origin"] if recipe.weights != "none" else "random weights"
    space = None
    if metric:
        source = weights.fingerprint(run.network).encode()
        space = vector_space(source, colour="RGB", mean=mean, std=std, template=recipe.crop, mirror=recipe.mirror)
    return ModelCard(
        name=name,
        kind="embedder" if metric else "classifier",
        input=INPUT,
        size=(recipe.size, recipe.size),
        colour="RGB",
        mean=mean,
        std=std,
        outputs=(output_name(metric),),
        licence=licence,
        source=f"python -m train, recipe {recipe.name}",
        dim=run.network.width if metric else 0,
        template=recipe.crop,
        labels=() if metric else tuple(run.classes),
        threshold=found.threshold,
        space=space,
        mirror=metric and recipe.mirror,
        training={
            "recipe": recipe.name,
            "arch": recipe.arch,
            "weights": Path(recipe.weights).name,
            "start": start,
            "objective": recipe.objective,
            "augment": recipe.augment,
            "split": Path(recipe.split).name,
            "epochs": len(run.state["history"]),
            "data_sha256": run.state["data"],
            "classes": len(run.classes),
            "seed": recipe.seed,
            "precision": precision,
            **({"impostor": found.impostor} if found.impostor else {}),
        },
    )


def preprocess(run: Run, items: Sequence[data.Item]) -> np.ndarray:
    """Pictures as the graph eats them: float32 N x 3 x S x S."""
    plain = augment.Pictures(tuple(items), run.recipe.size, "none", run.recipe.seed, keep=0)
    batch = torch.stack([plain[i][0] for i in range(len(plain))])
    return augment.normalise(batch, run.network.mean, run.network.std).numpy()
