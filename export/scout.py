"""Writes a trained scout as the ONNX file that facecam ships.

Example: python -m export.scout scout.pt -o facecam/zoo/scout.onnx
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import click
import numpy as np
import torch

from export.to_onnx import with_card
from facecam.errors import FacecamError, ModelInvalid
from facecam.zoo.card import ModelCard
from facecam.zoo.session import Device, load
from train import scout as trained
from train.checkpoint import write_atomic

OPSET = 17
#: The graph and torch differ by float32's rounding only.
TOLERANCE = 1e-3


def write(scout: trained.Scout, card: ModelCard) -> bytes:
    """The graph: it eats uint8 pictures as OpenCV holds them, N x H x W x 3; batch norm is folded in."""
    from onnx import TensorProto, helper, numpy_helper

    held: list[object] = []

    def const(name: str, values: torch.Tensor) -> str:
        held.append(numpy_helper.from_array(np.ascontiguousarray(values.detach().numpy(), np.float32), name))
        return name

    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["x0"], perm=[0, 3, 1, 2]),
    ]
    layers = list(scout.body)
    for i in range(len(trained.PLAN)):
        conv, norm = layers[3 * i], layers[3 * i + 1]
        assert isinstance(conv, torch.nn.Conv2d) and isinstance(norm, torch.nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        share = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = conv.weight * share[:, None, None, None] / (64.0 if i == 0 else 1.0)
        bias = norm.bias - norm.running_mean * share
        nodes.append(
            helper.make_node(
                "Conv", [f"x{i}", const(f"w{i}", weight), const(f"b{i}", bias)], [f"c{i}"],
                kernel_shape=[3, 3], strides=list(conv.stride), pads=[1, 1, 1, 1],
            )
        )  # fmt: skip
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"x{i + 1}"]))
    assert scout.head.bias is not None
    head = [f"x{len(trained.PLAN)}", const("wh", scout.head.weight), const("bh", scout.head.bias)]
    nodes.append(helper.make_node("Conv", head, ["logits"], kernel_shape=[1, 1]))
    graph = helper.make_graph(
        nodes, card.name,
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "height", "width", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2, "rows", "cols"])],
        held,
    )  # fmt: skip
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="facecam", ir_version=8
    )
    return with_card(model.SerializeToString(deterministic=True), card)


def compare(content: bytes, scout: trained.Scout) -> float:
    """The largest difference between what the file and torch say of some noise of odd sizes.

    Raises:
        ModelInvalid: more than rounding.
    """
    model = load(content, device=Device("cpu"))
    rng = np.random.default_rng(0)
    worst = 0.0
    for height, width in ((64, 96), (65, 71), (121, 8)):
        pixels = rng.integers(0, 256, (1, height, width, 3), np.uint8)
        with torch.no_grad():
            expected = scout(torch.from_numpy(pixels).permute(0, 3, 1, 2).float()).numpy()
        worst = max(worst, float(np.abs(model.run_batch(pixels) - expected).max()))
    if worst > TOLERANCE:
        raise ModelInvalid(f"the file differs from torch by {worst:.2g}")
    return worst


@click.command(epilog="Example: python -m export.scout scout.pt -o facecam/zoo/scout.onnx")
@click.argument("weights", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The ONNX file to write.")
def main(weights: Path, out: Path) -> None:
    """Write WEIGHTS (python -m train.scout) as one ONNX file, and print the hash that facecam/zoo/scout.py pins."""
    try:
        scout = trained.load(weights)
        card = ModelCard(
            name="facecam scout", kind="scout", input="image", size=(0, 0), colour="BGR", mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0), outputs=("logits",), licence="CC0-1.0", source="python -m train.scout",
        )  # fmt: skip
        content = write(scout, card)
        click.echo(f"parity with torch: {compare(content, scout):.1e}")
        write_atomic(out, content)
        out.chmod(0o644)  # nothing private: who installs a package is not always who runs it
    except FacecamError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{out}: {len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
