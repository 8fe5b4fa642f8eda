"""Mutations of a valid file, each a function of its seed alone."""

from __future__ import annotations

import copy
import json
import random
from typing import Any, Final

#: What parsers stumble over, as integers of two and four bytes.
_NUMBERS: Final = (0, 1, 0x7F, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 30_000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x10000000)
_TEXTS: Final = (
    "",
    "\u202eAda",
    "Ada\n\x1b[31mred",
    "../../../etc/passwd",
    "Unknown 3",
    "x" * 5000,
    "\ud800",
    "\0",
    "AAAA",
    "A" * 100_000,
    "1e999",
)
_VALUES: Final[tuple[Any, ...]] = (None, True, -1, 0, 1e308, -1e-300, 10**400, [], {}, [[]], [None] * 300, {"a": {}})


def mutated(data: bytes, chance: random.Random) -> bytes:
    """One to four random injuries."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        data = chance.choice(_INJURIES)(data, chance)
    return data


def _flip(data: bytes, chance: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(chance.choice((1, 2, 8, 40))):
        if out:
            out[chance.randrange(len(out))] ^= 1 << chance.randrange(8)
    return bytes(out)


def _number(data: bytes, chance: random.Random) -> bytes:
    width, value = chance.choice((1, 2, 4, 8)), chance.choice(_NUMBERS)
    raw = (value & ((1 << 8 * width) - 1)).to_bytes(width, chance.choice(("big", "little")))
    near = chance.choice((64, 512, len(data)))  # headers are where it hurts
    at = chance.randrange(max(1, min(near, len(data))))
    return data[:at] + raw + data[at + width :]


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _block(data: bytes, chance: random.Random) -> bytes:
    at, size = chance.randrange(len(data) + 1), chance.choice((4, 32, 256, 2000))
    fill = chance.choice((b"\0" * size, b"\xff" * size, chance.randbytes(size)))
    return data[:at] + fill + data[at + size :]


def _insert(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.randbytes(chance.choice((1, 3, 16, 500))) + data[at:]


def _repeat(data: bytes, chance: random.Random) -> bytes:
    at, size = chance.randrange(len(data) + 1), chance.choice((16, 100, 1000))
    return data[:at] + data[at : at + size] * chance.choice((2, 20)) + data[at + size :]


def _drop(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + data[at + chance.choice((1, 4, 64, 1000)) :]


_INJURIES: Final = (_flip, _flip, _number, _number, _cut, _block, _insert, _repeat, _drop)


def mutated_json(data: bytes, chance: random.Random) -> bytes:
    """A document with one to three entries replaced, removed, renamed or nested; now and then only its bytes hurt."""
    if chance.random() < 0.25:
        return mutated(data, chance)
    document = json.loads(data)
    for _ in range(chance.choice((1, 1, 2, 3))):
        places = list(_places(document))
        if not places:
            break
        holder, key = chance.choice(places)
        kind = chance.randrange(5)
        if kind == 0:
            holder[key] = copy.deepcopy(chance.choice(_VALUES))  # a later injury may land inside it
        elif kind == 1:
            holder[key] = chance.choice(_TEXTS)
        elif kind == 2:
            del holder[key]
        elif kind == 3 and isinstance(holder, dict):
            holder[chance.choice(_TEXTS)] = holder.pop(key)
        else:
            nest: Any = holder[key]
            for _ in range(chance.choice((1, 50, 3000))):
                nest = [nest]
            holder[key] = nest
    try:
        return json.dumps(document).encode()
    except RecursionError:
        return b"[" * 100_000


def _places(value: Any) -> Any:
    """Every (holder, key) of a document, without recursion."""
    todo = [value]
    while todo:
        holder = todo.pop()
        entries = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for key, entry in list(entries):
            yield holder, key
            if isinstance(entry, dict | list):
                todo.append(entry)
