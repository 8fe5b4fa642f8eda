"""Names: what a person may be called, how a name is shown on a terminal, and how it becomes a file name."""

from __future__ import annotations

import datetime
import hashlib
import re
import unicodedata
from typing import Final

from facecam.errors import UsageFault

#: Characters (code points after NFC) in a name.
NAME_MAX: Final = 100
#: "Unknown 12" is what facecam itself calls a stranger, so nobody can be enrolled under it.
_RESERVED: Final = re.compile(r"unknown\s+\d+", re.IGNORECASE)
#: Format characters that belong in real names: the joiners of Persian, Indic scripts and emoji.
_JOINERS: Final = "\u200c\u200d"
#: Letters and symbols by category that nevertheless show nothing (Hangul fillers, Braille blank).
_BLANK: Final = "\u115f\u1160\u3164\uffa0\u2800"
#: Categories that a name cannot hold: controls, other format characters (bidi overrides, zero-width
#: spaces: two names must not look the same), surrogates, line and paragraph separators.
_REFUSED: Final = ("Cc", "Cf", "Cs", "Zl", "Zp")

#: Bytes of UTF-8 in a file stem: leaves room for suffixes below the 255 that file systems allow.
STEM_MAX: Final = 120
_WINDOWS_RESERVED: Final = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])", re.IGNORECASE)


def clean_name(text: str) -> str:
    """The form in which a name is stored and compared: NFC, trimmed.

    Names are compared exactly in this form, so "ada" and "Ada" are two people. A slash is allowed:
    a name becomes part of a path only through `file_stem`.

    Raises:
        UsageFault: not 1 to 100 characters, a control or invisible format character, nothing
            visible, or the reserved "Unknown N".
    """
    # The bound comes first: normalising megabytes to then refuse them would be wasted time.
    if len(text) > 50 * NAME_MAX:
        raise UsageFault(f"a name has 1 to {NAME_MAX} characters, not {len(text)}; give a shorter one")
    for character in text:
        if unicodedata.category(character) in _REFUSED and character not in _JOINERS:
            raise UsageFault(
                f"a name has no control or invisible characters, but {quoted(text)} holds "
                f"U+{ord(character):04X}; leave it out"
            )
    name = unicodedata.normalize("NFC", text).strip()
    if not 1 <= len(name) <= NAME_MAX:
        got = f"{len(name)} ({quoted(name)})" if name else "an empty one"
        raise UsageFault(f"a name has 1 to {NAME_MAX} characters, not {got}; give another")
    if not any(unicodedata.category(c)[0] in "LNPS" and c not in _BLANK for c in name):
        raise UsageFault(f"a name has a visible character, but {name!a} has none; give another")
    if _RESERVED.fullmatch(name):
        raise UsageFault(f"{quoted(name)} is reserved for people without a name; choose another name")
    return name


#: Characters in a note of consent.
NOTE_MAX: Final = 500


def clean_note(text: str) -> str:
    """A note of consent as it is stored: one line, trimmed.

    Raises:
        UsageFault: not 1 to 500 characters.
    """
    note = escaped(unicodedata.normalize("NFC", text[: 50 * NOTE_MAX])).strip()
    if not 1 <= len(note) <= NOTE_MAX:
        raise UsageFault(f"a note of consent has 1 to {NOTE_MAX} characters, not {len(note)}; give a shorter one")
    return note


def clean_date(text: str) -> str:
    """A day as it is stored: 2026-01-31.

    Raises:
        UsageFault: it is none.
    """
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            raise ValueError
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise UsageFault(f"a date is written like 2026-01-31, not {quoted(text)}") from error


def lookup_name(text: str) -> str:
    """The form to look a name up by: as `clean_name`, but whatever cannot be a name is kept as it is.

    A question about an impossible name has the answer "no such person", not a fault of its own.
    """
    return unicodedata.normalize("NFC", text).strip()


def escaped(text: str) -> str:
    """Text for one line of a terminal or a log: control, invisible and lone surrogate characters escaped."""
    return "".join(
        character
        if unicodedata.category(character) not in _REFUSED or character in _JOINERS
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def quoted(text: str) -> str:
    """A name in a message: in quotes, escaped, shortened to 60 characters."""
    return f"'{escaped(text if len(text) <= 60 else text[:57] + '...')}'"


def file_stem(name: str) -> str:
    """A file name (without suffix) for a person, safe on Linux, macOS and Windows.

    Holds no separator, no control character, no leading or trailing dot or space, no name that
    Windows reserves; at most `STEM_MAX` bytes of UTF-8. A name that had to be altered carries eight
    hex digits of its hash, so that "a/b" and "a:b" stay two files. Names that differ by case alone
    stay different, which a file system that ignores case does not.
    """
    plain = unicodedata.normalize("NFC", name)
    stem = "".join(
        "_" if character in '/\\:*?"<>|%' or unicodedata.category(character) in _REFUSED else character
        for character in plain
    ).strip(" .")
    # A leading dash reads as an option, and Windows reserves "con.anything" too.
    if stem.startswith("-") or _WINDOWS_RESERVED.fullmatch(stem.split(".")[0].strip()):
        stem = "_" + stem
    if stem == plain and len(stem.encode()) <= STEM_MAX and stem:
        return stem
    mark = "-" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    kept = stem.encode()[: STEM_MAX - len(mark)].decode(errors="ignore").rstrip(" .")
    return (kept or "person") + mark
