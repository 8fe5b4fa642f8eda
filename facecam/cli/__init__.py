"""The command line: Click, one file per command group, thin, each loaded when it is called."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
from typing import Any

import click

from facecam import __version__
from facecam.errors import FacecamError

#: Command name -> module below facecam.cli that defines a Click command of that name (dashes to underscores).
COMMANDS = {
    "enroll": "enroll",
    "people": "people",
    "run": "run",
    "cameras": "cameras",
    "label": "label",
    "find": "find",
    "relabel": "relabel",
    "crop": "crop",
    "calibrate": "calibrate",
    "eval": "eval",
    "models": "models",
    "bench": "bench",
    "doctor": "doctor",
    "demo": "demo",
}
_SUMMARIES = {
    "enroll": "Learn a person from photos, a video or the camera.",
    "people": "List, rename, merge, remove, export and import people.",
    "run": "Label a live camera, stream or video.",
    "cameras": "List cameras, their stable names and what they can give.",
    "label": "Label video files and photos in batch.",
    "find": "Find who appears where in an archive.",
    "relabel": "Name an archive anew, without decoding a frame.",
    "crop": "Cut canonical face crops from photos, to train on.",
    "calibrate": "Fit the threshold to your own people and strangers.",
    "eval": "Measure accuracy on pairs, open sets and clips.",
    "models": "List, pull, add, choose and verify models.",
    "bench": "Measure what each stage and model costs on this machine.",
    "doctor": "Check this machine: packages, devices, cameras, models, gallery.",
    "demo": "Show the main job on two portraits that pip installed.",
}


class _LazyGroup(click.Group):
    """Imports a command's module when the command is called; --help needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        module = COMMANDS.get(name)
        if module is None:
            return None
        loaded = importlib.import_module(f"facecam.cli.{module}")
        command: click.Command = getattr(loaded, name.replace("-", "_"))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):  # click looks for similar ones where it finds none
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, 1)
            raise click.UsageError(
                f"No such command {args[0]!r}." + (f" Did you mean {close[0]!r}?" if close else ""), ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _SUMMARIES[name]) for name in COMMANDS])


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Example: facecam enroll --name Ada ada.jpg && facecam run",
)
@click.version_option(__version__, prog_name="facecam")
@click.pass_context
def facecam(ctx: click.Context) -> None:
    """facecam tells you, live, who is in front of the camera."""
    from facecam.settings import load_config

    ctx.default_map = {name: load_config() for name in COMMANDS}


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit: the one place that turns a FacecamError into a line and a status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a name must not end the command
            stream.reconfigure(errors="backslashreplace")
    _leave(invoke(args))


def _leave(code: int) -> None:
    """End the process. A thread left behind in a driver or a network would meet a dismantled interpreter and crash
    (seen: a signal 11 instead of 130 after Ctrl-C, with an RTSP camera that had stopped sending)."""
    if any(thread.daemon and thread.name.startswith("facecam-") for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # the reader has gone
                stream.flush()
        os._exit(code)
    sys.exit(code)


def invoke(args: list[str] | None = None, **extra: Any) -> int:
    """Run the command line; returns the exit code (0 done, 1 failed, 2 usage, 10 to 14, 130 interrupted)."""
    try:
        result = facecam.main(args=args, prog_name="facecam", standalone_mode=False, **extra)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        if isinstance(error, click.NoSuchOption) and not error.option_name.startswith("--"):
            hint = "A name or file that begins with a dash goes after -- ."
            error = click.UsageError(f"{error.format_message()} {hint}", error.ctx)
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("facecam: interrupted", err=True)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; say nothing more, not even at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except FacecamError as error:
        from facecam.people.names import escaped

        click.echo(f"facecam: {escaped(str(error))}", err=True)  # a file's name may hold anything
        return error.exit_code
