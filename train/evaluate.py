"""A trained run, loaded again: on a part of its data, or on any pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from facecam.errors import ModelInvalid, UsageFault
from facecam.zoo.card import TEMPLATES
from train import augment, checkpoint, data, feed, networks
from train.crowding import Crowding
from train.recipe import Recipe, from_dict, people_of


@dataclass(frozen=True, slots=True)
class Run:
    """A checkpoint, ready to look at pictures.

    Attributes:
        state: everything that the checkpoint says (history, data hash, starting weights).
    """

    network: networks.Network
    recipe: Recipe
    classes: list[str]
    state: dict[str, Any]


def load_run(path: Path, device: torch.device | None = None) -> Run:
    """Load best.pt of a run folder, or a checkpoint file.

    Raises:
        ModelMissing, ModelInvalid: no checkpoint there, or a damaged one.
    """
    file = checkpoint.find(path)
    state = checkpoint.load(file, checkpoint.RUN)
    if path.is_dir() and (path / "last.pt").is_file():
        # The best epoch's ends with itself.
        state["history"] = checkpoint.load(path / "last.pt", ("history",))["history"]
    try:
        recipe = from_dict(state["recipe"])
        # The weights come from the checkpoint: nothing is downloaded or read for the start.
        network = networks.build(replace(recipe, weights="none"), state["outputs"])
        if (centres := state["model"].get("crowding.centres")) is not None:
            network.crowding = Crowding(*centres.shape)
        network.load_state_dict(state["model"])
        network.mean, network.std = tuple(state["mean"]), tuple(state["std"])
        classes = list(state["classes"])
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ModelInvalid(
            f"{file}: its recipe and its weights do not fit together ({str(error).splitlines()[0]}); train again"
        ) from error
    network.eval().to(device or torch.device("cpu"))
    return Run(network, recipe, classes, state)


def load_data(root: Path, recipe: Recipe) -> data.Corpus:
    """The data set as a recipe splits it.

    Raises:
        UsageFault: it is not there, holds too little, or not the crops that the recipe wants.
    """
    corpus = data.load(
        root,
        val=recipe.val,
        test=recipe.test,
        seed=recipe.seed,
        min_images=recipe.min_images,
        people=people_of(recipe.split),
    )
    check_crops(root, (*corpus.train, *corpus.val, *corpus.test), recipe.crop)
    if recipe.others:
        corpus = data.with_background(corpus, Path(recipe.others))
        check_crops(Path(recipe.others), corpus.background, recipe.crop)
    return corpus


def part_of(corpus: data.Corpus, name: str) -> tuple[data.Item, ...]:
    """The items of "train", "val", "test" or "all".

    Raises:
        UsageFault: that part is empty.
    """
    part = corpus.train + corpus.val + corpus.test if name == "all" else getattr(corpus, name)
    if not part:
        raise UsageFault(f"{corpus.root}: the {name} part is empty; choose another --part")
    return part


def check_classes(run: Run, corpus: data.Corpus) -> None:
    """Raises UsageFault where the folder's classes are not those that the run has learnt."""
    if not run.recipe.metric and list(corpus.classes) != run.classes:
        raise UsageFault(
            f"{corpus.root}: the run knows {len(run.classes)} classes ({', '.join(run.classes[:5])} ...), "
            f"the folder has {len(corpus.classes)} ({', '.join(corpus.classes[:5])} ...); give the matching data"
        )


def check_crops(where: object, items: Sequence[data.Item], crop: str) -> None:
    """Raises UsageFault where pictures are not of the size in which facecam cuts the crop ("image": any will do)."""
    side = TEMPLATES.get(crop)
    wrong = [item for item in items if item.size != (side, side)] if side else []
    if wrong:
        height, width = wrong[0].size
        raise UsageFault(
            f"{where}: {len(wrong)} of {len(items)} pictures are no crops of {crop} ({side} x {side}), the first is "
            f"{wrong[0].path} ({width} x {height}); cut them anew: facecam crop --template {crop} PHOTOS CROPS"
        )


def outputs(run: Run, items: Sequence[data.Item], device: torch.device, *, mirror: bool = False) -> np.ndarray:
    """Probabilities N x C of a classifier, unit vectors N x dim of an embedder: float32.

    Args:
        mirror: average an embedder's vectors with those of the mirror images, unless the network does so itself.

    Raises:
        ModelInvalid: an output is not finite, so that every figure made of it would be wrong.
    """
    pictures = augment.Pictures(tuple(items), run.recipe.size, "none", run.recipe.seed, keep=0)
    function: Any = run.network
    if mirror and not run.recipe.mirror:
        function = lambda x: F.normalize(run.network(x) + run.network(x.flip(3)), dim=1)  # noqa: E731
    found = feed.forward_all(function, run.network, pictures, run.recipe, device)
    if not torch.isfinite(found).all():
        raise ModelInvalid(f"the run's outputs are not finite; train again with a lower --lr (was {run.recipe.lr})")
    # Other people's share of the probability is nobody's: rows may sum to less than 1.
    return (found if run.recipe.metric else found.softmax(dim=1)[:, : len(run.classes)]).numpy()
