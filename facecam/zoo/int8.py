"""Writes ONNX of dlib's detector and embedder in 8-bit integers, of which CPUs multiply more at a time than of float32.

Weights are int8 with a scale for each output channel and use seven of their bits (`WEIGHT_LIMIT`), activations uint8
with one scale a layer. The layers' ranges were measured on photos (``python -m benchmarks.ranges``) and stand in
int8.json; the weights come from pip and are rounded here, on first use. The graphs eat uint8 pictures as OpenCV holds
them, N x height x width x 3, without a copy: the pixels are the first layer's integers. ONNX Runtime's own operators
(com.microsoft) take the channels last.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facecam.video.cv import import_cv2
from facecam.zoo.dlib import Array, Conv, EmbedderWeights, read_embedder
from facecam.zoo.dlib_onnx import Graph, detector_card, embedder_card, folded_input, read_folded_detector, scored

#: Pictures for the int8 detector are a multiple of this wide: its first layer takes as many neighbouring pixels for one
#: cell of 3 times as many channels. With three channels a layer of 8-bit products is slower than in float32.
BLOCK: Final = 4
#: The same for the embedder, whose crops are 150 pixels wide.
_CROP_BLOCK: Final = 2
#: Largest weight. A CPU with AVX2 but no VNNI adds two products in 16 bits, where 255 * 64 * 2 just fits. With 127
#: vectors were as far as cosine 0.88 from float32 on one; with 64 they are the same on all, and hardly less exact.
WEIGHT_LIMIT: Final = 64
#: CV_CPU_AVX2 of OpenCV's cvdef.h; OpenCV 5 has no name for it in Python.
_AVX2: Final = 11
_MICROSOFT: Final = "com.microsoft"


@functools.cache
def ranges() -> Mapping[str, list[tuple[float, float]]]:
    """Role -> smallest and largest activation of each layer, in the order of the network."""
    text = importlib.resources.files("facecam.zoo").joinpath("int8.json").read_text(encoding="utf-8")
    data = json.loads(text)
    return {role: [(float(low), float(high)) for low, high in data[role]] for role in ("detector", "embedder", "pairs")}


def usable() -> bool:
    """Whether this CPU is quicker in 8-bit integers: it has AVX2. Others, ARM's among them, were not tried."""
    return bool(import_cv2().checkHardwareSupport(_AVX2))


def detector(data: bytes) -> bytes:
    """The int8 detector out of its dlib file; its picture's width is a multiple of `BLOCK`."""
    *convs, last = read_folded_detector(data)
    g = Quantised()
    x = _Map("image", np.float32(1.0), 0)
    for i, (conv, limits) in enumerate(zip(convs, ranges()["detector"], strict=True)):
        x = g.blocked(x, conv, limits, BLOCK) if i == 0 else g.conv8(x, conv, limits)
    scored(g, g.add("Transpose", g.floating(x), perm=[0, 3, 1, 2]), last)
    return g.model(
        [g.pixels("image", ["batch", "height", "width", 3])],
        [g.floats("score", ["batch", 1, "rows", "cols"])],
        detector_card(),
    )


def embedder(data: bytes) -> bytes:
    """The int8 embedder out of its dlib file; it keeps the vector space of the float32 one."""
    g = Quantised()
    g.add("LpNormalization", embed8(g, read_embedder(data), "embedder", "crop"), name="embedding", axis=1, p=2)
    return g.model(
        [g.pixels("crop", ["batch", 150, 150, 3])], [g.floats("embedding", ["batch", 128])], embedder_card(data)
    )


def embed8(g: Quantised, weights: EmbedderWeights, measured: str, crops: str) -> str:
    """The network from crops (BGR uint8, N x 150 x 150 x 3) to 128 values, not normalised.

    Args:
        measured: key of `ranges`, for these weights.
    """
    limits = iter(ranges()[measured])
    x = g.blocked(_Map(crops, np.float32(1.0), 0), folded_input(weights.stem), next(limits), _CROP_BLOCK)
    x = x.at(g.add("NhwcMaxPool", x.name, domain=_MICROSOFT, kernel_shape=[3, 3], strides=[2, 2]))
    side, channels = 35, 32  # as in zoo.dlib_onnx.embedder, which says what is padded and why
    for first, second in weights.blocks:
        y = g.conv8(g.conv8(x, first, next(limits)), second, next(limits))
        out = second.weight.shape[0]
        if first.stride == 2:
            y_side, skip_side = (side - 3) // 2 + 1, side // 2
            side = max(y_side, skip_side)
            x = g.pad8(g.average8(x), out - channels, side - skip_side)
            y = g.pad8(y, 0, side - y_side)
        channels = out
        x = g.add8(x, y, next(limits))
    flat = g.add("ReduceMean", g.floating(x), axes=[1, 2], keepdims=0)
    return g.add("MatMul", flat, g.const(weights.fc))


class _Map:
    """A uint8 feature map: real = scale * (value - zero)."""

    def __init__(self, name: str, scale: np.float32, zero: int) -> None:
        self.name, self.scale, self.zero = name, scale, zero

    def at(self, name: str) -> _Map:
        """Another map of the same scale."""
        return _Map(name, self.scale, self.zero)


def _scale_of(limits: tuple[float, float]) -> tuple[np.float32, int]:
    """Scale and zero point of a layer's range; zero itself is always exact."""
    low, high = min(0.0, limits[0]), max(0.0, limits[1])
    scale = np.float32(max(high - low, 1e-6) / 255)
    return scale, round(-low / float(scale))


def blocked(weight: Array, block: int) -> Array:
    """A convolution of stride 2 (out x in x kh x kw) on cells of ``block`` pixels side by side.

    Returns:
        (out * block / 2) x (in * block) x kh x cells, to be run with stride (2, 1): each cell gives its block / 2
        outputs one after the other, so that the result, seen as pixels again, is the same picture.
    """
    out, channels, kh, kw = weight.shape
    count = block // 2
    cells = -(-(2 * (count - 1) + kw) // block)
    made = np.zeros((count, out, block, channels, kh, cells), np.float32)
    for k in range(count):
        for x in range(kw):
            cell, pixel = divmod(2 * k + x, block)
            made[k, :, pixel, :, :, cell] = weight[:, :, :, x].transpose(0, 1, 2)
    return made.reshape(count * out, block * channels, kh, cells)


class Quantised(Graph):
    """Layers on uint8 maps, channels last."""

    def pixels(self, name: str, shape: list[Any]) -> Any:
        return self.onnx.helper.make_tensor_value_info(name, self.onnx.TensorProto.UINT8, shape)

    def scale(self, x: _Map) -> tuple[str, str]:
        return self.const(x.scale), self.const(x.zero, np.uint8)

    def floating(self, x: _Map) -> str:
        return self.add("DequantizeLinear", x.name, *self.scale(x))

    def conv8(self, x: _Map, conv: Conv, limits: tuple[float, float], strides: list[int] | None = None) -> _Map:
        """A convolution; where the range begins at zero, the rounding to uint8 is the ReLU."""
        steps = np.maximum(np.abs(conv.weight).max(axis=(1, 2, 3)), 1e-8) / WEIGHT_LIMIT
        weight = np.clip(np.rint(conv.weight / steps[:, None, None, None]), -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8)
        bias: NDArray[np.int32] = np.rint(conv.bias / (x.scale * steps)).astype(np.int32)
        scale, zero = _scale_of(limits)
        y = _Map("", scale, zero)
        y.name = self.add(
            "QLinearConv", x.name, *self.scale(x),
            self.const(weight, np.int8), self.const(steps), self.const(np.zeros(len(steps)), np.int8),
            *self.scale(y), self.const(bias, np.int32),
            domain=_MICROSOFT, channels_last=1, kernel_shape=list(weight.shape[2:]),
            strides=strides or [conv.stride] * 2, pads=[conv.pad] * 4,
        )  # fmt: skip
        return y

    def blocked(self, x: _Map, conv: Conv, limits: tuple[float, float], block: int) -> _Map:
        """A first convolution of stride 2 on pixels; see `blocked`."""
        out, channels = conv.weight.shape[:2]
        cells = x.at(self.add("Reshape", x.name, self.const([0, 0, -1, block * channels], np.int64)))
        wide = Conv(blocked(conv.weight, block), np.tile(conv.bias, block // 2), conv.stride, conv.pad)
        y = self.conv8(cells, wide, limits, [2, 1])
        return y.at(self.add("Reshape", y.name, self.const([0, 0, -1, out], np.int64)))

    def average8(self, x: _Map) -> _Map:
        """The mean of each 2 x 2 cells."""
        return x.at(
            self.add("QLinearAveragePool", x.name, *self.scale(x), *self.scale(x), domain=_MICROSOFT,
                     channels_last=1, kernel_shape=[2, 2], strides=[2, 2])
        )  # fmt: skip

    def pad8(self, x: _Map, channels: int, side: int) -> _Map:
        """Zeros at the end of rows, columns and channels."""
        if not channels and not side:
            return x
        pads = self.const([0, 0, 0, 0, 0, side, side, channels], np.int64)
        return x.at(self.add("Pad", x.name, pads, self.const(x.zero, np.uint8)))

    def add8(self, a: _Map, b: _Map, limits: tuple[float, float]) -> _Map:
        """The sum; see `conv8` for the ReLU."""
        scale, zero = _scale_of(limits)
        y = _Map("", scale, zero)
        y.name = self.add("QLinearAdd", a.name, *self.scale(a), b.name, *self.scale(b), *self.scale(y),
                          domain=_MICROSOFT)  # fmt: skip
        return y
