"""Recipes: what a training run is told, as one frozen value, read from a small TOML file."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from facecam.errors import UsageFault
from facecam.zoo.card import TEMPLATES

FOLDER = Path(__file__).parent / "recipes"
SPLITS = Path(__file__).parent / "splits"


def _entry(
    default: Any,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
) -> Any:
    return field(default=default, metadata={"choices": choices, "low": low, "high": high, "below": below})


@dataclass(frozen=True, slots=True)
class Recipe:
    """All settings of a run. Units: epochs, pixels, shares from 0 to 1.

    Attributes:
        arch: mlp, cnn, dlib_resnet, a torchvision network or any timm name (train.networks).
        weights: none, imagenet, dlib, or a file.
        size: side of the square input; that of the crop, where the pictures are face crops.
        crop: what a picture shows: "image", or a canonical face crop (facecam.zoo.card.TEMPLATES).
        grey: the network looks at brightness alone (its input still has three channels).
        width, depth, dropout: shape of mlp and cnn; dropout stands before every network's last layer.
        objective: cross entropy, or a loss on embeddings (train.losses): a margin to class centres, or pairs.
        margin, scale, margin_warmup: of a loss on embeddings; the margin grows from 0 over that many epochs.
        distill: weight of the pull towards the starting network's vectors.
        mix: share of the trained weights in the result, the rest are the starting ones.
        mirror: features are the mean over a picture and its mirror image: surer, at twice the time. With bottom
            only the result does so, training and validation on the way see each picture by itself.
        crowding: centres of an embedder's last layer (train.crowding), measured when the rest is trained; 0: none.
        others: folder of other people (DIR/PERSON/*): classes of their own in training, none in the result,
            so that the network learns what a stranger looks like.
        augment: preset of train.augment; views: pictures per picture where features are cached.
        mixup, cutmix: their Beta parameter, 0 is off; cross entropy only.
        balance: none, sampler (rare classes drawn more often, all alike), root (half way there: a class is drawn
            by the square root of its size) or weights (their errors weigh more; cross entropy only).
        freeze: none, backbone (head first, then from the top) or all (features are computed once).
        bottom: stages of dlib_resnet at the bottom that never learn; what they make is computed once.
        head_epochs, unfreeze_every: of freeze = backbone; one more stage opens at each step.
        backbone_lr, stage_decay: discriminative rates: factor of the top stage, and per stage below.
        keep: which epoch becomes best.pt: the best on validation, or the last (where validation is noisy).
        ema: decay of the averaged weights, 0 is off. patience: epochs without a gain, 0 is off.
        val, test: shares split off where the data has no such folder.
        min_images: classes with fewer pictures are left out.
        split: a split by person instead (faces-metric): name of a file in train/splits, or a path.
        amp: auto (bf16 or fp16 on CUDA, off on the CPU), off, bf16.
        threads: CPU threads of torch; workers: processes that load pictures.
    """

    name: str = "custom"
    about: str = ""
    arch: str = "cnn"
    weights: str = "none"
    size: int = _entry(96, low=8, high=2048)
    crop: str = _entry("image", ("image", "dlib-150", "arcface-112"))
    grey: bool = False
    width: int = _entry(32, low=1, high=65_536)
    depth: int = _entry(3, low=1, high=256)
    dropout: float = _entry(0.2, low=0, below=1)
    objective: str = _entry("ce", ("ce", "cosface", "arcface", "pairs"))
    label_smoothing: float = _entry(0.0, low=0, below=1)
    margin: float = _entry(0.25, low=0)
    scale: float = _entry(32.0, low=1)
    margin_warmup: int = _entry(2, low=0)
    distill: float = _entry(0.0, low=0)
    mix: float = _entry(1.0, low=0, high=1)
    mirror: bool = False
    crowding: int = _entry(0, low=0)
    others: str = ""
    augment: str = _entry("none", ("none", "light", "standard", "strong", "face"))
    views: int = _entry(1, low=1, high=1000)
    mixup: float = _entry(0.0, low=0)
    cutmix: float = _entry(0.0, low=0)
    balance: str = _entry("none", ("none", "sampler", "root", "weights"))
    freeze: str = _entry("none", ("none", "backbone", "all"))
    bottom: int = _entry(0, low=0)
    head_epochs: int = _entry(3, low=0)
    unfreeze_every: int = _entry(1, low=1)
    backbone_lr: float = _entry(0.1, low=0)
    stage_decay: float = _entry(0.6, low=0)
    epochs: int = _entry(10, low=1, high=1_000_000)
    batch: int = _entry(64, low=2, high=65_536)
    optimizer: str = _entry("adamw", ("adamw", "sgd"))
    lr: float = _entry(1e-3, low=0)
    weight_decay: float = _entry(0.01, low=0)
    warmup: float = _entry(1.0, low=0)
    clip: float = _entry(5.0, low=0)
    keep: str = _entry("best", ("best", "last"))
    ema: float = _entry(0.0, low=0, below=1)
    patience: int = _entry(0, low=0)
    val: float = _entry(0.1, low=0, below=1)
    test: float = _entry(0.2, low=0, below=1)
    min_images: int = _entry(2, low=2)
    split: str = ""
    amp: str = _entry("auto", ("auto", "off", "bf16"))
    threads: int = _entry(0, low=0, high=1024)
    workers: int = _entry(0, low=0, high=1024)
    seed: int = _entry(1, low=0, high=2**63 - 1)

    def __post_init__(self) -> None:
        for entry in fields(self):
            value, meta = getattr(self, entry.name), entry.metadata
            wanted = {"str": str, "int": int, "float": (int, float), "bool": bool}[str(entry.type)]
            if not isinstance(value, wanted) or (isinstance(value, bool) and entry.type != "bool"):
                raise UsageFault(f"recipe {self.name}: {entry.name} is of type {entry.type}, not {value!r}")
            if entry.type == "float" and not math.isfinite(value):
                raise UsageFault(f"recipe {self.name}: {entry.name} is a finite number, not {value}")
            if meta.get("choices") and value not in meta["choices"]:
                raise UsageFault(
                    f"recipe {self.name}: {entry.name} is one of {', '.join(meta['choices'])}, not {value!r}"
                )
            if meta.get("low") is not None and value < meta["low"]:
                raise UsageFault(f"recipe {self.name}: {entry.name} is at least {meta['low']}, not {value}")
            if meta.get("high") is not None and value > meta["high"]:
                raise UsageFault(f"recipe {self.name}: {entry.name} is at most {meta['high']}, not {value}")
            if meta.get("below") is not None and value >= meta["below"]:
                raise UsageFault(f"recipe {self.name}: {entry.name} is below {meta['below']}, not {value}")
        side = TEMPLATES.get(self.crop)
        if side and self.size != side:
            raise UsageFault(
                f"recipe {self.name}: crop {self.crop} has {side} px a side, size is {self.size}; give size {side}, "
                "or crop image for whole pictures"
            )
        if self.grey and self.arch not in ("mlp", "cnn"):
            raise UsageFault(
                f"recipe {self.name}: grey (one channel) goes with arch mlp or cnn, not with {self.arch}; leave it out"
            )
        if self.val + self.test >= 0.9:
            raise UsageFault(f"recipe {self.name}: val + test leave too little to train on ({self.val}, {self.test})")
        if self.objective != "ce" and (self.mixup or self.cutmix):
            raise UsageFault(f"recipe {self.name}: mixup and cutmix need the objective ce, not {self.objective}")
        if self.freeze == "all" and (self.mixup or self.cutmix):
            raise UsageFault(f"recipe {self.name}: mixup and cutmix work on pictures, freeze = all on cached features")
        if self.bottom and (self.arch != "dlib_resnet" or self.freeze != "none" or self.bottom > 15):
            raise UsageFault(f"recipe {self.name}: bottom (1 to 15) goes with arch dlib_resnet and freeze none")
        if self.bottom and self.mirror and not self.metric:
            raise UsageFault(
                f"recipe {self.name}: with bottom each picture is learnt by itself, which mirror would change for a "
                "classifier's head; leave out one"
            )
        if self.crowding and not self.metric:
            raise UsageFault(f"recipe {self.name}: crowding is a layer of an embedder, not of objective ce")
        if self.freeze == "all" and self.objective != "ce":
            raise UsageFault(
                f"recipe {self.name}: freeze = all trains a classifier's head; use freeze none or backbone"
            )

    @property
    def metric(self) -> bool:
        """Whether the run trains an embedder instead of a classifier."""
        return self.objective != "ce"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def with_changes(self, **changes: Any) -> Recipe:
        """The recipe with every change that is not None."""
        return replace(self, **{key: value for key, value in changes.items() if value is not None})


def people_of(split: str) -> dict[str, list[str]] | None:
    """The people of a committed split: "train", "calibrate" and "test" -> names; None where none is asked for.

    Raises:
        UsageFault: no such file, or not such a table.
    """
    if not split:
        return None
    path = Path(split) if split.endswith(".json") else SPLITS / f"{split}.json"
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {part: [str(name) for name in table[part]] for part in ("train", "calibrate", "test")}
    except (OSError, ValueError, TypeError, KeyError) as error:
        known = ", ".join(sorted(p.stem for p in SPLITS.glob("*.json")))
        raise UsageFault(
            f"--split {split}: expected a JSON table of train, calibrate, test ({error!r}); there are {known}"
        ) from error


def names() -> list[str]:
    """The recipes that come with the trainer."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Recipe:
    """Read a recipe by name, or any TOML file by its path.

    Raises:
        UsageFault: no such recipe, not TOML, or an entry that does not exist or fit.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageFault(f"no recipe {name!r}; there are {', '.join(names())}, or give a .toml file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageFault(f"{path}: not a readable TOML file ({error})") from error
    return from_dict({"name": path.stem, **table})


def from_dict(table: dict[str, Any]) -> Recipe:
    """Make a recipe of plain values, as a TOML file or a checkpoint holds them."""
    if unknown := sorted(set(table) - {entry.name for entry in fields(Recipe)}):
        raise UsageFault(f"recipe {table.get('name')}: unknown entries {', '.join(unknown)}")
    return Recipe(**table)
