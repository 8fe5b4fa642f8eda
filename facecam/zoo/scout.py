"""The network that says where small faces may be (`vision.scout`), trained by this project: python -m train.scout."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from facecam.errors import ModelInvalid
from facecam.zoo.session import Device, Model, load, read_bytes

FILE: Final = Path(__file__).with_name("scout.onnx")
SHA256: Final = "24303624df783d7f15cb1cadeec2b826b7036cf9f7b6fd599cfa669bd3482117"


def open_scout(device: Device) -> Model:
    """The network, on one thread: its calls are short, and others run beside them.

    Raises:
        ModelMissing: the file is not there. ModelInvalid: it has another content.
    """
    data = read_bytes(FILE)
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ModelInvalid(
            f"{FILE.name} is not the file that belongs to this facecam; reinstall it: pip install facecam"
        )
    return load(data, device=device, threads=1)
