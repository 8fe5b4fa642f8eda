"""``facecam people encrypt, decrypt, passphrase``: the gallery's vectors and pictures under a passphrase."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from facecam.cli.printing import AS_JSON, count, erased_too, open_gallery, print_json
from facecam.errors import UsageFault

_NEW = "FACECAM_NEW_PASSPHRASE"


def _new_passphrase() -> str:
    """A new passphrase: from the environment, else typed twice.

    Raises:
        UsageFault: nobody is there to type it, or the two differ.
    """
    given = os.environ.get(_NEW)
    if given:
        return given
    if not sys.stdin.isatty():
        raise UsageFault(f"a new passphrase is needed: set {_NEW}, or run the command on a terminal")
    typed: str = click.prompt("New passphrase", hide_input=True, confirmation_prompt="Once more", err=True)
    return typed


def _reseal(ctx: click.Context, passphrase: bool, done: str, as_json: bool, only: bool | None) -> int:
    from facecam.people.encryption import encrypted, reseal

    as_json = as_json or bool(ctx.obj)
    with open_gallery() as gallery:
        if not gallery.path.exists():
            raise UsageFault("there is no gallery yet; enrol somebody first (facecam enroll)")
        if only is not None and encrypted(gallery) is not only:
            state = (
                "not encrypted (facecam people encrypt)" if only else "encrypted already (facecam people passphrase)"
            )
            raise UsageFault(f"the gallery is {state}")
        gallery.store.unlock()
        result = reseal(gallery, _new_passphrase() if passphrase else None)
        is_encrypted = encrypted(gallery)
    if as_json:
        print_json(
            {
                "encrypted": is_encrypted,
                "values": result.values,
                "deleted": [str(path) for path in result.erased.backups],
                "renewed": [str(path) for path in result.erased.renewed],
                "stale": [str(path) for path in result.erased.stale],
                "problem": result.erased.problem,
            }
        )
    else:
        click.echo(
            f"{count(result.values, 'vector, picture or set of landmarks', 'vectors, pictures and landmarks')} {done}"
        )
    return erased_too(result.erased, "their earlier state", quiet=as_json)


@click.command(epilog="Example: facecam people encrypt")
@AS_JSON
@click.pass_context
def encrypt(ctx: click.Context, as_json: bool) -> int:
    """Put vectors, landmarks and pictures under a passphrase; names, dates and file names stay readable.

    From then on FACECAM_PASSPHRASE, or you at the terminal, give the passphrase to whatever recognises or
    enrols. Nobody can recover a lost one.
    """
    return _reseal(ctx, True, "encrypted. Keep the passphrase: nobody can recover it.", as_json, False)


@click.command(epilog="Example: facecam people decrypt")
@AS_JSON
@click.pass_context
def decrypt(ctx: click.Context, as_json: bool) -> int:
    """Leave the gallery's vectors, landmarks and pictures without encryption again."""
    return _reseal(ctx, False, "decrypted.", as_json, True)


@click.command(epilog="Example: facecam people passphrase")
@AS_JSON
@click.pass_context
def passphrase(ctx: click.Context, as_json: bool) -> int:
    """Change the passphrase: everything is encrypted anew, and the old passphrase opens nothing any more."""
    return _reseal(ctx, True, "encrypted under the new passphrase.", as_json, True)


#: Registered by `facecam.cli.people`.
COMMANDS: tuple[Any, ...] = (encrypt, decrypt, passphrase)
