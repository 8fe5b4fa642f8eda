"""What is installed: Python, packages, and wheels that overwrite each other. A part of `facecam doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from facecam import __version__
from facecam.errors import DependencyMissing
from facecam.zoo.session import runtime

#: Distributions that the main job needs, beside OpenCV's and ONNX Runtime's, which come in variants.
PACKAGES: Final = ("numpy", "onnx", "click", "av", "platformdirs", "rich", "face_recognition_models")
OPENCV: Final = (
    "opencv-python",
    "opencv-contrib-python",
    "opencv-python-headless",
    "opencv-contrib-python-headless",
)
ONNXRUNTIME: Final = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at.
        state: "ok", "note" (good to know), "warning" (something will not work), "error" (the main
            job, enrolling and labelling, cannot run).
        text: the finding, one line.
        hint: what to do about it, or None.
        facts: the same for programs; JSON values.
    """

    name: str
    state: str
    text: str
    hint: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def check_python() -> Check:
    """Version, system, cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    facts = {
        "facecam": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "cores": cores,
        "executable": sys.executable,
    }
    text = f"{facts['python']} on {facts['system']}, {cores} core{'s' if cores != 1 else ''}; facecam {__version__}"
    return Check("python", "ok", text, facts=facts)


def installed(name: str) -> str | None:
    """Version of a distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_packages() -> Check:
    """The packages without variants."""
    versions = {name: installed(name) for name in PACKAGES}
    if missing := [name for name, version in versions.items() if version is None]:
        hint = f"pip install {' '.join(missing)}"
        return Check("packages", "error", f"not installed: {', '.join(missing)}", hint, versions)
    return Check("packages", "ok", ", ".join(f"{n} {v}" for n, v in versions.items()), facts=versions)


def check_onnxruntime() -> Check:
    """Exactly one of the wheels that all install the module ``onnxruntime``."""
    found = {name: version for name in ONNXRUNTIME if (version := installed(name))}
    wheels = ", ".join(f"{name} {version}" for name, version in found.items())
    again = "pip uninstall -y " + " ".join(found) + " && pip install --force-reinstall onnxruntime-gpu"
    if len(found) > 1:
        text = f"{wheels} are all installed; they overwrite each other's files, and which one runs is chance"
        return Check("onnxruntime", "error", text, again, found)
    if not found:
        return Check("onnxruntime", "error", "not installed", "pip install onnxruntime-gpu", found)
    try:
        version = str(runtime().__version__)
    except DependencyMissing as error:
        return Check("onnxruntime", "error", f"{wheels}: {error}", again, found)
    if version not in found.values():
        text = f"{wheels} is installed, but the files are of {version}: another wheel has overwritten them"
        return Check("onnxruntime", "error", text, again, {**found, "imported": version})
    return Check("onnxruntime", "ok", wheels, facts=found)


def check_opencv() -> Check:
    """OpenCV, and the system libraries that its wheel links."""
    from facecam.video.cv import import_cv2

    found = {name: version for name in OPENCV if (version := installed(name))}
    try:
        version = str(import_cv2().__version__)
    except DependencyMissing as error:
        return Check("opencv", "error", str(error), facts=found)
    facts = {**found, "imported": version}
    if int(version.split(".")[0]) < 5:
        return Check(
            "opencv", "error", f"OpenCV {version}, 5 or newer is needed", "pip install 'opencv-python>=5'", facts
        )
    if len(found) > 1:
        text = f"{', '.join(found)} are all installed; they overwrite each other's files"
        hint = f"pip uninstall -y {' '.join(found)} && pip install 'opencv-python>=5'"
        return Check("opencv", "warning", text, hint, facts)
    if found and "headless" in next(iter(found)):
        hint = "pip uninstall -y " + " ".join(found) + " && pip install 'opencv-python>=5' (or use run --headless)"
        return Check("opencv", "warning", f"{version} without windows ({next(iter(found))})", hint, facts)
    return Check("opencv", "ok", version, facts=facts)


def check_video() -> Check:
    """PyAV, and the encoders for labelled videos."""
    try:
        import av
        import av.codec
    except ImportError as error:
        return Check("video", "error", f"PyAV cannot be imported ({error})", "pip install --force-reinstall av")
    encoders = [name for name in ("libx264", "aac") if name in av.codec.codecs_available]
    facts = {"av": av.__version__, "ffmpeg": str(getattr(av, "ffmpeg_version_info", "")), "encoders": encoders}
    if "libx264" not in encoders:
        hint = "pip install --force-reinstall av"
        return Check("video", "warning", "this PyAV cannot write H.264: no labelled videos", hint, facts)
    return Check("video", "ok", f"PyAV {av.__version__}, writes H.264", facts=facts)
