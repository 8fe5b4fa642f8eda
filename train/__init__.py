"""The trainer: `python -m train`, run from the checkout. PyTorch lives here and in export/ alone."""

from __future__ import annotations

import importlib
import sys


def _import_torchvision() -> None:
    """Import torchvision also beside a torch build of another kind (a CPU torch and PyPI's torchvision).

    Then its compiled operators do not load, and its import ends at the first that it describes. Training
    needs none of them: once they have names, the Python part (networks, transforms) imports and works.
    """
    import torch

    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou) -> Tensor")
        importlib.import_module("torchvision")


_import_torchvision()
