"""A trained network as ONNX bytes: one file, dynamic batch, softmax or L2-normalisation inside."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from facecam.errors import ModelInvalid
from facecam.zoo.card import METADATA_KEY, ModelCard
from train.networks import Network

INPUT = "crop"
#: The lowest opset that torch's exporter writes itself; others are converted.
OPSET = 18


class Finished(nn.Module):
    """The network as people use it: probabilities of the known classes, or unit vectors.

    Other people's share of a classifier's probability (see Recipe.others) is left out: rows may sum to less than 1.
    """

    def __init__(self, network: Network, classes: int) -> None:
        super().__init__()
        self.network, self.classes = network, classes

    def forward(self, x: Tensor) -> Tensor:
        """Normalised pictures N x 3 x S x S -> N x classes, or N x dim."""
        found = self.network(x)
        return found if self.network.metric else torch.softmax(found, dim=1)[:, : self.classes]


def output_name(metric: bool) -> str:
    return "embedding" if metric else "probabilities"


def convert(module: Finished, size: int, opset: int = OPSET) -> bytes:
    """Write the graph; weights stay inside the file.

    Raises:
        ModelInvalid: torch cannot express the network in that opset.
    """
    import onnx

    module.eval()  # inception would export two outputs otherwise, dropout would stay on
    example = torch.zeros(2, 3, size, size)
    buffer = io.BytesIO()
    noise = io.StringIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                external_data=False,
                input_names=[INPUT],
                output_names=[output_name(module.network.metric)],
                dynamic_shapes=({0: "batch"},),
                opset_version=opset,
                verbose=False,
            )
            program.save(buffer, external_data=False)
    except Exception as error:
        # The exporter raises a dozen kinds, all of them about the graph or the opset.
        raise ModelInvalid(
            f"the network cannot be written as ONNX opset {opset} ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:160]}); try another --opset (default {OPSET})"
        ) from error
    model = onnx.load_model_from_string(buffer.getvalue())
    strip(model)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def strip(model: Any) -> None:
    """Take out what the exporter notes for debugging: paths and lines of source files of this machine."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    model.producer_name = "facecam"


def with_card(data: bytes, card: ModelCard) -> bytes:
    """The file with this card in its metadata, in place of any other."""
    import onnx

    model = onnx.load_model_from_string(data)
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, card.to_json()
    return model.SerializeToString(deterministic=True)


def halve(data: bytes) -> bytes:
    """fp32 weights as fp16, the arithmetic and the input stay fp32: half the bytes, the same speed.

    Each weight is stored as fp16 and cast when the file is loaded (ONNX Runtime folds the cast).
    """
    import numpy as np
    import onnx
    from onnx import numpy_helper

    model = onnx.load_model_from_string(data)
    casts, small = [], []
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < 64:
            small.append(tensor)
            continue
        limit = float(np.finfo(np.float16).max)
        half = numpy_helper.from_array(array.clip(-limit, limit).astype(np.float16), tensor.name + ".fp16")
        small.append(half)
        casts.append(onnx.helper.make_node("Cast", [half.name], [tensor.name], to=onnx.TensorProto.FLOAT))
    del model.graph.initializer[:]
    model.graph.initializer.extend(small)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)
