"""Does the file compute what the network computes? Through ONNX Runtime, at several batch sizes."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from facecam.errors import ModelInvalid
from facecam.zoo.card import ModelCard
from facecam.zoo.graph import trial
from facecam.zoo.session import Model, choose_device, load

BATCHES = (1, 3, 8)
#: Largest difference of an output value, and smallest cosine of an output row, by precision.
LIMITS = {"fp32": (1e-4, 0.99999), "fp16": (5e-3, 0.9999), "int8": (0.25, 0.98)}


@dataclass(frozen=True, slots=True)
class Parity:
    """The largest difference and the smallest cosine over all batches."""

    max_abs: float
    cosine: float

    def __str__(self) -> str:
        return f"max abs {self.max_abs:.2e}, cosine {self.cosine:.6f}"


def open_model(data: bytes, threads: int = 0) -> Model:
    """A session on the CPU; the card must be inside."""
    return load(data, device=choose_device("cpu"), threads=threads)


def compare(data: bytes, reference: torch.nn.Module, pictures: np.ndarray, precision: str) -> Parity:
    """Run the file and the network on the same pictures, in batches of 1, 3 and 8.

    Args:
        data: ONNX with a card. reference: torch module, preprocessed pictures -> rows.
        pictures: float32 N x 3 x S x S, N >= 1; repeated as needed.
        precision: key of `LIMITS`.

    Raises:
        ModelInvalid: they differ by more than the limits, or the file's outputs are not finite.
    """
    model = open_model(data)
    worst, closest = 0.0, 1.0
    for size in BATCHES:
        batch = np.resize(pictures, (size, *pictures.shape[1:]))
        with torch.inference_mode():
            wanted = reference(torch.from_numpy(batch)).numpy()
        came = model.run_batch(batch)
        if came.shape != wanted.shape:
            raise ModelInvalid(f"parity at batch {size}: the file gives {came.shape}, the network {wanted.shape}")
        if not np.isfinite(came).all():  # max() and min() below would pass over a NaN
            raise ModelInvalid(f"parity at batch {size}: the outputs are not finite; nothing was written")
        worst = max(worst, float(np.abs(came - wanted).max()))
        norms = np.linalg.norm(came, axis=1) * np.linalg.norm(wanted, axis=1)
        closest = min(closest, float(((came * wanted).sum(axis=1) / norms.clip(1e-12)).min()))
    result = Parity(worst, closest)
    limit, cosine = LIMITS[precision]
    if not (worst <= limit and closest >= cosine):
        raise ModelInvalid(
            f"parity failed: {result}; for {precision} max abs {limit:g} and cosine {cosine:g} are the limits; "
            "nothing was written"
        )
    return result


def milliseconds(model: Model, pictures: np.ndarray, batch: int, repeat: int = 15) -> float:
    """Median time for one picture in a batch of that size."""
    rows = np.resize(pictures, (batch, *pictures.shape[1:]))
    model.run_batch(rows)
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        model.run_batch(rows)
        times.append(time.perf_counter() - began)
    return 1000 * float(np.median(times)) / batch


def self_check(data: bytes, card: ModelCard) -> list[str]:
    """What can be checked of a file without its network; each line says what was found right.

    Raises:
        ModelInvalid: it does not run, or outputs of another shape, not finite, not normalised, or
            that depend on their neighbours in the batch.
    """
    trial(data, card, card.name)
    if card.kind not in ("embedder", "classifier"):  # a detector or landmark model, as facecam itself has them
        return ["a trial run: it gives what its card says"]
    model = open_model(data)
    rng = np.random.default_rng(1)
    noise = (rng.integers(0, 256, (max(BATCHES), 3, *card.size)) - 127.5).astype(np.float32)
    pictures = noise / np.array(card.std, np.float32).reshape(1, 3, 1, 1)
    width = len(card.labels) if card.kind == "classifier" else card.dim
    alone = np.concatenate([model.run_batch(pictures[i : i + 1]) for i in range(len(pictures))])
    for size in BATCHES:
        came = model.run_batch(pictures[:size])
        if came.shape != (size, width):
            raise ModelInvalid(
                f"at batch {size} the outputs are {came.shape}, the card says {(size, width)}; export it again"
            )
        if not np.isfinite(came).all():
            raise ModelInvalid(f"at batch {size} outputs are not finite; export it again")
        if np.abs(came - alone[:size]).max() > 1e-3:
            raise ModelInvalid(f"at batch {size} an output depends on its neighbours; export it again from eval mode")
    lines = [f"batches {', '.join(map(str, BATCHES))}: shape, finite, each row on its own"]
    if card.kind == "embedder":
        norms = np.linalg.norm(alone, axis=1)
        if np.abs(norms - 1).max() > 1e-3:
            raise ModelInvalid(f"vectors have norms {norms.min():.3f} to {norms.max():.3f}, not 1; export it again")
        lines.append("vectors have norm 1")
    else:
        if alone.min() < -1e-4 or (alone.sum(axis=1) > 1 + 1e-3).any():
            raise ModelInvalid("the outputs are no probabilities; export it again")
        lines.append("outputs are probabilities")
    return lines
