"""The floors: a module imports only from its own floor or below; heavy packages stand in one place."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: The first prefix that fits gives the floor; the most special come first.
FLOORS = [
    ("facecam.errors", 0),
    ("facecam.values", 0),
    ("facecam.geometry", 0),
    ("facecam.settings", 1),
    ("facecam.zoo.card", 1),
    ("facecam.zoo", 2),
    ("facecam.video", 2),
    ("facecam.people", 2),
    ("facecam.installation", 2),
    ("facecam.vision.track", 2),
    ("facecam.vision", 3),
    ("facecam.scan", 4),
    ("facecam.evidence", 4),
    ("facecam.pipeline", 4),
    ("facecam.engine", 4),
    ("facecam.enrolment", 5),
    ("facecam.guidance", 5),
    ("facecam.live", 5),
    ("facecam.calibration", 5),
    ("facecam.reembedding", 5),
    ("facecam.archive", 5),
    ("facecam.evaluate", 5),
    ("facecam.bench", 5),
    ("facecam.doctor", 5),
    ("facecam.demo", 5),
    ("facecam.cli", 6),
    ("facecam.__main__", 7),
]
#: What train/ and export/ may take from facecam.
SHARED = {"facecam.errors", "facecam.values", "facecam.zoo.card", "facecam.zoo.dlib", "facecam.vision.align"}
EXPORT_TOO = {"facecam.zoo.session", "facecam.zoo.graph", "facecam.people.calibrate", "facecam.people.match"}
#: Heavy or delicate package -> the only modules that may import it.
ALONE = {
    "onnxruntime": {"facecam.zoo.session"},
    "ray": {"facecam.archive.raycrew"},
    "sqlite3": {"facecam.people.sqlite"},
    "paho": {"facecam.live.mqtt"},
    "cryptography": {"facecam.people.seal"},
}


def modules(package: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def floor(name: str) -> int:
    for prefix, level in FLOORS:
        if name == prefix or name.startswith(prefix + "."):
            return level
    raise AssertionError(f"{name} stands on no floor; add it to the table and to docs/architecture.md")


FACECAM = list(modules("facecam"))
KNOWN = {name for name, _ in FACECAM}


@pytest.mark.parametrize(("name", "tree"), FACECAM, ids=[name for name, _ in FACECAM])
def test_imports_go_downward(name: str, tree: ast.Module) -> None:
    if name == "facecam":
        assert not [i for i in imports(tree) if i.startswith("facecam.")], "the facade imports nothing"
        return
    if name in ("facecam.zoo", "facecam.video", "facecam.people", "facecam.vision"):
        assert not list(imports(tree)), "a package's __init__ does nothing"
        return
    for target in imports(tree):
        if target in KNOWN and target != "facecam":
            if target in ("facecam.zoo", "facecam.video", "facecam.people", "facecam.vision"):
                continue
            assert floor(target) <= floor(name), (
                f"{name} (floor {floor(name)}) imports {target} (floor {floor(target)})"
            )
        assert target.split(".")[0] not in ("torch", "torchvision", "train", "export", "tests"), (
            f"{name} imports {target}"
        )
        for package, allowed in ALONE.items():
            if target.split(".")[0] == package:
                assert name in allowed, f"{name} imports {package}; only {allowed} may"


@pytest.mark.parametrize("package", ["train", "export"])
def test_train_and_export_take_only_the_contract(package: str) -> None:
    allowed = SHARED | (EXPORT_TOO if package == "export" else set())
    for name, tree in modules(package):
        for target in imports(tree):
            if target in KNOWN and target not in ("facecam", "facecam.zoo", "facecam.vision"):
                assert target in allowed, f"{name} imports {target}"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from facecam.cli import invoke; invoke(['--help']);"
        "print([m for m in ('cv2','av','onnxruntime','onnx','numpy','rich','sqlite3') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout
