"""How crowded the neighbourhood of a face is, as part of its vector.

Some faces have many that look like them, others hardly any; one threshold for all then names strangers who look like
everybody. Where faces are crowded, distances are stretched, elsewhere they shrink: local scaling (Zelnik-Manor and
Perona 2004), with a fixed cohort of training people, as in speaker recognition's score normalisation (Auckenthaler et
al. 2000). One more coordinate brings every vector back to norm 1, so that a cosine is still all that is needed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: The settings were chosen on calibration people (benchmarks/train_metric.py's splits), before test people were judged.
#: A centre is the mean of that many people who resemble each other: no trained person stands in the file.
PEOPLE = 20
#: Crowded is who is similar to this many centres.
NEAREST = 5
#: Distances are multiplied by (1 - similarity to these centres) to the power of -2 x this.
POWER = 0.25
#: How much more crowded a face may be than the most crowded person of the training set.
ROOM = 1.3


class Crowding(nn.Module):
    """Unit vectors N x D -> unit vectors N x (D + 1): one factor a face on all of its distances.

    For two faces with factors a and b (of the largest one), the new cosine is a b cos + sqrt(1 - a²) sqrt(1 - b²).

    Args:
        centres: how many. dim: D.
    """

    centres: Tensor
    largest: Tensor

    def __init__(self, centres: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.zeros(centres, dim))
        self.register_buffer("largest", torch.ones(()))

    @classmethod
    def measured(cls, vectors: Tensor, labels: Tensor, count: int, seed: int) -> Crowding:
        """From the training people.

        Args:
            vectors: float32 N x D, norm 1. labels: N, whose, 0 to P - 1 with P >= PEOPLE.
            count: centres, at most P.
        """
        people = int(labels.max()) + 1
        means = F.normalize(torch.zeros(people, vectors.shape[1]).index_add_(0, labels, vectors))
        chosen = torch.randperm(people, generator=torch.Generator().manual_seed(seed))[:count]
        alike = (means[chosen] @ means.t()).topk(PEOPLE, dim=1).indices
        made = cls(len(chosen), vectors.shape[1])
        made.centres.copy_(F.normalize(means[alike].mean(dim=1)))
        made.largest.copy_(ROOM * made.factors(means).max())
        return made

    def factors(self, vectors: Tensor) -> Tensor:
        """N x 1: what distances to a face are multiplied by, before the largest is made 1."""
        near = (vectors @ self.centres.t()).topk(min(NEAREST, len(self.centres)), dim=1).values
        return (1.001 - near.mean(dim=1, keepdim=True)) ** -POWER

    def forward(self, vectors: Tensor) -> Tensor:
        factor = (self.factors(vectors) / self.largest).clamp(max=1.0)
        return torch.cat([factor * vectors, (1.0 - factor * factor).sqrt()], dim=1)
