"""Two results side by side: which figures changed, and whether they may be compared at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from facecam.errors import SourceError, UsageFault

#: Sections that are curves, lists of single draws or facts, not figures.
_LEFT_OUT: Final = ("roc", "det", "scores", "draws", "folds", "appearances", "false_name_list", "data", "models")
#: A result of more bytes than this is none.
_MAX_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """One figure in both results.

    Attributes:
        name: its path in the JSON, with dots; first, second: its values, None where absent.
    """

    name: str
    first: float | None
    second: float | None

    @property
    def change(self) -> float | None:
        return None if self.first is None or self.second is None else self.second - self.first


def read_result(path: Path) -> dict[str, Any]:
    """A result that ``facecam eval ... --json FILE`` wrote.

    Raises:
        SourceError: the file cannot be read. UsageFault: it is no result.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageFault(f"{path}: larger than any result; give a file that facecam eval wrote with --json")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error}); give a result file") from error
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise UsageFault(f"{path}: not JSON ({error}); give a file that facecam eval wrote with --json") from error
    if not isinstance(data, dict) or not str(data.get("schema", "")).startswith("facecam.eval/"):
        raise UsageFault(f"{path}: not a result of facecam eval; give a file that it wrote with --json")
    return data


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[list[Row], list[str]]:
    """All figures that one of the results has, and a line for everything that makes them not comparable.

    Raises:
        UsageFault: they are results of different tests, or hold a number beyond all.
    """
    if first["schema"] != second["schema"]:
        raise UsageFault(f"{first['schema']} and {second['schema']} are different tests; give two results of one test")
    one, two = dict(_numbers(first)), dict(_numbers(second))
    rows = [Row(name, one.get(name), two.get(name)) for name in dict.fromkeys([*one, *two])]
    return rows, [*_differences("data", first, second), *_differences("models", first, second)]


def _numbers(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, item in value.items():
        if name in _LEFT_OUT:
            continue
        if isinstance(item, Mapping):
            yield from _numbers(item, f"{prefix}{name}.")
        elif isinstance(item, int | float) and not isinstance(item, bool):
            try:
                number = float(item)
            except OverflowError as error:
                raise UsageFault(
                    f"{prefix}{name} is a number of {len(str(item))} digits; give results that facecam eval wrote"
                ) from error
            yield prefix + name, number


def _differences(section: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    """What the results say differently of their data or models."""
    one, two = _flat(first.get(section)), _flat(second.get(section))
    for name in dict.fromkeys([*one, *two]):
        if one.get(name) != two.get(name):
            yield f"{section}: {name} is {_short(one.get(name))} in the first, {_short(two.get(name))} in the second"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {}
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat |= _flat(item, f"{prefix}{name} ") if isinstance(item, Mapping) else {f"{prefix}{name}": item}
    return flat


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 40 else text[:12] + "..."
