"""Looks into ONNX files that others made, and prepares them for facecam. Imports onnx, hence slow to import.

A model file is untrusted input: it is parsed from bytes, must stand alone, and must do what its card says.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from facecam.errors import ModelInvalid
from facecam.zoo.card import METADATA_KEY, ModelCard
from facecam.zoo.session import Device, Model, load

_NORM_TOLERANCE: Final = 1e-3
#: Largest side of a picture that a model may ask for, pixels; keeps the trial run small.
_LARGEST_SIDE: Final = 2048
#: A trial run is given up after this, seconds: a loop in a stranger's graph need not end.
TRIAL_SECONDS: Final = 60.0


def parse(data: bytes, name: str) -> ModelProto:
    """Read a model that stands alone.

    Args:
        data: content of an ONNX file.
        name: what messages call it.

    Raises:
        ModelInvalid: not ONNX, damaged, or it refers to other files (external data, cached engines).
    """
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's DecodeError differs from version to version
        raise ModelInvalid(f"{name}: not an ONNX file, or a truncated one; export or download it again") from error
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise ModelInvalid(
                f"{name}: keeps weights outside the file (tensor {tensor.name!r}); a model is one file: "
                "export it without external data"
            )
    for node in _nodes(model):
        if node.op_type == "EPContext":  # a compiled engine, often in another file
            raise ModelInvalid(f"{name}: holds a compiled engine (EPContext); export a plain ONNX model")
    try:
        onnx.checker.check_model(data)
    except (onnx.checker.ValidationError, ValueError) as error:
        reason = str(error).splitlines()[0][:160]
        raise ModelInvalid(f"{name}: not a valid ONNX model ({reason}); export it again") from error
    return model


def _graphs(model: ModelProto) -> Iterator[Any]:
    """Every graph and function body, however deep (the parser bounds the depth)."""
    stack: list[Any] = [model.graph, *model.functions]
    for training in model.training_info:
        stack += [training.initialization, training.algorithm]
    while stack:
        graph = stack.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                stack += [attribute.g] if attribute.HasField("g") else []
                stack += attribute.graphs


def _nodes(model: ModelProto) -> Iterator[Any]:
    for graph in _graphs(model):
        yield from graph.node


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    for graph in _graphs(model):
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        holders = [a for node in graph.node for a in node.attribute]
        if isinstance(graph, onnx.FunctionProto):
            holders += graph.attribute_proto
        for attribute in holders:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def card_of(model: ModelProto) -> ModelCard | None:
    """The card inside, or None.

    Raises:
        ModelInvalid: there is one and it is wrong.
    """
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            return ModelCard.from_json(entry.value)
    return None


def prepare(model: ModelProto, card: ModelCard, name: str) -> tuple[bytes, ModelCard]:
    """Make a pinned file of another project fit the contract: card inside, free sizes, unit vectors.

    The files of the OpenCV Zoo are exported for one image of one size and their vectors have any length.
    Their operators do not care: the batch (of a detector also height and width) is set free, a
    normalisation is added behind an embedder, and a trial run proves the result.

    Returns:
        content of the prepared file and its card (``size`` is fixed if the graph insists on it).

    Raises:
        ModelInvalid: the prepared model does not do what the card says.
    """
    freed = ModelProto()
    freed.CopyFrom(model)
    graph = freed.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    fixed = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim]
    del graph.input[:]
    graph.input.extend(inputs)  # old exporters list weights as inputs, which keeps them from being folded
    del graph.value_info[:]
    if card.kind == "embedder":
        _normalise(freed, card.outputs[0])
    for value in (*graph.input, *graph.output):
        free = range(1) if card.kind == "embedder" else range(4)
        for i, dim in enumerate(value.type.tensor_type.shape.dim):
            if i in free and not (value in inputs and i == 1):
                dim.dim_param = f"{value.name}_{i}" if i else "batch"
    try:
        data = with_card(freed, card)
        trial(data, card, name)
        return data, card
    except ModelInvalid:
        if card.kind != "detector" or len(fixed) != 4 or not all(fixed[2:]):
            raise
        card = replace(card, size=(fixed[2], fixed[3]))
        data = with_card(model, card)
        trial(data, card, name)
        return data, card


def _normalise(model: ModelProto, output: str) -> None:
    """Divide an output's rows by their L2 norm; it keeps its name."""
    raw = f"{output}_raw"
    for node in model.graph.node:
        for names in (node.input, node.output):
            for i, used in enumerate(names):
                if used == output:
                    names[i] = raw
    model.graph.node.append(onnx.helper.make_node("LpNormalization", [raw], [output], axis=1, p=2))


def with_card(model: ModelProto, card: ModelCard) -> bytes:
    """The file's content with this card inside, in place of any other."""
    carrier = ModelProto()
    carrier.CopyFrom(model)
    others = [entry for entry in carrier.metadata_props if entry.key != METADATA_KEY]
    del carrier.metadata_props[:]
    carrier.metadata_props.extend(others)
    carrier.metadata_props.add(key=METADATA_KEY, value=card.to_json())
    data: bytes = carrier.SerializeToString(deterministic=True)
    return data


def trial(data: bytes, card: ModelCard, name: str) -> None:
    """Run a model once on the CPU and look whether it does what its card says.

    Raises:
        ModelInvalid: it cannot be loaded or run, or gives something else.
    """
    if max(card.size) > _LARGEST_SIDE:
        raise ModelInvalid(f"{name}: asks for pictures of {card.size}; at most {_LARGEST_SIDE} pixels a side")
    model = load(data, device=Device("cpu"), threads=1, card=card)
    if card.kind == "embedder":
        _try_embedder(model, name)
    elif card.kind == "classifier":
        _try_classifier(model, name)
    elif card.kind == "detector":
        _try_detector(model, name)
    else:
        pixels = np.zeros((96, 128, 3), np.uint8)
        boxes = np.array([[20, 20, 60, 60], [30, 10, 50, 50]], np.float32)
        shape = _run(model, {card.input: pixels, "boxes": boxes}, name)[0].shape
        _expect(shape == (2, 5, 2), name, "landmarks (2, 5, 2)", shape)


def _try_embedder(model: Model, name: str) -> None:
    card = model.card
    for count in (2, 1):  # one alone would not show a graph that gives as many, however many it is asked for
        vectors = _run(model, {card.input: _noise(count, *card.size)}, name)[0]
        _expect(vectors.shape == (count, card.dim), name, f"vectors {(count, card.dim)}", vectors.shape)
        norms = np.linalg.norm(vectors, axis=1)
        unit = bool(np.all(np.abs(norms - 1) < _NORM_TOLERANCE))
        _expect(unit, name, "vectors of norm 1 (normalised in the graph)", norms.round(3).tolist())


def _try_classifier(model: Model, name: str) -> None:
    card = model.card
    _expect(all(card.size), name, "a fixed size", card.size)
    for count in (2, 1):
        scores = _run(model, {card.input: _noise(count, *card.size)}, name)[0]
        wanted = (count, len(card.labels))
        _expect(scores.shape == wanted, name, f"scores {wanted}, a column for each label", scores.shape)
        span = float(scores.min()), float(scores.max())
        _expect(span[0] > -1e-4 and span[1] < 1.0001, name, "probabilities", f"values from {span[0]} to {span[1]}")


def _try_detector(model: Model, name: str) -> None:
    card = model.card
    sizes = [card.size] if all(card.size) else [(96, 160), (160, 96)]
    for height, width in sizes:
        outputs = _run(model, {card.input: _noise(2 if len(sizes) > 1 else 1, height, width)}, name)
        if card.decoder == "yunet":
            cells = {s: height * width // s**2 * (2 if len(sizes) > 1 else 1) for s in (8, 16, 32)}
            width_of = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
            for label, out in zip(card.outputs, outputs, strict=True):
                head, _, stride = label.partition("_")
                known = head in width_of and stride.isdigit() and int(stride) in cells
                _expect(known, name, "outputs like cls_8 or kps_32", label)
                wanted = cells[int(stride)] * width_of[head]
                _expect(out.size == wanted, name, f"{wanted} values of {label}", out.size)
        else:
            _expect(outputs[0].ndim == 4 and outputs[0].shape[:2] == (2, 1), name, "a map", outputs[0].shape)


def _noise(count: int, height: int, width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Pictures of noise, the same each time: two zeros would hide a missing normalisation."""
    return np.random.default_rng(0).uniform(0, 255, (count, 3, height, width)).astype(np.float32)


def _run(model: Model, feeds: dict[str, Any], name: str) -> list[Any]:
    start = time.monotonic()
    try:
        outputs = model.run(feeds, TRIAL_SECONDS)
    except Exception as error:  # ONNX Runtime has no common base class
        if time.monotonic() - start >= TRIAL_SECONDS:
            raise ModelInvalid(
                f"{name}: a trial run took longer than {TRIAL_SECONDS:g} s; no video can wait"
            ) from error
        reason = str(error).splitlines()[0][:160]
        raise ModelInvalid(f"{name}: a trial run failed ({reason}); export it with a free batch size") from error
    for label, out in zip(model.card.outputs, outputs, strict=True):
        kind = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
        _expect(kind == np.float32, name, f"float32 as {label}", kind)
    return outputs


def _expect(condition: bool, name: str, wanted: str, came: object) -> None:
    if not condition:
        raise ModelInvalid(f"{name}: its card promises {wanted}, the model gives {came}; export it again")
