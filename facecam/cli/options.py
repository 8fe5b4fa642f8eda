"""Shared options, derived from `facecam.settings.Settings`, as decorators."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from facecam.settings import SETTING_FIELDS, Settings, min_face_pixels, seconds_of

F = TypeVar("F", bound=Callable[..., Any])


class FiniteRange(click.FloatRange):
    """A number in a range. Click's own takes nan, which no comparison finds outside of any, and endless ones."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number.", param, ctx)
        return number


class _Setting(click.Option):
    """An option whose errors tell where its value stands, if not on the command line."""

    def get_error_hint(self, ctx: click.Context | None) -> str:
        hint = super().get_error_hint(ctx)
        source = None if ctx is None or self.name is None else ctx.get_parameter_source(self.name)
        if source is ParameterSource.ENVIRONMENT:
            return f"{hint} (from {self.envvar})"
        return f"{hint} (from config.toml)" if source is ParameterSource.DEFAULT_MAP else hint


def _type(name: str) -> Any:
    meta = SETTING_FIELDS[name].metadata
    if "choices" in meta:
        return click.Choice(meta["choices"])
    if "low" in meta:
        whole = isinstance(SETTING_FIELDS[name].default, int)
        return (click.IntRange if whole else FiniteRange)(meta["low"], meta["high"])
    return str


def _checked_min_face(ctx: click.Context, param: click.Parameter, value: str) -> str:
    min_face_pixels(value, 1080)
    return value


def _checked_age(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        seconds_of(value)
    return value


_CHECKS: dict[str, Any] = {"min_face": _checked_min_face, "forget_unknown_after": _checked_age}


def settings(*names: str) -> Callable[[F], F]:
    """Add one option per named setting; the command receives one ``settings: Settings``."""

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def gathered(*args: Any, **kwargs: Any) -> Any:
            chosen = {name: kwargs.pop(name) for name in names}
            return command(*args, settings=Settings(**chosen), **kwargs)

        wrapped: Any = gathered
        for name in reversed(names):
            entry = SETTING_FIELDS[name]
            wrapped = click.option(
                "--" + name.replace("_", "-"),
                name,
                cls=_Setting,
                default=entry.default,
                type=_type(name),
                metavar=entry.metadata.get("metavar"),
                envvar="FACECAM_" + name.upper(),
                show_default=entry.default is not None,
                callback=_CHECKS.get(name),
                help=entry.metadata["help"],
            )(wrapped)
        return wrapped

    return decorate
