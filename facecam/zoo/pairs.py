"""The embedder that this project trained (recipe faces-metric): dlib's network with other weights, and two things more.

Each crop is seen as it is and mirrored, and a last layer stretches distances where faces are crowded (train.crowding).
The file beside this module is what ``python -m export --fp16`` wrote. From its weights the same graphs are made as for
dlib's own embedder, float32 and 8-bit integers, which run faster than torch's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from facecam.errors import ModelInvalid
from facecam.zoo.card import ModelCard
from facecam.zoo.dlib import Array, Conv, EmbedderWeights
from facecam.zoo.dlib_onnx import Graph, embed

FILE: Final = Path(__file__).with_name("dlib-pairs.onnx")
SHA256: Final = "48683b895ec168d2bf426d6d38c175860f75e5307dc2cbcca87fdd632c76850f"
#: As in train.crowding: how many centres tell how crowded it is, and how their similarity becomes a factor.
NEAREST: Final = 5
POWER: Final = 0.25


@dataclass(frozen=True, slots=True)
class Pairs:
    """What the file holds.

    Attributes:
        weights: of the network. centres: float32, D x K, each of norm 1. largest: the factor that is called 1.
        card: as exported.
    """

    weights: EmbedderWeights
    centres: Array
    largest: Array
    card: ModelCard


def convert(data: bytes, precision: str = "fp32") -> bytes:
    """Make the ONNX file that runs.

    Args:
        data: content of `FILE`. precision: "fp32" or "int8".

    Raises:
        ModelInvalid: another content.
    """
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ModelInvalid(
            f"{FILE.name} is not the file that belongs to this facecam; reinstall it: pip install facecam"
        )
    pairs = read(data)
    # As dlib's own: the first convolution eats BGR from 0 to 255.
    card = replace(pairs.card, colour="BGR", mean=(0.0,) * 3, std=(1.0,) * 3)
    if precision == "int8":
        from facecam.zoo.int8 import Quantised, embed8

        small = Quantised()
        finish(small, embed8(small, pairs.weights, "pairs", _both(small, axis=2)), pairs)
        return small.model([small.pixels("crop", ["batch", 150, 150, 3])], [_vectors(small, card)], card)
    g = Graph()
    finish(g, embed(g, pairs.weights, _both(g, axis=3)), pairs)
    return g.model([g.floats("crop", ["batch", 3, 150, 150])], [_vectors(g, card)], card)


def read(data: bytes) -> Pairs:
    """The weights in an exported file, as float32."""
    import onnx

    from facecam.zoo.session import read_card

    tensors = {
        tensor.name.removesuffix(".fp16"): onnx.numpy_helper.to_array(tensor).astype(np.float32)
        for tensor in onnx.load_model_from_string(data).graph.initializer
    }

    def conv(name: str, stride: int, pad: int) -> Conv:
        place = f"network.backbone.{name}"
        return Conv(tensors[f"{place}.weight"], tensors[f"{place}.bias"], stride, pad)

    blocks, channels = [], 32
    for i in range(14):
        out = len(tensors[f"network.backbone.blocks.{i}.first.bias"])
        # The block before last keeps its channels and is halved, too (train.dlibnet.DlibResNet.PLAN).
        down = out != channels or i == 13
        blocks.append((conv(f"blocks.{i}.first", 2 if down else 1, 0 if down else 1), conv(f"blocks.{i}.second", 1, 1)))
        channels = out
    weights = EmbedderWeights(conv("stem", 2, 0), blocks, np.ascontiguousarray(tensors["network.backbone.fc.weight"].T))
    return Pairs(weights, tensors["t"], tensors["network.crowding.largest"], read_card(data))


def _both(g: Graph, axis: int) -> str:
    """The crops, and after them their mirror images."""
    ends = np.iinfo(np.int64).min
    at = [g.const([value], np.int64) for value in (-1, ends, axis, -1)]
    return g.add("Concat", "crop", g.add("Slice", "crop", *at), axis=0)


def finish(g: Graph, raw: str, pairs: Pairs) -> None:
    """From 128 values of the crops and of their mirror images to vectors of norm 1."""
    sides = g.add("LpNormalization", raw, axis=1, p=2)
    sums = g.add(
        "ReduceSum", g.add("Reshape", sides, g.const([2, -1, 128], np.int64)), g.const([0], np.int64), keepdims=0
    )
    unit = g.add("LpNormalization", sums, axis=1, p=2)
    near = g.top(g.add("MatMul", unit, g.const(pairs.centres)), NEAREST)
    free = g.add("Sub", g.const(1.001), g.add("ReduceMean", near, axes=[1], keepdims=1))
    factor = g.add("Div", g.add("Pow", free, g.const(-POWER)), g.const(pairs.largest))
    factor = g.add("Min", factor, g.const(1.0))
    rest = g.add("Sqrt", g.add("Sub", g.const(1.0), g.add("Mul", factor, factor)))
    g.add("Concat", g.add("Mul", unit, factor), rest, name="embedding", axis=1)


def _vectors(g: Graph, card: ModelCard) -> object:
    return g.floats("embedding", ["batch", card.dim])
