"""Transfer learning: what is frozen when, and how fast each part may learn."""

from __future__ import annotations

import torch
from torch import nn

from train.networks import Network
from train.recipe import Recipe


def open_stages(recipe: Recipe, stages: int, epoch: int) -> int:
    """How many stages, counted from the top, learn in an epoch (from 0)."""
    if recipe.freeze == "all":
        return 0
    if recipe.freeze == "none":
        return stages - recipe.bottom
    if epoch < recipe.head_epochs:
        return 0
    return min(stages, 1 + (epoch - recipe.head_epochs) // recipe.unfreeze_every)


def apply(network: Network, opened: int) -> None:
    """Thaw the top stages and freeze the rest: no gradients, and batch-norm statistics stand still.

    Called after ``network.train()``, which would set every batch norm moving.
    """
    stages = network.stages()
    for parameter in network.backbone.parameters():
        parameter.requires_grad_(opened == len(stages))
    if opened < len(stages):
        network.backbone.eval()
        for _, modules in stages[len(stages) - opened :]:
            for module in modules:
                module.train().requires_grad_(True)


def parameter_groups(network: Network, head: nn.Module, recipe: Recipe) -> list[dict]:
    """The optimizer's groups: the head at the full rate, each stage below slower (Howard and Ruder 2018).

    With freeze = none and random weights there is nothing to preserve: one rate for all. Norms and biases
    (one dimension) do not decay.
    """
    transferred = recipe.weights != "none"
    groups: list[dict] = []

    def add(name: str, parameters: list[nn.Parameter], rate: float) -> None:
        for decay in (recipe.weight_decay, 0.0):
            chosen = [p for p in parameters if (p.ndim > 1) == (decay == recipe.weight_decay)]
            if chosen:
                groups.append({"params": chosen, "lr": rate, "rate": rate, "weight_decay": decay, "name": name})

    add("head", [p for p in head.parameters()], recipe.lr)
    rate = recipe.lr * (recipe.backbone_lr if transferred else 1.0)
    staged: set[int] = set()
    for name, modules in reversed(network.stages()):
        parameters = [p for module in modules for p in module.parameters()]
        staged.update(map(id, parameters))
        add(name, parameters, rate)
        rate *= recipe.stage_decay if transferred else 1.0
    assert all(id(p) in staged for p in network.backbone.parameters()), "a stage is missing"
    return groups


class Averaged:
    """Exponential moving average of all weights and statistics; young averages forget faster."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in network.state_dict().items():
            if value.dtype.is_floating_point:
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)


def mixed(start: dict[str, torch.Tensor], end: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """Weights between two networks of one ancestry (Wortsman et al. 2022): ``share`` of the end."""
    return {
        name: torch.lerp(start[name], value, share) if value.dtype.is_floating_point else value.clone()
        for name, value in end.items()
    }
