"""Objectives: cross entropy for classifiers, margin losses and pairs for embedders, the pull towards a teacher."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MarginHead(nn.Module):
    """Class centres on the sphere; the true class must win by a margin.

    CosFace (Wang et al. 2018): scale * (cos - margin). ArcFace (Deng et al. 2019): scale * cos(angle +
    margin), continued linearly past pi, as ArcFace's authors do, so that the loss stays monotonic.

    Args:
        dim: of the embeddings. classes: people in training.
    """

    def __init__(self, dim: int, classes: int, *, kind: str, margin: float, scale: float) -> None:
        super().__init__()
        self.centres = nn.Parameter(F.normalize(torch.randn(classes, dim)))
        self.kind, self.margin, self.scale = kind, margin, scale

    @torch.no_grad()
    def start_from(self, vectors: Tensor, labels: Tensor) -> None:
        """Put each centre at the mean of its class's embeddings (N x D, unit length)."""
        sums = torch.zeros_like(self.centres).index_add_(0, labels, vectors)
        seen = sums.norm(dim=1) > 1e-6
        self.centres[seen] = F.normalize(sums[seen])

    def forward(self, vectors: Tensor, labels: Tensor, share: float = 1.0, positions: Tensor | None = None) -> Tensor:
        """Cross entropy of unit vectors (N x D) with ``share`` (0 to 1) of the full margin.

        Args:
            positions: of the pictures among all training pictures; not looked at here (see PairMemory).
        """
        with torch.autocast(vectors.device.type, enabled=False):  # 8 bits of mantissa are too few for margins
            return self._loss(vectors.float(), labels, self.margin * share)

    def _loss(self, vectors: Tensor, labels: Tensor, margin: float) -> Tensor:
        cosines = vectors @ F.normalize(self.centres).t()
        true = cosines.gather(1, labels[:, None])
        if self.kind == "cosface":
            harder = true - margin
        else:
            angle = torch.arccos(true.clamp(-1 + 1e-6, 1 - 1e-6))
            harder = torch.where(angle + margin < math.pi, torch.cos(angle + margin), true - margin * math.sin(margin))
        return F.cross_entropy(cosines.scatter(1, labels[:, None], harder) * self.scale, labels)


class PairMemory(nn.Module):
    """Each picture against the last vector of every training picture, with one threshold for all people.

    What identification asks for: a picture lies above the threshold with the other pictures of its person (the
    least similar of them count most), and below it with everybody else's (the most similar count most). The
    memory of vectors is Wang et al.'s (2020, cross-batch memory), the one learnt threshold that of Zhou et al. (2023,
    UniFace). Class centres, which people of a few pictures hardly have, are not needed.

    Args:
        pictures: in training. dim: of the embeddings.
    """

    #: Where dlib's vectors of one person and of two people part; the threshold is learnt from there on.
    START = 0.93

    memory: Tensor
    owners: Tensor

    def __init__(self, dim: int, pictures: int, *, margin: float, scale: float) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(self.START))
        self.register_buffer("memory", torch.zeros(pictures, dim))
        self.register_buffer("owners", torch.zeros(pictures, dtype=torch.long))
        self.margin, self.scale = margin, scale

    @torch.no_grad()
    def start_from(self, vectors: Tensor, labels: Tensor) -> None:
        """Fill the memory with every picture's vector (N x D, unit length) and owner."""
        self.memory.copy_(vectors)
        self.owners.copy_(labels)

    def forward(self, vectors: Tensor, labels: Tensor, share: float = 1.0, positions: Tensor | None = None) -> Tensor:
        """The loss of unit vectors (N x D) at ``positions`` of the memory, which then holds them."""
        if positions is None:
            raise ValueError("a memory of pairs needs the pictures' positions in it")
        with torch.autocast(vectors.device.type, enabled=False):
            loss = self._loss(vectors.float(), labels, positions.to(vectors.device), self.margin * share)
        # A copy: the loss's gradient still looks at the old one.
        self.memory = self.memory.clone().index_put_((positions.to(vectors.device),), vectors.detach().float())
        return loss

    def _loss(self, vectors: Tensor, labels: Tensor, positions: Tensor, margin: float) -> Tensor:
        logits = self.scale * (vectors @ self.memory.t() - self.level)
        same = labels[:, None] == self.owners[None]
        itself = torch.zeros_like(same).scatter_(1, positions[:, None], True)
        others = same & ~itself
        never = -1e4  # a share of nothing in a log of sums, without infinities in the gradient
        strangers = torch.logsumexp(logits.masked_fill(same, never), dim=1)
        apart = torch.logsumexp((self.scale * margin - logits).masked_fill(~others, never), dim=1)
        count = others.sum(dim=1)
        apart = F.softplus(apart - count.clamp(min=1).log()) * (count > 0)
        return F.softplus(strangers + self.scale * margin).mean() + apart.sum() / (count > 0).sum().clamp(min=1)


def margin_share(epoch: float, warmup: int) -> float:
    """Share of the margin at a point of the run: from 0 to 1 over ``warmup`` epochs."""
    return 1.0 if warmup <= 0 else min(1.0, epoch / warmup)


def distillation(vectors: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine between unit vectors (N x D) and the teacher's for the same, unaltered pictures."""
    return (1 - (vectors * teacher).sum(dim=1)).mean()


def soft_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float, weights: Tensor | None) -> Tensor:
    """Cross entropy of N x C logits against N x C target shares.

    Args:
        weights: per class; errors on a class count that much more.
    """
    return F.cross_entropy(logits, targets, weight=weights, label_smoothing=smoothing)


def class_weights(counts: list[int]) -> Tensor:
    """Weights of mean 1 that make every class count the same in total."""
    inverse = 1.0 / torch.tensor(counts, dtype=torch.float32).clamp(min=1)
    return inverse * len(counts) / inverse.sum()
