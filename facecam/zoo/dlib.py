"""Reads the dlib weight files of face_recognition_models and writes ONNX. No dlib, no torch.

The three networks, their layers and the serialisation are dlib's (``dlib/serialize.h``,
``dlib/dnn``, ``dlib/image_processing/shape_predictor.h``; examples ``dnn_mmod_face_detection_ex.cpp``
and ``dnn_face_recognition_ex.cpp``). The detector and the embedder subtract a mean from RGB and divide by 256
before a convolution without padding; both are folded into that convolution, so the ONNX graphs eat plain BGR 0-255.

Importing ``onnx`` takes a quarter of a second, so it happens only in `convert`.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facecam.errors import ModelInvalid, ModelMissing
from facecam.values import DLIB5
from facecam.zoo.card import METADATA_KEY, ModelCard, Threshold, vector_space

Array = NDArray[np.float32]

FILES: Final = {
    "detector": "mmod_human_face_detector.dat",
    "landmarks": "shape_predictor_5_face_landmarks.dat",
    "embedder": "dlib_face_recognition_resnet_model_v1.dat",
}
#: Of the files in face_recognition_models 0.3.0.
SHA256: Final = {
    "detector": "4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6",
    "landmarks": "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    "embedder": "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
}
LICENCE: Final = "CC0-1.0"
SOURCE: Final = "https://pypi.org/project/face-recognition-models/0.3.0/"

#: RGB mean and scale of dlib's input_rgb_image layers.
MEAN: Final = (122.782, 117.001, 104.298)
SCALE: Final = 256.0
#: Where a name begins by default; see docs/models.md for the command that prints the figures.
DEFAULT_THRESHOLD: Final = Threshold(
    0.938,
    "cosine",
    "false match rate 2.5e-4 between two people, one crop against one enrolled photo with its mirror image, "
    "over 4.1 million pairs of the 2,031 people of lfw_dev",
)
OPSET: Final = 17


def weights_path(role: str) -> Path:
    """Where pip put a weight file, found without importing the package (its import needs pkg_resources).

    Raises:
        ModelMissing: the package is not installed.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "models" / FILES[role]
        if path.is_file():
            return path
    raise ModelMissing(
        f"the {role} weights ({FILES[role]}) are not installed; run: pip install face_recognition_models"
    )


def convert(role: str, weights: bytes) -> bytes:
    """Turn one weight file into one ONNX file with its card inside.

    Args:
        role: "detector", "landmarks" or "embedder".
        weights: content of the dlib file.

    Raises:
        ModelInvalid: the content is not what face_recognition_models 0.3.0 ships.
    """
    if hashlib.sha256(weights).hexdigest() != SHA256[role]:
        raise ModelInvalid(
            f"{FILES[role]} is not the file of face_recognition_models 0.3.0; reinstall: "
            "pip install --force-reinstall face_recognition_models"
        )
    build: dict[str, Callable[[bytes], bytes]] = {
        "detector": _detector_onnx,
        "landmarks": _landmarks_onnx,
        "embedder": _embedder_onnx,
    }
    return build[role](weights)


# --- reading ---------------------------------------------------------------------------------------------


class Reader:
    """Reads dlib's serialisation from bytes.

    An integer is a control byte (low four bits: count of bytes; 0x80: negative) and that many
    little-endian bytes; a float is mantissa and exponent as two integers; a string is its length and bytes.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.pos = 0

    def integer(self) -> int:
        try:
            control = self.data[self.pos]
        except IndexError as error:
            raise ModelInvalid("the dlib file ends too early; reinstall face_recognition_models") from error
        count = control & 0x0F
        end = self.pos + 1 + count
        if control & 0x70 or count > 8 or end > len(self.data):
            raise ModelInvalid(f"the dlib file is damaged at byte {self.pos}; reinstall face_recognition_models")
        value = int.from_bytes(self.data[self.pos + 1 : end], "little")
        self.pos = end
        return -value if control & 0x80 else value

    def number(self) -> float:
        mantissa, exponent = self.integer(), self.integer()
        if not -1100 <= exponent <= 1000:
            raise ModelInvalid(f"the dlib file has an absurd number at byte {self.pos}")
        return mantissa * 2.0**exponent

    def count(self, limit: int) -> int:
        """A length: an integer from 0 to ``limit``."""
        value = self.integer()
        if not 0 <= value <= limit:
            raise ModelInvalid(f"the dlib file has an absurd length {value} at byte {self.pos}")
        return value

    def tensor(self) -> Array:
        """version, four dims, then raw little-endian float32."""
        if self.integer() != 2:
            raise ModelInvalid(f"the dlib file has a tensor of an unknown version at byte {self.pos}")
        shape = tuple(self.count(1 << 24) for _ in range(4))
        size = 4 * int(np.prod(shape, dtype=object))
        if size > len(self.data) - self.pos:
            raise ModelInvalid(f"the dlib file ends inside a tensor at byte {self.pos}")
        values = np.frombuffer(self.data, "<f4", size // 4, self.pos).reshape(shape)
        self.pos += size
        return values

    def records(self, *names: str) -> Iterator[str]:
        """Go from layer record to layer record of the given names, in file order (input first)."""
        marks = {name: bytes([1, len(name)]) + name.encode() for name in names}
        while True:
            found = [(at, name) for name, mark in marks.items() if (at := self.data.find(mark, self.pos)) >= 0]
            if not found:
                return
            at, name = min(found)
            self.pos = at + len(marks[name])
            yield name


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution with its batch norm or affine layer folded in.

    Attributes:
        weight: float32, out x in x kh x kw. bias: float32, out.
        stride, pad: the same in both directions.
    """

    weight: Array
    bias: Array
    stride: int
    pad: int


def _read_conv(reader: Reader, channels: int) -> Conv:
    params = reader.tensor().ravel()
    out, kh, kw, stride, _, pad, _ = (reader.count(4096) for _ in range(7))
    if params.size != out * channels * kh * kw + out:
        raise ModelInvalid("the dlib file has a convolution of an unexpected size")
    weight = params[:-out].reshape(out, channels, kh, kw)
    return Conv(weight, params[-out:], stride, pad)


def _scaled(conv: Conv, gamma: Array, beta: Array) -> Conv:
    """gamma * conv + beta as one convolution."""
    weight = conv.weight * gamma[:, None, None, None]
    return Conv(weight.astype(np.float32), (conv.bias * gamma + beta).astype(np.float32), conv.stride, conv.pad)


def read_detector(data: bytes) -> list[Conv]:
    """The seven convolutions of the MMOD detector, batch norm folded in; all but the last are followed by ReLU."""
    reader = Reader(data)
    convs: list[Conv] = []
    channels = 3
    for name in reader.records("con_4", "bn_con2"):
        if name == "con_4":
            convs.append(_read_conv(reader, channels))
            channels = convs[-1].weight.shape[0]
        else:
            params = reader.tensor().ravel()
            for _ in range(2):  # the alias tensors of gamma and beta: a version and four dims each
                for _ in range(5):
                    reader.integer()
            _, _, mean, var = (reader.tensor().ravel() for _ in range(4))
            gamma, beta = np.split(params, 2)
            scale = gamma / np.sqrt(var + 1e-4)  # dlib's DEFAULT_BATCH_NORM_EPS
            convs[-1] = _scaled(convs[-1], scale, beta - mean * scale)
    if [c.weight.shape[0] for c in convs] != [16, 32, 32, 45, 45, 45, 1]:
        raise ModelInvalid("the detector file does not hold dlib's MMOD face detector")
    return convs


@dataclass(frozen=True, slots=True)
class EmbedderWeights:
    """stem conv (7x7/2), then 14 residual blocks of two convs (`down` where the first has stride 2), then the
    linear layer ``fc`` (float32, 256 x 128, no bias)."""

    stem: Conv
    blocks: list[tuple[Conv, Conv]]
    fc: Array


def read_embedder(data: bytes) -> EmbedderWeights:
    """The layers of dlib_face_recognition_resnet_model_v1, affine layers folded into the convolutions."""
    reader = Reader(data)
    convs: list[Conv] = []
    channels, fc = 3, None
    for name in reader.records("con_4", "affine_", "fc_2"):
        if name == "con_4":
            convs.append(_read_conv(reader, channels))
            channels = convs[-1].weight.shape[0]
        elif name == "affine_":
            gamma, beta = np.split(reader.tensor().ravel(), 2)
            convs[-1] = _scaled(convs[-1], gamma, beta)
        else:
            outputs, inputs = reader.count(4096), reader.count(4096)
            fc = reader.tensor().reshape(inputs, outputs)
            break
    if fc is None or fc.shape != (256, 128) or len(convs) != 29:
        raise ModelInvalid("the embedder file does not hold dlib's face recognition network")
    return EmbedderWeights(convs[0], list(zip(convs[1::2], convs[2::2])), fc)


@dataclass(frozen=True, slots=True)
class ShapeForest:
    """A cascade of regression trees (Kazemi and Sullivan 2014), L levels of T trees with S splits, P pixels.

    Attributes:
        initial: float32, 5 x 2, mean shape in the unit box.
        idx1, idx2: int64, L x T x S. threshold: float32, L x T x S.
        leaves: float32, L x T x (S + 1) x 10.
        anchors: int64, L x P: the landmark that a pixel is relative to. deltas: float32, L x P x 2.
    """

    initial: Array
    idx1: NDArray[np.int64]
    idx2: NDArray[np.int64]
    threshold: Array
    leaves: Array
    anchors: NDArray[np.int64]
    deltas: Array


def read_landmarks(data: bytes) -> ShapeForest:
    """The 5-point shape predictor."""
    reader = Reader(data)
    if reader.integer() != 1 or (reader.integer(), reader.integer()) != (-10, -1):
        raise ModelInvalid("the landmark file does not hold dlib's 5-point predictor")
    initial = [reader.number() for _ in range(10)]
    splits: list[list[list[tuple[int, int, float]]]] = []
    leaves: list[list[list[list[float]]]] = []
    for _ in range(reader.count(100)):
        splits.append([])
        leaves.append([])
        for _ in range(reader.count(10_000)):
            splits[-1].append(
                [(reader.integer(), reader.integer(), reader.number()) for _ in range(reader.count(1023))]
            )
            leaf = []
            for _ in range(reader.count(1024)):
                reader.integer(), reader.integer()  # rows and columns of the leaf
                leaf.append([reader.number() for _ in range(10)])
            leaves[-1].append(leaf)
    anchors = [[reader.integer() for _ in range(reader.count(10_000))] for _ in range(reader.count(100))]
    deltas = [
        [(reader.number(), reader.number()) for _ in range(reader.count(10_000))] for _ in range(reader.count(100))
    ]
    table = np.array(splits, np.float64)
    return ShapeForest(
        np.array(initial, np.float32).reshape(5, 2),
        table[..., 0].astype(np.int64),
        table[..., 1].astype(np.int64),
        table[..., 2].astype(np.float32),
        np.array(leaves, np.float32),
        np.array(anchors, np.int64),
        np.array(deltas, np.float32),
    )


# --- writing ---------------------------------------------------------------------------------------------


class _Graph:
    """Collects nodes and constants of an ONNX graph."""

    def __init__(self) -> None:
        import onnx

        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: dict[bytes, Any] = {}

    def const(self, values: Any, dtype: Any = np.float32) -> str:
        array = np.array(values, dtype, order="C")  # keeps a scalar a scalar
        key = hashlib.sha256(repr((array.shape, array.dtype)).encode() + array.tobytes()).digest()
        if key not in self.constants:
            self.constants[key] = self.onnx.numpy_helper.from_array(array, f"c{len(self.constants)}")
        name: str = self.constants[key].name
        return name

    def add(self, op: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        output = name or f"v{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def conv(self, x: str, conv: Conv, relu: bool = False) -> str:
        y = self.add(
            "Conv", x, self.const(conv.weight), self.const(conv.bias),
            strides=[conv.stride] * 2, pads=[conv.pad] * 4, kernel_shape=list(conv.weight.shape[2:]),
        )  # fmt: skip
        return self.add("Relu", y) if relu else y

    def model(self, inputs: list[Any], outputs: list[Any], card: ModelCard) -> bytes:
        make = self.onnx.helper
        graph = make.make_graph(self.nodes, card.name, inputs, outputs, list(self.constants.values()))
        model = make.make_model(graph, opset_imports=[make.make_opsetid("", OPSET)], producer_name="facecam")
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


def _detector_onnx(data: bytes) -> bytes:
    convs = read_detector(data)
    g = _Graph()
    x = "image"
    for i, conv in enumerate([folded_input(convs[0]), *convs[1:]]):
        x = g.conv(x, conv, relu=i < len(convs) - 1)
    g.add("Identity", x, name="score")
    card = ModelCard(
        name="dlib MMOD face detector", kind="detector", input="image", size=(0, 0), colour="BGR",
        mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), outputs=("score",), licence=LICENCE, source=SOURCE,
        decoder="mmod",
    )  # fmt: skip
    return g.model(
        [g.floats("image", ["batch", 3, "height", "width"])],
        [g.floats("score", ["batch", 1, "rows", "cols"])],
        card,
    )


def _embedder_onnx(data: bytes) -> bytes:
    weights = read_embedder(data)
    g = _Graph()
    x = g.conv("crop", folded_input(weights.stem), relu=True)
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
    x = g.add("MatMul", x, g.const(weights.fc))
    g.add("LpNormalization", x, name="embedding", axis=1, p=2)
    space = vector_space(data, colour="RGB", mean=MEAN, std=(SCALE,) * 3, template="dlib-150", mirror=False)
    card = ModelCard(
        name="dlib face recognition ResNet v1", kind="embedder", input="crop", size=(150, 150), colour="BGR",
        mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), outputs=("embedding",), licence=LICENCE, source=SOURCE,
        dim=128, template="dlib-150", threshold=DEFAULT_THRESHOLD, space=space,
    )  # fmt: skip
    return g.model([g.floats("crop", ["batch", 3, 150, 150])], [g.floats("embedding", ["batch", 128])], card)


def _pad(g: _Graph, x: str, channels: int, side: int) -> str:
    if not channels and not side:
        return x
    return g.add("Pad", x, g.const([0, 0, 0, 0, 0, channels, side, side], np.int64))


def _landmarks_onnx(data: bytes) -> bytes:
    """image (uint8, H x W x 3 BGR) and boxes (float32, N x 4: x, y, w, h) -> landmarks (float32, N x 5 x 2)."""
    forest = read_landmarks(data)
    g = _Graph()
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
    offset = g.const((tree * splits)[None], int64)
    zero = g.add("ConstantOfShape", g.add("Concat", count, g.const([trees], int64), axis=0),
                 value=g.onnx.helper.make_tensor("z", g.onnx.TensorProto.INT64, [1], [0]))  # fmt: skip
    for level in range(levels):
        exact = g.add("Cast", current, to=11)
        rotation = g.add("MatMul", exact, turn)
        cos, sin = (g.add("Gather", rotation, g.const([i], int64), axis=1) for i in range(2))
        dx, dy = (g.const(forest.deltas[level, None, :, i], double) for i in range(2))
        ux = g.add("Sub", g.add("Mul", cos, dx), g.add("Mul", sin, dy))
        uy = g.add("Add", g.add("Mul", sin, dx), g.add("Mul", cos, dy))
        place, inside = {}, []
        for axis, turned, start, span in (("x", ux, left, span_x), ("y", uy, top, span_y)):
            anchor = g.const(forest.anchors[level] * 2 + (axis == "y"), int64)
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
        first = g.add("Gather", feature, g.const(forest.idx1[level].ravel(), int64), axis=1)
        second = g.add("Gather", feature, g.const(forest.idx2[level].ravel(), int64), axis=1)
        bright = g.add("Greater", g.add("Sub", first, second), g.const(forest.threshold[level].reshape(1, -1)))
        step = g.add("Sub", g.const(2, int64), g.add("Cast", bright, to=7))  # 1: left child, 2: right child
        node = zero
        for _ in range(int(np.log2(splits + 1))):
            taken = g.add("GatherElements", step, g.add("Add", node, offset), axis=1)
            node = g.add("Add", g.add("Add", node, node), taken)
        row = g.add("Add", node, g.const((tree * (splits + 1) - splits)[None], int64))
        leaf = g.add("Gather", g.const(forest.leaves[level].reshape(-1, 10)), row, axis=0)
        # Summed one after the other in float32, as dlib does: another order moves the next level's pixels.
        parts = g.add("Concat", g.add("Unsqueeze", current, g.const([1], int64)), leaf, axis=1)
        sums = g.add("CumSum", parts, g.const(1, int64))
        current = g.add("Gather", sums, g.const(trees, int64), axis=1)
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
