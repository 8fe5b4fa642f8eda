"""Weight files: reading one safely, fitting it to a network, and naming what came out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facecam.errors import ModelInvalid, ModelMissing


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from a .pth/.pt/.safetensors file, or the network of one of our own checkpoints.

    Raises:
        ModelMissing: no such file. ModelInvalid: not a file of tensors.
    """
    if not path.is_file():
        raise ModelMissing(f"--weights {path}: no such file; give none, imagenet, dlib or the path of a weight file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch and safetensors raise a dozen kinds for a damaged or a hostile file.
        raise ModelInvalid(
            f"{path}: not a file of plain tensors ({type(error).__name__}); save a state_dict with torch.save"
        ) from error
    for key in ("model", "state_dict", "model_state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not any(isinstance(v, Tensor) for v in loaded.values()):
        raise ModelInvalid(f"{path}: holds no state_dict; save one with torch.save(model.state_dict(), FILE)")
    prefixes = ("module.", "backbone.")
    for prefix in prefixes:
        if all(key.startswith((prefix, "head.")) for key in loaded):
            loaded = {key[len(prefix) :]: v for key, v in loaded.items() if key.startswith(prefix)}
    return {key: value for key, value in loaded.items() if isinstance(value, Tensor)}


def load_backbone(module: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """Load what belongs below the classifier; the classifier itself may be of any size.

    Raises:
        ModelInvalid: layers are missing or of another shape.
    """
    own = module.state_dict()
    heads = ("fc.", "classifier.", "head.", "AuxLogits.", "last_linear.")
    needed = [key for key in own if not key.startswith(heads) and not key.endswith("num_batches_tracked")]
    wrong = [key for key in needed if key not in state or state[key].shape != own[key].shape]
    if wrong:
        key = wrong[0]
        came = tuple(state[key].shape) if key in state else "nothing"
        raise ModelInvalid(
            f"{origin}: does not fit this network: {len(wrong)} of {len(needed)} layers differ, the first is {key} "
            f"(expected {tuple(own[key].shape)}, came {came}); check --arch"
        )
    fitting = {key: v for key, v in state.items() if key in own and own[key].shape == v.shape}
    module.load_state_dict(fitting, strict=False)


def fingerprint(module: nn.Module) -> str:
    """SHA-256 of all weights: two networks with one fingerprint compute the same."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
