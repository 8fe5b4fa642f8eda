"""Checkpoints: atomic, plain tensors and values only, so that loading one runs no code."""

from __future__ import annotations

import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from facecam.errors import ModelInvalid, ModelMissing, OutputError

FORMAT = "facecam.checkpoint/1"
#: What every checkpoint holds.
RUN = ("recipe", "classes", "outputs", "data", "origin", "mean", "std", "model", "epoch", "best", "history")


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: temporary file, fsync, replace.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); check the folder and the free space"
        ) from error


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; ``state`` holds tensors, numbers, texts, lists and dicts."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_atomic(path, buffer.getvalue())


def load(path: Path, needed: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a checkpoint (``weights_only``: a hostile file cannot run code).

    Args:
        needed: entries that the caller is going to look at.

    Raises:
        ModelMissing: no such file. ModelInvalid: damaged, hostile, of another program, or without what is needed.
    """
    if not path.is_file():
        raise ModelMissing(
            f"{path}: no checkpoint there; expected a folder that python -m train fit made, or its best.pt"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch raises KeyError, RuntimeError, UnpicklingError, EOFError, BadZipFile and more for bad bytes.
        raise ModelInvalid(
            f"{path}: not a whole checkpoint ({type(error).__name__}); train again or use last.pt"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ModelInvalid(f"{path}: not a checkpoint of {FORMAT}; expected one that python -m train fit wrote")
    if missing := [key for key in needed if key not in state]:
        raise ModelInvalid(f"{path}: the checkpoint lacks {missing[0]}; expected one that python -m train fit wrote")
    return state


def find(run: Path, name: str = "best.pt") -> Path:
    """The checkpoint of a run folder, or the file itself."""
    return run / name if run.is_dir() else run


def rng_state() -> dict[str, Any]:
    """Everything random that a step may use."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
