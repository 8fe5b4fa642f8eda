"""Reads the dlib weight files of face_recognition_models; `zoo.dlib_onnx` and `zoo.int8` write ONNX of them.

The three networks, their layers and the serialisation are dlib's (``dlib/serialize.h``,
``dlib/dnn``, ``dlib/image_processing/shape_predictor.h``; examples ``dnn_mmod_face_detection_ex.cpp``
and ``dnn_face_recognition_ex.cpp``). No dlib, no torch; importing ``onnx`` takes a quarter of a second, so it happens
only in `convert`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from facecam.errors import ModelInvalid, ModelMissing
from facecam.zoo.card import Threshold

Array = NDArray[np.float32]
T = TypeVar("T")

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


def convert(role: str, weights: bytes, precision: str = "fp32") -> bytes:
    """Turn one weight file into one ONNX file with its card inside.

    Args:
        role: "detector", "landmarks" or "embedder".
        weights: content of the dlib file.
        precision: "fp32", or "int8" for the detector and the embedder.

    Raises:
        ModelInvalid: the content is not what face_recognition_models 0.3.0 ships.
    """
    if hashlib.sha256(weights).hexdigest() != SHA256[role]:
        raise ModelInvalid(
            f"{FILES[role]} is not the file of face_recognition_models 0.3.0; reinstall: "
            "pip install --force-reinstall face_recognition_models"
        )
    if precision == "int8":
        from facecam.zoo.int8 import detector as small_detector
        from facecam.zoo.int8 import embedder as small_embedder

        return {"detector": small_detector, "embedder": small_embedder}[role](weights)
    from facecam.zoo.dlib_onnx import detector, embedder, landmarks

    return {"detector": detector, "landmarks": landmarks, "embedder": embedder}[role](weights)


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


def _whole(read: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """Let lengths that are each possible, and contradict each other, end in one line, too."""

    @functools.wraps(read)
    def checked(data: bytes) -> T:
        try:
            with np.errstate(all="ignore"):
                return read(data)
        except (ValueError, IndexError, OverflowError) as error:
            raise ModelInvalid(f"the dlib file is damaged ({error}); reinstall face_recognition_models") from error

    return checked


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


@_whole
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


@_whole
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


@_whole
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
