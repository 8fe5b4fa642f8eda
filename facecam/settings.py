"""Every default of the tool, once, with its range, unit and reason. Click options derive from it.

Precedence: command line, environment (``FACECAM_NAME``), ``config.toml`` in the home, this file.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from facecam.errors import UsageFault


def _setting(default: Any, help: str, **meta: Any) -> Any:
    return field(default=default, metadata={"help": help, **meta})


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run of the pipeline can be told. One object travels; options are not threaded singly."""

    device: str = _setting(
        "auto", "Where models run; auto takes CUDA only if it truly works.", choices=("auto", "cuda", "cpu")
    )
    #: Stills (photos, enrolment, eval) are always measured in fp32: there is one of each; thresholds were chosen so.
    precision: str = _setting(
        "auto",
        "Numbers that models compute with in videos; auto takes int8 where the CPU gains by it.",
        choices=("auto", "fp32", "int8"),
    )
    pack: str | None = _setting(
        None,
        "Model pack for this command; the default is the pack in use (see facecam models).",
        metavar="NAME",
    )
    model: str | None = _setting(
        None,
        "Model added with facecam models add, in place of the pack's: an embedder, or a classifier.",
        metavar="NAME",
    )
    threads: int = _setting(0, "CPU threads for models; 0 chooses so that a laptop stays usable.", low=0, high=256)
    #: Measured on the development clip: one pass at scale 1 misses faces under about 60 px, so the
    #: pyramid is enlarged until a face of this size fills the detector's 80 px window.
    min_face: str = _setting(
        "40", "Smallest face to look for: pixels (40) or per cent of the height (5%).", metavar="SIZE"
    )
    #: Cosine similarity; None lets the stated risk choose it for the gallery as it is.
    threshold: float | None = _setting(
        None, "Similarity from which a face gets a name, 0 to 1; default: by --max-false-names.", low=0.0, high=1.0
    )
    #: Per stranger seen: a track of a video or a face of a photo counts once. The threshold that keeps it depends on
    #: how many people are enrolled (people.calibrate).
    max_false_names: float = _setting(
        0.001, "Share of strangers who may get a false name; sets the threshold.", low=1e-6, high=0.5, metavar="SHARE"
    )
    #: Frames between two full detections in ``label``; counted in frames, never by the clock, so that
    #: two runs over one file give the same result.
    detect_every: int = _setting(
        3, "Detect on every Nth frame of a file; tracks carry faces between.", low=1, high=60, metavar="N"
    )
    #: Whoever did not agree should not be kept for longer than is of use.
    forget_unknown_after: str | None = _setting(
        None,
        "Delete remembered unknown people whom nobody saw for this long (12h, 7d, 4w); default: never.",
        metavar="TIME",
    )


#: Exposed names of config.toml and of FACECAM_* variables.
SETTING_FIELDS = {f.name: f for f in fields(Settings)}


def home() -> Path:
    """The folder for the gallery, models and config.toml: ``$FACECAM_HOME`` or the platform's data folder."""
    named = os.environ.get("FACECAM_HOME")
    if named:
        return Path(named).expanduser()
    import platformdirs  # imported here: facecam --version must not pay for it

    return Path(platformdirs.user_data_dir("facecam", appauthor=False))


def load_config(path: Path | None = None) -> dict[str, Any]:
    """The settings in config.toml: a flat table of the names in `Settings`.

    Raises:
        UsageFault: the file is not TOML, or names a setting that does not exist.
    """
    path = path or home() / "config.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageFault(f"{path}: cannot be read ({error}); correct it or move it away") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageFault(f"{path}: not valid TOML ({error}); correct it or move it away") from error
    for name in values:
        if name not in SETTING_FIELDS:
            raise UsageFault(f"{path}: unknown setting {name!r}; known are {', '.join(SETTING_FIELDS)}")
    return values


def seconds_of(spec: str) -> float:
    """``--forget-unknown-after`` in seconds.

    Args:
        spec: a whole number of hours, days or weeks ("12h", "7d", "4w"), at most ten years.
    """
    found = re.fullmatch(r"\s*([0-9]{1,6})\s*([hdw])\s*", spec, re.IGNORECASE)
    seconds = int(found[1]) * {"h": 3600, "d": 86400, "w": 604800}[found[2].lower()] if found else 0
    if not 0 < seconds <= 3650 * 86400:
        raise UsageFault(f"--forget-unknown-after takes hours, days or weeks (12h, 7d, 4w), not {spec!r}")
    return float(seconds)


def min_face_pixels(spec: str, height: int) -> float:
    """``--min-face`` in pixels of a frame ``height`` pixels high.

    Args:
        spec: "40" (pixels, 10 to 2000) or "5%" (per cent of the height, 0.5 to 100).
    """
    text = spec.strip()
    try:
        if text.endswith("%"):
            share = float(text[:-1])
            if 0.5 <= share <= 100:
                return max(10.0, share / 100 * height)
        else:
            pixels = float(text)
            if 10 <= pixels <= 2000:
                return pixels
    except ValueError:
        pass
    raise UsageFault(f"--min-face takes pixels from 10 to 2000 or per cent from 0.5% to 100%, not {spec!r}")
