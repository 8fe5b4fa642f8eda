"""Trains the scout, which tells the face detector where to look (facecam.vision.scout).

It learns from scenes and what the detector says of them (python -m benchmarks.scenes), so that it knows what the
detector takes for a face, in a picture in which that face is 24 or 34 pixels large instead of 80.

Example: python -m train.scout scenes-*.npz --out scout.pt
         python -m export.scout scout.pt -o facecam/zoo/scout.onnx
"""

from __future__ import annotations

import io
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from facecam.errors import FacecamError, ModelInvalid
from train.checkpoint import write_atomic
from train.weights import read_weights

#: Channels and stride of each layer, all of 3 x 3: one cell of the result is 8 x 8 pixels and has seen 55 x 55.
PLAN = ((8, 2), (16, 2), (24, 1), (32, 2), (32, 1), (32, 1))
#: The detector's answers between which a cell is held to be something between no face and a face.
NO_FACE, FACE = -0.6, 0.0
#: How much more a missed face counts than a false hint, which costs one small crop.
MISSED = 6.0
#: Scenes that are kept to judge with; the pictures of a step.
KEPT, BATCH = 400, 32
RATE, DECAY = 3e-3, 1e-4
#: Probabilities from which a cell is called a hint in the table that is printed.
LIMITS = (0.02, 0.05, 0.1, 0.2, 0.5)


class Scout(nn.Module):
    """Six convolutions; two maps of logits: faces of 24 pixels, and of 34."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for out, stride in PLAN:
            layers += [nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            width = out
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(width, 2, 1)
        nn.init.constant_(self.head.bias, -4.0)  # most cells show no face

    def forward(self, pixels: Tensor) -> Tensor:
        """BGR, 0 to 255, N x 3 x H x W -> logits, N x 2 x H/8 x W/8 (rounded up)."""
        found: Tensor = self.head(self.body(pixels / 64.0))
        return found


def load(path: Path) -> Scout:
    """A trained scout.

    Raises:
        ModelInvalid: another network's weights.
    """
    scout = Scout()
    try:
        scout.load_state_dict(read_weights(path))
    except RuntimeError as error:
        raise ModelInvalid(f"{path}: not a scout; python -m train.scout writes one") from error
    return scout.eval()


def read(paths: tuple[Path, ...]) -> tuple[Tensor, Tensor]:
    """Scenes (uint8, N x 3 x S x S) and the detector's best answers (float32, N x 2 x S/8 x S/8)."""
    seen, said = [], []
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as stored:
                seen.append(torch.from_numpy(stored["seen"]).permute(0, 3, 1, 2))
                said.append(torch.from_numpy(stored["said"]).float())
        except (OSError, ValueError, KeyError) as error:
            raise ModelInvalid(f"{path}: no scenes; python -m benchmarks.scenes makes them") from error
    return torch.cat(seen), torch.cat(said)


def judged(scout: Scout, seen: Tensor, said: Tensor) -> list[tuple[float, float, float]]:
    """For each of `LIMITS`: the limit, the share of faces with a hint beside them, and hints for each face."""
    scout.eval()
    with torch.no_grad():
        logits = torch.cat([scout(part.float()) for part in seen.split(64)])
    sure = torch.sigmoid(logits)
    near = functional.max_pool2d(sure, 3, 1, 1)
    faces = (said > FACE) & (said >= functional.max_pool2d(said, 3, 1, 1))
    count = max(1, int(faces.sum()))
    return [
        (limit, float((near[faces] > limit).sum()) / count, float(((sure >= near) & (sure > limit)).sum()) / count)
        for limit in LIMITS
    ]


def fit(seen: Tensor, said: Tensor, epochs: int, seed: int) -> Scout:
    """Train on all but the last `KEPT` scenes, and print how it goes."""
    torch.manual_seed(seed)
    count = len(seen) - KEPT
    if count < BATCH:
        raise ModelInvalid(f"{len(seen)} scenes are too few: {KEPT} are kept to judge with, and {BATCH} are one step")
    scout = Scout().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(scout.parameters(), lr=RATE, weight_decay=DECAY)
    steps = count // BATCH
    pace = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=epochs * steps, pct_start=0.15)
    for epoch in range(epochs):
        scout.train()
        total = 0.0
        for some in torch.randperm(count)[: steps * BATCH].split(BATCH):
            pixels, answers = seen[some].float(), said[some]
            if torch.rand(()) < 0.5:
                pixels, answers = pixels.flip(3), answers.flip(3)
            # Light of its own for each picture: contrast about the middle, and brightness.
            contrast, light = (amount * torch.randn(len(some), 1, 1, 1) for amount in (0.2, 12.0))
            pixels = (pixels - 127) * (1 + contrast) + light + 127
            wanted = ((answers - NO_FACE) / (FACE - NO_FACE)).clamp(0, 1)
            loss = functional.binary_cross_entropy_with_logits(
                scout(pixels.contiguous(memory_format=torch.channels_last)),
                wanted,
                weight=1 + (MISSED - 1) * wanted,
                reduction="sum",
            )
            loss = loss / BATCH
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            pace.step()
            total += float(loss.detach())
        click.echo(f"epoch {epoch + 1}: loss {total / steps:.2f}")
    return scout


@click.command(epilog="Example: python -m train.scout scenes-*.npz --out scout.pt")
@click.argument("scenes", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File of weights to write.")
@click.option("--epochs", type=click.IntRange(1), default=12, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def main(scenes: tuple[Path, ...], out: Path, epochs: int, seed: int) -> None:
    """Train the scout on SCENES, which python -m benchmarks.scenes made."""
    try:
        seen, said = read(scenes)
        scout = fit(seen, said, epochs, seed)
        click.echo(f"{KEPT} scenes that it did not learn from:")
        for limit, found, hints in judged(scout, seen[-KEPT:], said[-KEPT:]):
            click.echo(f"hint from {limit:.2f}: {found:.2%} of faces hinted at, {hints:.2f} hints for each")
        held = io.BytesIO()
        torch.save(scout.state_dict(), held)
        write_atomic(out, held.getvalue())
    except FacecamError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
