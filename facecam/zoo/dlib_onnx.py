"""Writes ONNX of dlib's networks, in float32.

The detector and the embedder subtract a mean from RGB and divide by 256 before a convolution without padding;
both are folded into that convolution, so the graphs eat plain BGR 0-255.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from facecam.values import DLIB5
from facecam.zoo.card import METADATA_KEY, ModelCard, vector_space
from facecam.zoo.dlib import (
    DEFAULT_THRESHOLD,
    LICENCE,
    MEAN,
    SCALE,
    SOURCE,
    Conv,
    EmbedderWeights,
    read_detector,
    read_embedder,
    read_landmarks,
)  # fmt: skip

OPSET: Final = 17
#: ONNX Runtime's fast layout for convolutions on CPUs takes channels by 16 (AVX-512) or 8: the detector's 45 are
#: filled up with zeros, which is exact, and takes 1.4 ms where 45 take 3.8 (a 640 x 360 picture, one core).
LANES: Final = 16


class Graph:
    """Collects nodes and constants of an ONNX graph."""

    def __init__(self) -> None:
        import onnx

        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: dict[bytes, Any] = {}
        self.domains: set[str] = set()
        self._named = 0

    def _name(self) -> str:
        self._named += 1
        return f"v{self._named - 1}"

    def const(self, values: Any, dtype: Any = np.float32) -> str:
        array = np.array(values, dtype, order="C")  # keeps a scalar a scalar
        key = hashlib.sha256(repr((array.shape, array.dtype)).encode() + array.tobytes()).digest()
        if key not in self.constants:
            self.constants[key] = self.onnx.numpy_helper.from_array(array, f"c{len(self.constants)}")
        name: str = self.constants[key].name
        return name

    def add(self, op: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        output = self._name()
        output = name or output
        if "domain" in attributes:
            self.domains.add(attributes["domain"])
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def top(self, x: str, count: int) -> str:
        """The ``count`` largest values of each row."""
        values = self._name()
        places = values + "at"
        inputs = [x, self.const([count], np.int64)]
        self.nodes.append(self.onnx.helper.make_node("TopK", inputs, [values, places], axis=1))
        return values

    def loop(self, rounds: int, start: str, shape: list[Any], work: Callable[[str, str], str]) -> str:
        """A float32 value that is worked on so many times.

        Args:
            shape: of the value. work: adds the nodes of one round; is given the round (int64) and the value, gives the
                new value, and may use all that was added before.
        """
        outside, self.nodes = self.nodes, []
        number, more, value, still = (self._name() for _ in range(4))
        result = work(number, value)
        self.nodes.append(self.onnx.helper.make_node("Identity", [more], [still]))
        types, info = self.onnx.TensorProto, self.onnx.helper.make_tensor_value_info
        body = self.onnx.helper.make_graph(
            self.nodes, "round",
            [info(number, types.INT64, []), info(more, types.BOOL, []), info(value, types.FLOAT, shape)],
            [info(still, types.BOOL, []), info(result, types.FLOAT, shape)],
        )  # fmt: skip
        self.nodes = outside
        return self.add("Loop", self.const(rounds, np.int64), "", start, body=body)

    def conv(self, x: str, conv: Conv, relu: bool = False) -> str:
        y = self.add(
            "Conv", x, self.const(conv.weight), self.const(conv.bias),
            strides=[conv.stride] * 2, pads=[conv.pad] * 4, kernel_shape=list(conv.weight.shape[2:]),
        )  # fmt: skip
        return self.add("Relu", y) if relu else y

    def model(self, inputs: list[Any], outputs: list[Any], card: ModelCard) -> bytes:
        make = self.onnx.helper
        graph = make.make_graph(self.nodes, card.name, inputs, outputs, list(self.constants.values()))
        opsets = [make.make_opsetid("", OPSET), *(make.make_opsetid(d, 1) for d in sorted(self.domains))]
        model = make.make_model(graph, opset_imports=opsets, producer_name="facecam")
        model.ir_version = 8
        entry = model.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, card.to_json()
        self.onnx.checker.check_model(model)
        data: bytes = model.SerializeToString(deterministic=True)
        return data

    def floats(self, name: str, shape: list[Any]) -> Any:
        return self.onnx.helper.make_tensor_value_info(name, self.onnx.TensorProto.FLOAT, shape)


def folded_input(conv: Conv) -> Conv:
    """The first convolution, changed to eat BGR 0-255 instead of (RGB - mean) / 256. Exact, since it has no padding."""
    if conv.pad:
        raise ValueError("a mean can be folded only into a convolution without padding")
    weight = conv.weight / SCALE
    bias = conv.bias - np.einsum("oihw,i->o", weight, np.array(MEAN, np.float32))
    return Conv(np.ascontiguousarray(weight[:, ::-1]), bias.astype(np.float32), conv.stride, conv.pad)


def read_folded_detector(data: bytes) -> list[Conv]:
    """The detector's convolutions for plain BGR 0-255, channels in between filled up to whole `LANES`."""
    convs = read_detector(data)
    convs[0] = folded_input(convs[0])
    filled = []
    channels = 3
    for conv in convs[:-1]:
        out = -(-conv.weight.shape[0] // LANES) * LANES
        filled.append(_filled(conv, channels, out))
        channels = out
    return [*filled, _filled(convs[-1], channels, 1)]


def _filled(conv: Conv, channels: int, out: int) -> Conv:
    """The same convolution between more channels, which stay zero."""
    weight = np.zeros((out, channels, *conv.weight.shape[2:]), np.float32)
    weight[: conv.weight.shape[0], : conv.weight.shape[1]] = conv.weight
    return Conv(weight, np.pad(conv.bias, (0, out - len(conv.bias))), conv.stride, conv.pad)


def scored(g: Graph, x: str, conv: Conv) -> None:
    """The detector's last convolution, to one channel: written as the transposed one, which is the same and cheaper.

    A 9x9 window of one output channel is a poor matrix product (2.6 ms); spreading each cell's 81 products and adding
    them up is a good one (0.3 ms, same picture).
    """
    weight = np.ascontiguousarray(conv.weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))
    size = list(weight.shape[2:])
    g.add("ConvTranspose", x, g.const(weight), g.const(conv.bias), name="score",
          kernel_shape=size, pads=[conv.pad] * 4)  # fmt: skip


def detector_card() -> ModelCard:
    return ModelCard(
        name="dlib MMOD face detector", kind="detector", input="image", size=(0, 0), colour="BGR",
        mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), outputs=("score",), licence=LICENCE, source=SOURCE,
        decoder="mmod",
    )  # fmt: skip


def detector(data: bytes) -> bytes:
    *convs, last = read_folded_detector(data)
    g = Graph()
    x = "image"
    for conv in convs:
        x = g.conv(x, conv, relu=True)
    scored(g, x, last)
    return g.model(
        [g.floats("image", ["batch", 3, "height", "width"])],
        [g.floats("score", ["batch", 1, "rows", "cols"])],
        detector_card(),
    )


def embedder_card(data: bytes) -> ModelCard:
    """The card of the embedder that is made from these weights, whatever its precision."""
    space = vector_space(data, colour="RGB", mean=MEAN, std=(SCALE,) * 3, template="dlib-150", mirror=False)
    return ModelCard(
        name="dlib face recognition ResNet v1", kind="embedder", input="crop", size=(150, 150), colour="BGR",
        mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), outputs=("embedding",), licence=LICENCE, source=SOURCE,
        dim=128, template="dlib-150", threshold=DEFAULT_THRESHOLD, space=space,
    )  # fmt: skip


def embedder(data: bytes) -> bytes:
    g = Graph()
    g.add("LpNormalization", embed(g, read_embedder(data), "crop"), name="embedding", axis=1, p=2)
    return g.model(
        [g.floats("crop", ["batch", 3, 150, 150])], [g.floats("embedding", ["batch", 128])], embedder_card(data)
    )


def embed(g: Graph, weights: EmbedderWeights, x: str) -> str:
    """The network from crops (BGR, 0 to 255, N x 3 x 150 x 150) to 128 values, not normalised."""
    x = g.conv(x, folded_input(weights.stem), relu=True)
    x = g.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    side, channels = 35, 32  # 150 -> 72 (7x7/2) -> 35 (3x3/2)
    for first, second in weights.blocks:
        y = g.conv(g.conv(x, first, relu=True), second)
        out = second.weight.shape[0]
        if first.stride == 2:
            # 3x3/2 without padding against a 2x2/2 average pool: the sum takes the larger size, the
            # smaller map is filled with zeros at its end, in channels and in rows and columns.
            y_side, skip_side = (side - 3) // 2 + 1, side // 2
            side = max(y_side, skip_side)
            x = g.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
            x = _pad(g, x, out - channels, side - skip_side)
            y = _pad(g, y, 0, side - y_side)
        channels = out
        x = g.add("Relu", g.add("Add", x, y))
    x = g.add("Flatten", g.add("GlobalAveragePool", x))
    return g.add("MatMul", x, g.const(weights.fc))


def _pad(g: Graph, x: str, channels: int, side: int) -> str:
    if not channels and not side:
        return x
    return g.add("Pad", x, g.const([0, 0, 0, 0, 0, channels, side, side], np.int64))


def landmarks(data: bytes) -> bytes:
    """image (uint8, H x W x 3 BGR) and boxes (float32, N x 4: x, y, w, h) -> landmarks (float32, N x 5 x 2)."""
    forest = read_landmarks(data)
    g = Graph()
    levels, trees, splits = forest.threshold.shape
    tree = np.arange(trees)
    int64, double = np.int64, np.float64

    shape = g.add("Shape", "image")
    height = g.add("Gather", shape, g.const(0, int64), axis=0)
    width = g.add("Gather", shape, g.const(1, int64), axis=0)
    pixels = g.add("Reshape", "image", g.const([-1, 3], int64))
    limits = {}
    for axis, size in (("x", width), ("y", height)):
        limits[axis] = g.add("Cast", g.add("Sub", size, g.const(1, int64)), to=11)
    # From the shape to pixels in float64, as dlib does: a pixel rounded the other way sends a tree another way.
    boxes = g.add("Cast", "boxes", to=11)
    left, top, box_w, box_h = (g.add("Gather", boxes, g.const([i], int64), axis=1) for i in range(4))
    # dlib's unit box ends at the last pixel of the rectangle, not after it.
    span_x, span_y = (g.add("Sub", size, g.const(1.0, double)) for size in (box_w, box_h))

    centred = forest.initial.astype(double)
    centred -= centred.mean(axis=0)
    power = float((centred**2).sum())
    along = (centred / power).ravel()  # dot product with the shape: cosine part of the similarity
    across = (np.stack([-centred[:, 1], centred[:, 0]], axis=1) / power).ravel()  # sine part
    # Centring the current shape is not needed: `centred` sums to zero, so the offset drops out.
    turn = g.const(np.stack([along, across], axis=1), double)

    count = g.add("Gather", g.add("Shape", "boxes"), g.const([0], int64), axis=0)
    current = g.add(
        "Expand", g.const(forest.initial.reshape(1, 10)), g.add("Concat", count, g.const([1], int64), axis=0)
    )
    root = g.add(
        "Expand", g.const(np.zeros((1, trees)), np.int32), g.add("Concat", count, g.const([trees], int64), axis=0)
    )
    row_of, rows_of = g.const([-1], int64), g.const([-1, trees], int64)

    def improved(level: str, current: str) -> str:
        """One level of the cascade; `level` chooses from the tables of all."""

        def of_level(table: Any, dtype: Any) -> str:
            return g.add("Gather", g.const(table, dtype), level, axis=0)

        def below(each: int) -> str:
            """How many of what a tree has ``each`` of lie in the tables before this level's."""
            return g.add("Cast", g.add("Mul", level, g.const(trees * each, int64)), to=6)

        exact = g.add("Cast", current, to=11)
        rotation = g.add("MatMul", exact, turn)
        cos, sin = (g.add("Gather", rotation, g.const([i], int64), axis=1) for i in range(2))
        dx, dy = (of_level(forest.deltas[..., i], double) for i in range(2))
        ux = g.add("Sub", g.add("Mul", cos, dx), g.add("Mul", sin, dy))
        uy = g.add("Add", g.add("Mul", sin, dx), g.add("Mul", cos, dy))
        place, inside = {}, []
        for axis, turned, start, span in (("x", ux, left, span_x), ("y", uy, top, span_y)):
            anchor = of_level(forest.anchors * 2 + (axis == "y"), int64)
            unit = g.add("Add", g.add("Gather", exact, anchor, axis=1), turned)
            at = g.add("Add", start, g.add("Mul", unit, span))
            at = g.add("Floor", g.add("Add", at, g.const(0.5, double)))
            clipped = g.add("Max", g.add("Min", at, limits[axis]), g.const(0.0, double))
            inside.append(g.add("Equal", at, clipped))
            place[axis] = g.add("Cast", clipped, to=7)
        index = g.add("Add", g.add("Mul", place["y"], width), place["x"])
        rgb = g.add("Cast", g.add("Gather", pixels, index, axis=0), to=6)
        grey = g.add("Div", g.add("ReduceSum", rgb, g.const([2], int64), keepdims=0), g.const(3, np.int32))
        seen = g.add("Where", g.add("And", *inside), grey, g.const(0, np.int32))
        feature = g.add("Cast", seen, to=1)
        offset = g.add("Add", g.const((tree * splits)[None], np.int32), below(splits))
        tables = (
            g.const(forest.idx1.ravel(), np.int32), g.const(forest.idx2.ravel(), np.int32),
            g.const(forest.threshold.ravel()),
        )  # fmt: skip
        node = root
        for _ in range(int(np.log2(splits + 1))):  # only the splits on each tree's way are looked at
            # ONNX Runtime's GatherElements takes single numbers, Gather copies them as blocks: five times slower.
            split = g.add("Reshape", g.add("Add", node, offset), row_of)
            first, second, limit = (
                g.add("Reshape", g.add("GatherElements", table, split, axis=0), rows_of) for table in tables
            )
            first, second = (g.add("GatherElements", feature, pixel, axis=1) for pixel in (first, second))
            bright = g.add("Greater", g.add("Sub", first, second), limit)
            step = g.add("Sub", g.const(2, np.int32), g.add("Cast", bright, to=6))  # 1: left child, 2: right child
            node = g.add("Add", g.add("Add", node, node), step)
        leaf = g.add("Add", g.const((tree * (splits + 1) - splits)[None], np.int32), below(splits + 1))
        leaf = g.add("Gather", g.const(forest.leaves.reshape(-1, 10)), g.add("Add", node, leaf), axis=0)
        # Summed one after the other in float32, as dlib does: another order moves the next level's pixels.
        parts = g.add("Concat", g.add("Unsqueeze", current, g.const([1], int64)), leaf, axis=1)
        return g.add("Gather", g.add("CumSum", parts, g.const(1, int64)), g.const(trees, int64), axis=1)

    # ONNX Runtime takes 0.8 ms to load a node on an old core: the levels written out, 1,665 of them, were 1.4 s.
    current = g.loop(levels, current, ["faces", 10], improved)
    points = g.add("Reshape", g.add("Cast", current, to=11), g.const([-1, 5, 2], int64))
    spans, starts = (
        g.add("Unsqueeze", g.add("Concat", a, b, axis=1), g.const([1], int64))
        for a, b in ((span_x, span_y), (left, top))
    )
    g.add("Cast", g.add("Add", g.add("Mul", points, spans), starts), name="landmarks", to=1)
    card = ModelCard(
        name="dlib 5-point shape predictor", kind="landmarks", input="image", size=(0, 0), colour="BGR",
        mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), outputs=("landmarks",), licence=LICENCE, source=SOURCE,
        landmarks=DLIB5,
    )  # fmt: skip
    image = g.onnx.helper.make_tensor_value_info("image", g.onnx.TensorProto.UINT8, ["height", "width", 3])
    return g.model([image, g.floats("boxes", ["faces", 4])], [g.floats("landmarks", ["faces", 5, 2])], card)
