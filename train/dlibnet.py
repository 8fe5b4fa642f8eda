"""dlib's face recognition network in torch: the layers of facecam.zoo.dlib, made trainable."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facecam.zoo import dlib

MEAN = dlib.MEAN
STD = (dlib.SCALE,) * 3
SIZE = 150


class _Block(nn.Module):
    """Two 3x3 convolutions and a skip; ``down`` halves the map.

    A down block convolves with stride 2 and no padding while its skip is a 2x2 average pool: the two maps
    differ by a row and a column, and in channels; the sum fills the smaller with zeros at its end, as dlib does.
    """

    def __init__(self, inputs: int, outputs: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.first = nn.Conv2d(inputs, outputs, 3, stride=2 if down else 1, padding=0 if down else 1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.relu(self.first(x)))
        if self.down:
            x = F.avg_pool2d(x, 2)
            rows, columns = max(x.shape[2], y.shape[2]), max(x.shape[3], y.shape[3])
            x = F.pad(x, (0, columns - x.shape[3], 0, rows - x.shape[2], 0, y.shape[1] - x.shape[1]))
            y = F.pad(y, (0, columns - y.shape[3], 0, rows - y.shape[2]))
        return F.relu(x + y)


class DlibResNet(nn.Module):
    """RGB crops, (pixel - MEAN) / STD, N x 3 x 150 x 150 -> 128 values, not normalised.

    The affine layers of dlib's file are folded into the convolutions: there are no statistics to freeze.
    """

    #: Output channels of the blocks; True where the block halves the map.
    PLAN = (
        *((32, False),) * 3, (64, True), *((64, False),) * 3, (128, True), *((128, False),) * 2,
        (256, True), *((256, False),) * 2, (256, True),
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, stride=2)
        blocks, channels = [], 32
        for outputs, down in self.PLAN:
            blocks.append(_Block(channels, outputs, down))
            channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(256, 128, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.upper(self.lower(x, 1), 1)

    def lower(self, x: Tensor, stages: int) -> Tensor:
        """The first ``stages`` stages: the stem, then one for each block."""
        x = F.max_pool2d(F.relu(self.stem(x)), 3, stride=2)
        return self.blocks[: stages - 1](x)

    def upper(self, x: Tensor, stages: int) -> Tensor:
        """What `lower` leaves out: maps to 128 values."""
        return self.fc(self.blocks[stages - 1 :](x).mean(dim=(2, 3)))

    @torch.no_grad()
    def load_dlib(self, data: bytes) -> None:
        """Fill in the weights that pip installed.

        Args:
            data: content of dlib_face_recognition_resnet_model_v1.dat.
        """
        weights = dlib.read_embedder(data)
        pairs = [(self.stem, weights.stem)]
        for block, (first, second) in zip(self.blocks, weights.blocks, strict=True):
            pairs += [(block.first, first), (block.second, second)]
        for layer, conv in pairs:
            layer.weight.copy_(torch.from_numpy(conv.weight.copy()))
            layer.bias.copy_(torch.from_numpy(conv.bias.copy()))
        self.fc.weight.copy_(torch.from_numpy(weights.fc.T.copy()))
