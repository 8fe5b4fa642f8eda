"""What is inside a network: a table of layers with sizes, parameters and multiply-adds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Layer:
    """One row.

    Attributes:
        kernel, stride, padding: of convolutions and pools, height and width; None elsewhere.
        output: channels x height x width, or features, of one picture.
        parameters: learnt values. madds: multiply-adds for one picture.
    """

    name: str
    kind: str
    kernel: tuple[int, int] | None
    stride: tuple[int, int] | None
    padding: tuple[int, int] | None
    output: tuple[int, ...]
    parameters: int
    madds: int


def output_size(size: int, kernel: int, stride: int, padding: int, ceil: bool = False) -> int:
    """(in - k + 2p) / s + 1, rounded down (some pools round up)."""
    room = size - kernel + 2 * padding
    return (-(-room // stride) if ceil else room // stride) + 1


def describe(network: nn.Module, shape: tuple[int, int, int]) -> list[Layer]:
    """Run one empty picture through and note each layer that has no layers inside.

    Args:
        shape: channels, height, width.
    """
    rows: list[Layer] = []
    hooks = []

    def note(name: str, module: nn.Module) -> None:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> None:
            pair = lambda value: (value, value) if isinstance(value, int) else tuple(value)  # noqa: E731
            windowed = isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d)
            madds = 0
            if isinstance(module, nn.Conv2d):
                taps = module.kernel_size[0] * module.kernel_size[1] * module.in_channels // module.groups
                madds = taps * result[0].numel()
            elif isinstance(module, nn.Linear):
                madds = module.in_features * result[0].numel()
            rows.append(
                Layer(
                    name,
                    type(module).__name__,
                    pair(module.kernel_size) if windowed else None,
                    pair(module.stride) if windowed else None,
                    pair(module.padding) if windowed else None,
                    tuple(result.shape[1:]),
                    sum(p.numel() for p in module.parameters(recurse=False)),
                    madds,
                )
            )

        hooks.append(module.register_forward_hook(hook))

    for name, module in network.named_modules():
        if not any(True for _ in module.children()) and not isinstance(module, nn.Identity):
            note(name, module)
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, *shape))
    finally:
        for handle in hooks:
            handle.remove()
    return rows


def table(rows: list[Layer]) -> str:
    """The rows as text, with totals."""
    cell = lambda pair: "x".join(map(str, pair)) if pair else "-"  # noqa: E731
    lines = [("layer", "kind", "kernel", "stride", "padding", "output", "parameters", "multiply-adds")]
    for row in rows:
        lines.append(
            (
                row.name, row.kind, cell(row.kernel), cell(row.stride), cell(row.padding), cell(row.output),
                f"{row.parameters:,}", f"{row.madds:,}",
            )
        )  # fmt: skip
    lines.append(
        ("total", "", "", "", "", "", f"{sum(r.parameters for r in rows):,}", f"{sum(r.madds for r in rows):,}")
    )
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [
        "  ".join(c.rjust(w) if i > 5 else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip()
        for line in lines
    ]
    text.insert(1, "-" * max(map(len, text)))
    text.append("output size of a convolution or pool: (in - kernel + 2 padding) / stride + 1, rounded down")
    return "\n".join(text)
