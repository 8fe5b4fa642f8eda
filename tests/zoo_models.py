"""Small ONNX models for tests, made with the onnx package: an embedder, a file like SFace's, a planted YuNet."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facecam.zoo import registry
from facecam.zoo.card import METADATA_KEY, ModelCard, Threshold

FLOAT = TensorProto.FLOAT


def save(graph: Any, *, opset: int = 17, card: ModelCard | None = None, ir: int = 8) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = ir
    if card is not None:
        model.metadata_props.add(key=METADATA_KEY, value=card.to_json())
    return model.SerializeToString()


def embedder_card(name: str = "Test embedder", dim: int = 8, **changes: Any) -> ModelCard:
    card = ModelCard(
        name=name, kind="embedder", input="crop", size=(112, 112), colour="RGB", mean=(0.0,) * 3, std=(1.0,) * 3,
        outputs=("embedding",), licence="MIT", source="made by a test", dim=dim, template="arcface-112",
        threshold=Threshold(0.5, "cosine", "none"), space="0123456789abcdef",
    )  # fmt: skip
    return dataclasses.replace(card, **changes)


def embedder(card: ModelCard | None, *, dim: int = 8, batch: Any = "batch", normalised: bool = True) -> bytes:
    """Mean colour times a random matrix, normalised."""
    weight = numpy_helper.from_array(np.random.default_rng(7).normal(size=(3, dim)).astype(np.float32), "w")
    last = "raw" if normalised else "embedding"
    nodes = [
        helper.make_node("GlobalAveragePool", ["crop"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], [last]),
    ]
    if normalised:
        nodes.append(helper.make_node("LpNormalization", ["raw"], ["embedding"], axis=1, p=2))
    inputs = [helper.make_tensor_value_info("crop", FLOAT, [batch, 3, 112, 112])]
    outputs = [helper.make_tensor_value_info("embedding", FLOAT, [batch, dim])]
    return save(helper.make_graph(nodes, "embedder", inputs, outputs, [weight]), card=card)


def constant(card: ModelCard, answer: np.ndarray[Any, Any], operator: str = "Identity") -> bytes:
    """An embedder that gives the same whatever it is asked: a list of it with "SequenceConstruct", after 2^62 turns
    with "Loop"."""
    kind = helper.np_dtype_to_tensor_dtype(answer.dtype)
    tensor = helper.make_tensor_type_proto(kind, answer.shape)
    given = helper.make_sequence_type_proto(tensor) if operator == "SequenceConstruct" else tensor
    initial = [numpy_helper.from_array(answer, "answer")]
    if operator == "Loop":
        turn = helper.make_graph(
            [helper.make_node("Identity", ["on"], ["on_"]), helper.make_node("Identity", ["value"], ["value_"])],
            "turn",
            [
                helper.make_tensor_value_info("i", TensorProto.INT64, []),
                helper.make_tensor_value_info("on", TensorProto.BOOL, []),
                helper.make_value_info("value", tensor),
            ],
            [helper.make_tensor_value_info("on_", TensorProto.BOOL, []), helper.make_value_info("value_", tensor)],
        )
        initial += [numpy_helper.from_array(np.array(2**62), "turns"), numpy_helper.from_array(np.array(True), "yes")]
        node = helper.make_node("Loop", ["turns", "yes", "answer"], ["embedding"], body=turn)
    else:
        node = helper.make_node(operator, ["answer"], ["embedding"])
    inputs = [helper.make_tensor_value_info("crop", FLOAT, ["batch", 3, 112, 112])]
    outputs = [helper.make_value_info("embedding", given)]
    return save(helper.make_graph([node], "constant", inputs, outputs, initial), card=card)


def sface_like() -> bytes:
    """What is known of SFace's file: IR 6, opset 11, weights listed as inputs, one image, vectors of any length."""
    rng = np.random.default_rng(7)
    arrays = {
        "shift": np.array(127.5),
        "scale": np.array(0.0078125),
        "kernel": rng.normal(size=(4, 3, 7, 7)),
        "slope": np.full((4, 1, 1), 0.25),
        "matrix": rng.normal(size=(128, 4)),
        **{name: rng.uniform(0.5, 2, 128) for name in "gbmv"},
    }
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    nodes = [
        helper.make_node("Sub", ["data", "shift"], ["a"]),
        helper.make_node("Mul", ["a", "scale"], ["b1"]),
        helper.make_node("Conv", ["b1", "kernel"], ["c"], kernel_shape=[7, 7], strides=[7, 7]),
        helper.make_node("PRelu", ["c", "slope"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "matrix"], ["pre_fc1"], transB=1),
        helper.make_node("BatchNormalization", ["pre_fc1", "g", "b", "m", "v"], ["fc1"]),
    ]
    inputs = [helper.make_tensor_value_info("data", FLOAT, [1, 3, 112, 112])]
    inputs += [helper.make_tensor_value_info(w.name, FLOAT, list(w.dims)) for w in weights]
    values = [helper.make_tensor_value_info("pre_fc1", FLOAT, [1, 128])]
    outputs = [helper.make_tensor_value_info("fc1", FLOAT, [1, 128])]
    graph = helper.make_graph(nodes, "sface", inputs, outputs, weights, value_info=values)
    return save(graph, opset=11, ir=6)


def planted_yunet(
    *,
    height: Any = 640,
    width: Any = 640,
    batch: Any = 1,
    wide: float = 4.0,
    tall: float = 5.0,
    card: ModelCard | None = None,
) -> bytes:
    """A file shaped like YuNet 2023mar that finds bright cells.

    A cell of stride 8 whose pixels are white is a face: its box is ``wide`` x ``tall`` cells around the
    cell's centre, its points lie at (-1, -1) (2, -1) (0.5, 0.5) (-1, 2) (2, 2) cells from the cell's corner.
    """
    nodes, weights, outputs = [], [], []
    heads = {
        "cls": ([1 / 10, 0.0, 0.0], [-12.0]),
        "obj": ([0.0] * 3, [10.0]),
        "bbox": ([0.0] * 3, [0.5, 0.5, math.log(wide), math.log(tall)]),
        "kps": ([0.0] * 3, [-1.0, -1.0, 2.0, -1.0, 0.5, 0.5, -1.0, 2.0, 2.0, 2.0]),
    }
    for stride in (8, 16, 32):
        nodes.append(
            helper.make_node(
                "AveragePool", ["input"], [f"pool_{stride}"], kernel_shape=[stride] * 2, strides=[stride] * 2
            )
        )
        for head, (kernel, bias) in heads.items():
            name = f"{head}_{stride}"
            values = np.array(bias, np.float32)
            if head == "cls" and stride != 8:
                values = values - 100
            weight = np.tile(np.array(kernel, np.float32).reshape(1, 3, 1, 1), (len(bias), 1, 1, 1))
            weights += [
                numpy_helper.from_array(weight, f"{name}_w"),
                numpy_helper.from_array(values, f"{name}_b"),
                numpy_helper.from_array(np.array([1, -1, len(bias)], np.int64), f"{name}_shape"),
            ]
            sigmoid = head in ("cls", "obj")
            nodes += [
                helper.make_node("Conv", [f"pool_{stride}", f"{name}_w", f"{name}_b"], [f"{name}_c"]),
                helper.make_node("Transpose", [f"{name}_c"], [f"{name}_t"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{name}_t", f"{name}_shape"], [f"{name}_r" if sigmoid else name]),
            ]
            if sigmoid:
                nodes.append(helper.make_node("Sigmoid", [f"{name}_r"], [name]))
            cells = height * width // stride**2 if isinstance(height, int) else f"cells_{stride}"
            outputs.append(helper.make_tensor_value_info(name, FLOAT, [1, cells, len(bias)]))
    inputs = [helper.make_tensor_value_info("input", FLOAT, [batch, 3, height, width])]
    return save(helper.make_graph(nodes, "yunet", inputs, outputs, weights), opset=11, ir=6, card=card)


def yunet_card(**changes: Any) -> ModelCard:
    card = registry.models()["yunet"].card
    assert card is not None
    return dataclasses.replace(card, **changes)


def with_external_data(data: bytes) -> bytes:
    """The same model, its first weight said to lie in another file."""
    model = onnx.load_model_from_string(data)
    _externalise(model.graph.initializer[0])
    return model.SerializeToString()


def _externalise(tensor: TensorProto) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/hostname")


def with_external_data_in_a_branch(data: bytes) -> bytes:
    """The same model with an If node whose branch holds a constant that lies in another file."""
    model = onnx.load_model_from_string(data)
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "hidden")
    _externalise(tensor)
    out = [helper.make_tensor_value_info("h", FLOAT, [3])]
    branch = helper.make_graph([helper.make_node("Constant", [], ["h"], value=tensor)], "branch", [], out)
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["unused"], then_branch=branch, else_branch=branch))
    return model.SerializeToString()


def pin(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], urls: dict[str, list[str]] | None = None) -> None:
    """Make the registry pin these contents instead of the real files (by model id)."""
    models = dict(registry.models())
    for id, data in files.items():
        models[id] = dataclasses.replace(
            models[id],
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            urls=tuple((urls or {}).get(id, ["http://127.0.0.1:9/nothing"])),
        )
    packs = registry.packs()
    monkeypatch.setattr(registry, "_read", lambda: (models, packs))


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path
