"""What each model costs: by batch and device, with its multiply-adds and the share of the machine's peak."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from facecam.values import Face, Image
from facecam.vision.detect import FOLLOW_REACH, WINDOW
from facecam.vision.landmarks import Landmarker
from facecam.vision.tensor import feed, to_input
from facecam.zoo.card import ModelCard
from facecam.zoo.packs import INT8, Zoo
from facecam.zoo.scout import FILE as SCOUT
from facecam.zoo.scout import open_scout
from facecam.zoo.session import Device, Model, cpu_threads, load, read_bytes, runtime

#: Side and number of the matrices whose product tells the peak: large enough, and half a second on two old cores.
_PEAK_CPU: Final = (1024, 4)
_PEAK_CUDA: Final = (4096, 16)
#: A model is run again and again for this long, and so often at least; the median counts.
_SECONDS: Final = 0.4
_RUNS: Final = 5
#: What a detector of whole pictures is given: width, height.
_PICTURES: Final = ((640, 360), (1280, 720))
_BATCHES: Final = (1, 8)


@dataclass(frozen=True, slots=True)
class Cost:
    """One model at one input.

    Attributes:
        precision: "fp32" or "int8". device: where its session really ran.
        count, size: pictures in a call and their (width, height).
        ms: median of one call, with the pictures' way to the model's input. per_item: that for one picture.
        macs: multiply-adds of one call, from the graph; None for what is no network.
        peak_share: of the machine's measured peak in float32, which int8 may exceed; None without macs.
    """

    model: str
    kind: str
    precision: str
    device: str
    count: int
    size: tuple[int, int]
    ms: float
    per_item: float
    macs: int | None
    peak_share: float | None


@dataclass(frozen=True, slots=True)
class Costs:
    """All models of a pack. peak: multiply-adds a second of a float32 matrix product, by device."""

    pack: str
    threads: int
    peak: dict[str, float]
    rows: list[Cost]

    def to_json(self) -> dict[str, Any]:
        return {"schema": "facecam.bench.models/1", **asdict(self)}


def measure_models(zoo: Zoo, pack: str | None, devices: Sequence[Device], threads: int = 0) -> Costs:
    """Run every model of a pack on every device given, in every precision that it has there.

    Raises:
        ModelError: a model is missing or wrong.
    """
    files = zoo.ensure(pack)
    peaks: dict[str, float] = {}
    rows: list[Cost] = []
    for device in devices:
        top = peaks[device.name] = max(peak(device, threads) for _ in range(3))
        for file in files.members():
            graph = read_bytes(file.path)
            twins = [("fp32", file)]
            if file.id in INT8 and device.name == "cpu":
                twins.append(("int8", zoo.model(file.id, "int8")))
            for precision, twin in twins:
                # As the pipeline has it: one thread does a face's landmarks, several do several faces'.
                alone = file.card.kind == "landmarks"
                model = load(twin.path, device=device, threads=1 if alone else threads, card=twin.card)
                rows += _rows(file.id, precision, model, graph, top, threads)
            if file.card.decoder == "mmod":
                rows += _rows("scout", "fp32", open_scout(device), read_bytes(SCOUT), top, threads)
    return Costs(files.name, cpu_threads(threads), peaks, rows)


def _rows(name: str, precision: str, model: Model, graph: bytes, top: float, threads: int) -> Iterator[Cost]:
    """A model at all that the pipeline gives it; top: multiply-adds a second of the device's peak."""
    for count, size, work in _inputs(model, cpu_threads(threads)):
        seconds = _median(work)
        macs = _macs(graph, model.card, count, size)
        share = macs / seconds / top if macs else None
        yield Cost(
            name, model.card.kind, precision, model.device, count, size,
            seconds * 1e3, seconds * 1e3 / count, macs, share,
        )  # fmt: skip


def _inputs(model: Model, lanes: int) -> Iterator[tuple[int, tuple[int, int], Callable[[], object]]]:
    """What the pipeline gives a model: (how many, (width, height), a call that runs it)."""
    rng = np.random.default_rng(0)

    def pictures(count: int, width: int, height: int) -> list[Image]:
        return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]

    if model.card.kind == "landmarks":
        (image,) = pictures(1, 640, 480)
        for count in _BATCHES:
            faces = [Face((200.0, 120.0, 160.0, 160.0), 1.0)] * count
            yield count, (160, 160), functools.partial(Landmarker(model, lanes).locate, image, faces)
        return
    sizes = [(count, model.card.size[::-1]) for count in _BATCHES]
    if model.card.kind in ("detector", "scout"):
        sizes = [(1, size) for size in _PICTURES]
        if model.card.decoder == "mmod":  # crops around known faces, two scales of each
            sizes += [(2 * count, (round(WINDOW * FOLLOW_REACH),) * 2) for count in _BATCHES]
    for count, (width, height) in sizes:
        batch = pictures(count, width, height)
        yield count, (width, height), functools.partial(_fed, model, batch)


def _fed(model: Model, batch: Sequence[Image]) -> object:
    if model.card.decoder == "yunet":
        return model.run({model.card.input: to_input(batch, model.card)})
    return feed(model, batch)


def _macs(graph: bytes, card: ModelCard, count: int, size: tuple[int, int]) -> int | None:
    if card.kind == "landmarks":
        return None
    sides = size[::-1]
    return multiply_adds(graph, card.input, (count, *sides, 3) if card.kind == "scout" else (count, 3, *sides))


def _median(work: Callable[[], object]) -> float:
    work()
    taken: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(taken) < _RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def peak(device: Device, threads: int = 0) -> float:
    """Multiply-adds a second that products of float32 matrices reach in this very runtime."""
    from onnx import TensorProto, helper, numpy_helper

    side, count = _PEAK_CUDA if device.name == "cuda" else _PEAK_CPU
    weight = np.random.default_rng(0).normal(0, side**-0.5, (side, side)).astype(np.float32)
    nodes = [helper.make_node("MatMul", [f"v{i}", "w"], [f"v{i + 1}"]) for i in range(count)]
    # One number comes back, so that on CUDA the transfer is not what is measured.
    nodes.append(helper.make_node("ReduceSum", [f"v{count}"], ["y"], keepdims=0))
    graph = helper.make_graph(
        nodes,
        "peak",
        [helper.make_tensor_value_info("v0", TensorProto.FLOAT, [side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(weight, "w")],
    )
    ort = runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = cpu_threads(threads)
    providers = ["CUDAExecutionProvider"] if device.name == "cuda" else []
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=[*providers, "CPUExecutionProvider"])
    return side**3 * count / _median(lambda: session.run(None, {"v0": weight}))


def multiply_adds(graph: bytes, input_name: str, shape: tuple[int, ...]) -> int | None:
    """Multiply-adds of convolutions and matrix products for one input; None where a shape cannot be told.

    A convolution's are (elements of its output) x (input channels of a group) x (area of its kernel).
    """
    import onnx

    model = onnx.load_model_from_string(graph)
    for value in model.graph.input:
        if value.name == input_name:
            for size, dim in zip(shape, value.type.tensor_type.shape.dim, strict=True):
                dim.dim_value = size
    del model.graph.value_info[:]
    for value in model.graph.output:  # their symbolic sizes would stand against the fixed ones
        value.type.tensor_type.ClearField("shape")
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes: dict[str, list[int]] = {value.name: list(value.dims) for value in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        shapes[value.name] = [d.dim_value for d in value.type.tensor_type.shape.dim]
    total = 0
    for node in model.graph.node:
        products = _products(node, shapes)
        if products is None:
            return None
        total += products
    return total


#: Operator -> which input holds the weights (or the right factor).
_WEIGHTS: Final = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "Gemm": 1, "MatMul": 1, "MatMulInteger": 1}


def _products(node: Any, shapes: dict[str, list[int]]) -> int | None:
    if node.op_type not in _WEIGHTS:
        return 0
    out = shapes.get(node.output[0])
    weight = shapes.get(node.input[_WEIGHTS[node.op_type]])
    if not out or not all(out) or not weight or not all(weight):
        return None
    elements = int(np.prod(out))
    if "Conv" in node.op_type:
        return elements * int(np.prod(weight[1:]))  # (input channels of a group) x kernel
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return elements * (weight[-1] if transposed else weight[-2])
