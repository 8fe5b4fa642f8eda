"""MNIST's IDX files: two zero bytes, a type, a number of dimensions, the sizes, then the values."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np

from facecam.errors import MediaError

#: An honest file is small (60,000 digits are 47 MB); a packed bomb is not unpacked past this.
_LIMIT = 1 << 30


def read_idx(path: Path) -> np.ndarray:
    """Read unsigned bytes of any shape, plain or .gz.

    Raises:
        MediaError: another type of values, or a length that does not fit the header.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            data = file.read(_LIMIT + 1)
    except (OSError, EOFError) as error:
        raise MediaError(f"{path}: cannot be read ({error})") from error
    if len(data) < 4 or data[:3] != b"\x00\x00\x08" or not 1 <= data[3] <= 4:
        raise MediaError(f"{path}: not an IDX file of unsigned bytes; download it again")
    dims = data[3]
    start = 4 + 4 * dims
    shape = struct.unpack(f">{dims}I", data[4:start]) if len(data) >= start else (0,)
    if len(data) - start != math.prod(shape) or 0 in shape:
        raise MediaError(f"{path}: the header says {shape}, {len(data) - start} bytes follow; download it again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
