"""What a training step is fed: the order of an epoch, cached features, and forward passes for judging."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from facecam.errors import ModelInvalid
from train import augment, networks, openset
from train.data import Item
from train.recipe import Recipe


def batches(recipe: Recipe, labels: Tensor, epoch: int) -> list[list[int]]:
    """The order of an epoch: a function of seed and epoch alone."""
    generator = torch.Generator().manual_seed(augment.picture_seed(recipe.seed, epoch, -1))
    if recipe.balance in ("sampler", "root"):
        power = -1.0 if recipe.balance == "sampler" else -0.5
        weights = (torch.bincount(labels).clamp(min=1).float() ** power)[labels]
        order = torch.multinomial(weights, len(labels), replacement=True, generator=generator)
    else:
        order = torch.randperm(len(labels), generator=generator)
    rows = [row.tolist() for row in order.split(recipe.batch)]
    return rows[:-1] if len(rows) > 1 and len(rows[-1]) == 1 else rows  # batch norm cannot learn from one


def loader(dataset: torch.utils.data.Dataset, order: list[list[int]], workers: int) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(
        dataset,
        batch_sampler=order,
        num_workers=workers,
        generator=torch.Generator(),
        pin_memory=torch.cuda.is_available(),
    )


class Features(torch.utils.data.Dataset):
    """What the part of a network that does not learn makes of pictures, computed once, kept as fp16.

    Each epoch takes one of a picture's views; the first view is the picture as validation sees it.

    Args:
        function: normalised pictures N x 3 x S x S -> maps or vectors.
        views: pictures made of each picture.
        memo: rows (views x ...) by picture content that are known already; new ones are added. For several runs
            over one set of pictures with one recipe (benchmarks/train_metric.py).
    """

    def __init__(
        self,
        function: Any,
        network: networks.Network,
        pictures: augment.Pictures,
        recipe: Recipe,
        device: torch.device,
        views: int,
        memo: dict[str, Tensor] | None = None,
    ) -> None:
        self.items, self.labels = pictures.items, pictures.labels
        self.seed, self.epoch = recipe.seed, 0
        memo = {} if memo is None else memo
        if missing := tuple(item for item in pictures.items if len(memo.get(item.digest, ())) < views):
            rows = self._compute(function, network, missing, pictures.preset, recipe, device, views)
            memo |= {item.digest: row for item, row in zip(missing, rows)}
        self.views = torch.stack([memo[item.digest][:views] for item in pictures.items])

    @staticmethod
    def _compute(
        function: Any,
        network: networks.Network,
        items: tuple[Item, ...],
        preset: str,
        recipe: Recipe,
        device: torch.device,
        views: int,
    ) -> Tensor:
        """N x views x ..., fp16."""
        parts = []
        for view in range(views):
            pictures = augment.Pictures(items, recipe.size, preset if view else "none", recipe.seed)
            pictures.epoch = view
            parts.append(forward_all(lambda x: function(x).half(), network, pictures, recipe, device))
        return torch.stack(parts, dim=1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        view = augment.picture_seed(self.seed, self.epoch, f"view {index}") % self.views.shape[1]
        return self.views[index, view].float(), self.labels[index], index


@torch.inference_mode()
def forward_all(
    function: Any,
    network: networks.Network,
    pictures: torch.utils.data.Dataset,
    recipe: Recipe,
    device: torch.device,
) -> Tensor:
    """Run a function of normalised pictures (or of features) over a data set, in order: N x anything, on the CPU."""
    network.eval()
    order = [list(range(i, min(i + recipe.batch, len(pictures)))) for i in range(0, len(pictures), recipe.batch)]
    found = []
    for images, _, _ in loader(pictures, order, recipe.workers):
        if images.dtype == torch.uint8:
            images = augment.normalise(images.to(device), network.mean, network.std)
        found.append(function(images.to(device)).cpu())
    return torch.cat(found) if found else torch.empty(0)


def judge(
    function: Any, network: networks.Network, part: Any, recipe: Recipe, device: torch.device, classes: int
) -> dict[str, float]:
    """Loss and score on validation data: accuracy over the known classes, or DIR at FPIR 1 % for an embedder.

    Raises:
        ModelInvalid: an output is not finite; no training loss has seen what an epoch's last step did.
    """
    output = forward_all(function, network, part, recipe, device)
    if not torch.isfinite(output).all():
        raise ModelInvalid(
            f"outputs on validation pictures are not finite; lower --lr (now {recipe.lr}) and start again"
        )
    if recipe.metric:
        figures = openset.evaluate(output.numpy(), part.items, seed=recipe.seed)
        return {"val_loss": 1 - figures["verification"], "val_score": figures["dir_1"]}
    labels = torch.tensor(part.labels)
    return {
        "val_loss": float(F.cross_entropy(output, labels)),
        "val_score": float((output[:, :classes].argmax(1) == labels).float().mean()),
    }
