"""int8 by ONNX Runtime: static QDQ, uint8 activations, int8 weights per channel, calibrated on real crops."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facecam.errors import ModelInvalid

#: Fewer pictures than this say too little about the range of activations.
FEWEST = 16
#: What torch's exporter makes of normalize().
_NORMS = ("ReduceL2", "LpNormalization")


class _Feed:
    """Calibration data as ONNX Runtime asks for it: one dictionary at a time."""

    def __init__(self, name: str, batch: np.ndarray, step: int = 8) -> None:
        self._rows: Iterator[dict[str, np.ndarray]] = iter(
            [{name: batch[i : i + step]} for i in range(0, len(batch), step)]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._rows, None)


def _behind_the_norm(data: bytes) -> list[str]:
    """Names of all nodes after the first norm of a vector: little arithmetic, on values that 8 bits would blur."""
    import onnx

    graph = onnx.load_model_from_string(data).graph
    late: set[str] = set()
    names = []
    for node in graph.node:
        if node.op_type in _NORMS or late.intersection(node.input):
            late.update(node.output)
            names.append(node.name)
    return names


def to_int8(data: bytes, name: str, batch: np.ndarray) -> bytes:
    """Quantize a float model.

    uint8 activations were three times faster than int8 ones on CPUs with VNNI.

    Weights use seven of their eight bits: a processor with AVX2 but no VNNI adds two products in 16 bits, where
    255 * 64 * 2 just fits. With all eight, a face network's vectors on one were as far as cosine 0.82 from what they
    are elsewhere (models/dlib-pairs.onnx as first exported, emulated Haswell); with seven they are the same.

    Args:
        data: the fp32 ONNX file. name: of its input.
        batch: float32 N x 3 x S x S, preprocessed pictures.

    Raises:
        ModelInvalid: too few pictures, or a graph that cannot be quantized.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if len(batch) < FEWEST:
        raise ModelInvalid(f"--calibrate: at least {FEWEST} pictures are needed, came {len(batch)}; give more")
    with tempfile.TemporaryDirectory() as folder:
        source, ready, result = (Path(folder) / f"{step}.onnx" for step in ("source", "ready", "result"))
        source.write_bytes(data)
        try:
            # Symbolic shape inference fails on graphs of torch's exporter; the plain one suffices.
            quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
            quantize_static(
                str(ready),
                str(result),
                _Feed(name, batch),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=True,
                calibrate_method=CalibrationMethod.MinMax,
                nodes_to_exclude=_behind_the_norm(ready.read_bytes()),
                op_types_to_quantize=["Conv", "MatMul", "Gemm", "Add", "Relu", "MaxPool", "AveragePool", "Concat"],
            )
        except Exception as error:
            # onnxruntime.quantization raises bare RuntimeError, ValueError, KeyError and IndexError.
            raise ModelInvalid(
                f"the model cannot be quantized ({type(error).__name__}: {error}); use --fp16"
            ) from error
        return result.read_bytes()
