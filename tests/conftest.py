"""What all tests share: real pictures out of pip packages, the development data, one loaded engine."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from facecam.video.cv import import_cv2

import_cv2()

ROOT = Path(__file__).resolve().parent.parent

# Where a shell that runs no terminal started the tests in its background, Ctrl-C is ignored, in what they start, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples at every run, so that a red run means a change; `make fuzz` (FACECAM_FUZZ) looks for new ones.
settings.register_profile("repeatable", derandomize=True)
if "FACECAM_FUZZ" not in os.environ:
    settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = data_folder()
    if folder.is_dir():
        return
    skip = pytest.mark.skip(reason=f"no development data at {folder}; set FACECAM_TEST_DATA")
    for item in items:
        if "data" in item.keywords:
            item.add_marker(skip)


def data_folder() -> Path:
    """The folder of real images and the clip: ``FACECAM_TEST_DATA``, or shared/data beside the checkout."""
    return Path(os.environ.get("FACECAM_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def data() -> Path:
    return data_folder()


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models_home: Path) -> Path:
    """A home of its own for every test; the converted models are made once and shared."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "models").symlink_to(models_home / "models")
    monkeypatch.setenv("FACECAM_HOME", str(home))
    for name in list(os.environ):
        if name.startswith("FACECAM_") and name not in ("FACECAM_HOME", "FACECAM_TEST_DATA"):
            monkeypatch.delenv(name)
    return home


@pytest.fixture(scope="session")
def models_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose models folder holds the packs that need no download, ready to use."""
    from facecam.zoo.packs import INT8, Zoo

    home = tmp_path_factory.mktemp("models-home")
    zoo = Zoo(home, notify=lambda line: None)
    zoo.ensure("dlib")
    zoo.ensure("dlib-pairs")
    for id in INT8:
        zoo.model(id, "int8")
    return home


@pytest.fixture(scope="session")
def engine(models_home: Path) -> object:
    """The embedded default on the CPU."""
    return loaded(models_home)


@pytest.fixture(scope="session")
def dlib_engine(models_home: Path) -> object:
    """dlib's own three models on the CPU."""
    return loaded(models_home, pack="dlib")


def loaded(home: Path, **choice: str) -> object:
    from facecam.engine import open_engine
    from facecam.settings import Settings

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACECAM_HOME", str(home))
        return open_engine(Settings(device="cpu", **choice))
