"""Rows of unit vectors in memory, and which of them are nearest: exact, or in half precision for very many.

Both kinds look at every row: there is no approximate index here, whose building would cost minutes whenever a
million people are loaded (measured in benchmarks/gallery.py), and whose answer may miss somebody.
"""

from __future__ import annotations

import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

#: From this many rows on half precision is used, if FAISS is installed: half the memory and the traffic.
MANY: Final = 200_000
#: Rows of one part of `Halves`: the parts are searched side by side.
PART: Final = 131_072


class Rows(Protocol):
    """Rows that come and go at the cost of themselves."""

    def __len__(self) -> int: ...

    def append(self, rows: NDArray[np.float32]) -> None:
        """Add float32 rows, n x D, norm 1."""

    def delete(self, start: int, stop: int) -> None:
        """Drop rows; those behind move up."""

    def take(self, start: int, stop: int) -> NDArray[np.float32]:
        """Some rows, float32."""

    def products(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32, M x rows: dot products with all rows."""

    def best(self, vectors: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest rows of each vector, nearest first: dot products and indices, M x min(count, rows)."""


class Exact:
    """`Rows` as one contiguous float32 matrix: a product answers everything."""

    def __init__(self, dim: int) -> None:
        self._data: NDArray[np.float32] = np.zeros((0, dim), np.float32)
        self._used = 0
        self._own = False  # whether the memory is ours to change

    def __len__(self) -> int:
        return self._used

    def append(self, rows: NDArray[np.float32]) -> None:
        if not self._used:
            self._data = np.ascontiguousarray(rows, np.float32)  # not copied where it need not be
            self._own = False
        else:
            need = self._used + len(rows)
            if need > len(self._data):  # grows by half, so that adding one by one is not quadratic
                grown = np.empty((max(need, self._used * 3 // 2), self._data.shape[1]), np.float32)
                grown[: self._used] = self._data[: self._used]
                self._data, self._own = grown, True
            self._data[self._used : need] = rows
        self._used += len(rows)

    def delete(self, start: int, stop: int) -> None:
        if not self._own:
            self._data, self._own = self._data[: self._used].copy(), True
        left = self._used - (stop - start)
        self._data[start:left] = self._data[stop : self._used]
        self._used = left

    def take(self, start: int, stop: int) -> NDArray[np.float32]:
        return self._data[start : min(stop, self._used)]

    def products(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = vectors @ self._data[: self._used].T
        return result

    def best(self, vectors: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return _top(self.products(vectors), np.arange(self._used), count)


class Halves:
    """`Rows` in float16, in parts that FAISS searches side by side; dot products are off by 1e-4 at most."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._parts: list[Any] = []

    def __len__(self) -> int:
        return sum(part.ntotal for part in self._parts)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="facecam-match")

    def append(self, rows: NDArray[np.float32]) -> None:
        import faiss

        start = 0
        while start < len(rows):
            if not self._parts or self._parts[-1].ntotal >= PART:
                kind = faiss.ScalarQuantizer.QT_fp16
                self._parts.append(faiss.IndexScalarQuantizer(self._dim, kind, faiss.METRIC_INNER_PRODUCT))
            room = PART - self._parts[-1].ntotal
            self._parts[-1].add(np.ascontiguousarray(rows[start : start + room], np.float32))
            start += room

    def delete(self, start: int, stop: int) -> None:
        import faiss

        for part, first in self._placed():
            a, b = max(start - first, 0), min(stop - first, part.ntotal)
            if a < b:
                part.remove_ids(faiss.IDSelectorRange(a, b))
        self._parts = [part for part in self._parts if part.ntotal]

    def take(self, start: int, stop: int) -> NDArray[np.float32]:
        found = [np.zeros((0, self._dim), np.float32)]
        for part, first in self._placed():
            a, b = max(start - first, 0), min(stop - first, part.ntotal)
            if a < b:
                found.append(part.reconstruct_n(a, b - a))
        return np.concatenate(found)

    def products(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        parts = [vectors @ part.reconstruct_n(0, part.ntotal).T for part in self._parts]
        return np.concatenate([np.zeros((len(vectors), 0), np.float32), *parts], axis=1)

    def best(self, vectors: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        placed = self._placed()
        asked = np.ascontiguousarray(vectors, np.float32)

        def search(entry: tuple[Any, int]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            part, first = entry
            scores, indices = part.search(asked, min(count, part.ntotal))
            return scores, indices + first

        found = list(map(search, placed) if len(placed) < 2 else self._pool.map(search, placed))
        if not found:
            return np.zeros((len(vectors), 0), np.float32), np.zeros((len(vectors), 0), np.int64)
        return _top(np.concatenate([f[0] for f in found], axis=1), np.concatenate([f[1] for f in found], axis=1), count)

    def _placed(self) -> list[tuple[Any, int]]:
        """Each part with the index of its first row, as it is now."""
        ends = np.cumsum([0, *(part.ntotal for part in self._parts)]).tolist()
        return list(zip(self._parts, ends))


def _top(
    scores: NDArray[np.float32], indices: NDArray[np.int64], count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The ``count`` greatest of each row, greatest first; of equal ones the first."""
    indices = np.broadcast_to(indices, scores.shape)
    count = min(count, scores.shape[1])
    if count < scores.shape[1]:
        chosen = np.argpartition(-scores, count - 1, axis=1)[:, :count] if count else np.zeros((len(scores), 0), int)
        scores, indices = np.take_along_axis(scores, chosen, 1), np.take_along_axis(indices, chosen, 1)
    order = np.lexsort((indices, -scores), axis=1)
    return np.take_along_axis(scores, order, 1), np.take_along_axis(indices, order, 1)


def half_precision_installed() -> bool:
    """Whether FAISS can be imported (extra "large")."""
    return importlib.util.find_spec("faiss") is not None
