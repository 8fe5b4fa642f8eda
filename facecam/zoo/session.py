"""The only import of onnxruntime: which device, an honest fallback, sessions from bytes."""

from __future__ import annotations

import collections
import concurrent.futures
import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from facecam.errors import DependencyMissing, DeviceUnavailable, ModelInvalid, ModelMissing
from facecam.zoo.card import METADATA_KEY, ModelCard

T = TypeVar("T")
R = TypeVar("R")

#: CUDA options: EXHAUSTIVE costs 0.6 s for each new shape; the arena grows only as asked.
CUDA_OPTIONS: Final = {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
#: Batches on CUDA are padded to one of these, so that the shapes stay few.
BATCHES: Final = (1, 2, 4, 8, 16, 32)
#: A model above this size is refused before it is read.
MAX_BYTES: Final = 1 << 30

# y = Identity(x), float32 [1]: the smallest model, to see where a session truly runs.
_PROBE: Final = bytes.fromhex(
    "08083a3b0a100a017812017922084964656e74697479120570726f62655a0f0a0178120a0a08080112040a02"
    "0801620f0a0179120a0a08080112040a02080142040a00100d"
)


@dataclass(frozen=True, slots=True)
class Device:
    """Where models run.

    Attributes:
        name: "cpu" or "cuda".
        why: for the CPU when it was not asked for: the reason in a few words; else None.
    """

    name: str
    why: str | None = None


def runtime() -> Any:
    """The onnxruntime module, made quiet.

    Raises:
        DependencyMissing: it cannot be imported.
    """
    # It sends usage data of its own accord; nothing leaves this machine unasked. Read at its import.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime
    except ImportError as error:
        raise DependencyMissing(
            f"ONNX Runtime cannot be loaded ({error}); run: pip install onnxruntime-gpu (onnxruntime on macOS or ARM)"
        ) from error
    if hasattr(onnxruntime, "disable_telemetry_events"):  # the switch of Windows builds
        onnxruntime.disable_telemetry_events()
    onnxruntime.set_default_logger_severity(4)  # fallback messages would go to stderr; we say it ourselves
    return onnxruntime


@functools.cache
def choose_device(wanted: str = "auto") -> Device:
    """Find out where a session truly runs; ONNX Runtime's own lists of providers do not tell.

    Args:
        wanted: "auto", "cpu" or "cuda".

    Raises:
        DeviceUnavailable: "cuda" was asked for and does not work.
    """
    if wanted == "cpu":
        return Device("cpu")
    if wanted not in ("auto", "cuda"):
        raise ValueError(f"a device is auto, cpu or cuda, not {wanted!r}")
    why = _why_no_cuda()
    if why is None:
        return Device("cuda")
    if wanted == "cuda":
        raise DeviceUnavailable(f"--device cuda: {why}; use --device auto or run: facecam doctor")
    return Device("cpu", why)


def _why_no_cuda() -> str | None:
    """None if a session truly runs on CUDA, else the reason."""
    if sys.platform == "darwin":
        return "no CUDA on macOS"
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "no NVIDIA driver on this machine"
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return "the NVIDIA driver finds no usable GPU"
    ort = runtime()
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "this ONNX Runtime is built without CUDA (pip install onnxruntime-gpu)"
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    try:
        session = ort.InferenceSession(
            _PROBE, providers=[("CUDAExecutionProvider", CUDA_OPTIONS), "CPUExecutionProvider"]
        )
        session.run(None, {"x": np.zeros(1, np.float32)})
    except Exception as error:  # ONNX Runtime raises its own and bare RuntimeErrors; the reason is passed on
        return f"CUDA failed to start ({str(error).splitlines()[0][:120]})"
    if session.get_providers()[0] != "CUDAExecutionProvider":
        return "the CUDA or cuDNN libraries are missing (pip install 'facecam[cuda]')"
    return None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_threads(asked: int = 0) -> int:
    """Threads for models on the CPU: as asked, else at most 4 and, above two cores, at most half of them."""
    if asked:
        return asked
    here = cores()
    return max(1, min(4, here if here <= 2 else here // 2))


class Model:
    """One ONNX model, loaded and ready. Safe to call from several threads.

    Attributes:
        card: what it eats and gives.
        device: "cpu" or "cuda": where its session really runs.
        raw: whether it eats uint8 pictures as they are, N x height x width x 3.
        lanes: how many calls at once are quickest; above one the session itself has one thread, see `spread`.
    """

    def __init__(self, session: Any, card: ModelCard, lanes: int = 1) -> None:
        self._session = session
        self.card = card
        self.lanes = lanes
        self.raw = any(
            v.name == card.input and v.type == "tensor(uint8)" and len(v.shape) == 4 for v in session.get_inputs()
        )
        self.device = "cuda" if session.get_providers()[0] == "CUDAExecutionProvider" else "cpu"

    def ready(self) -> None:
        """Load what is loaded at the first use otherwise."""

    def run(self, feeds: Mapping[str, NDArray[Any]], within: float | None = None) -> list[NDArray[Any]]:
        """Outputs in the order of ``card.outputs``.

        Args:
            within: seconds after which it is given up with an exception of ONNX Runtime's; None: never.
        """
        if within is None:
            outputs: list[NDArray[Any]] = self._session.run(list(self.card.outputs), dict(feeds))
            return outputs
        options = runtime().RunOptions()
        end = threading.Timer(within, setattr, (options, "terminate", True))
        end.start()
        try:
            outputs = self._session.run(list(self.card.outputs), dict(feeds), options)
        finally:
            end.cancel()
        return outputs

    def run_batch(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """First output for a batch (N x ...); on CUDA padded to the sizes in `BATCHES`, split above the largest."""
        if self.device == "cpu":
            result: NDArray[np.float32] = self.run({self.card.input: batch})[0]
            return result
        parts = []
        for start in range(0, len(batch), BATCHES[-1]):
            part = batch[start : start + BATCHES[-1]]
            size = next(b for b in BATCHES if b >= len(part))
            padded = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), part.dtype)])
            parts.append(self.run({self.card.input: padded})[0][: len(part)])
        return np.concatenate(parts)


class _Later(Model):
    """A model whose session is made when it is first used."""

    def __init__(self, make: Callable[[], Model], card: ModelCard, device: Device, raw: bool, lanes: int) -> None:
        self._make = make
        self.lanes = lanes
        self._made: Model | None = None
        self._lock = threading.Lock()
        self.card, self.device, self.raw = card, device.name, raw

    def ready(self) -> None:
        self._model()

    def run(self, feeds: Mapping[str, NDArray[Any]], within: float | None = None) -> list[NDArray[Any]]:
        return self._model().run(feeds, within)

    def _model(self) -> Model:
        if self._made is None:
            with self._lock:
                self._made = self._made or self._make()
        return self._made


def open_later(path: Path, *, device: Device, threads: int = 0, card: ModelCard) -> Model:
    """A model of the shelf (`zoo.packs`) that is loaded when it is first used; until then it costs nothing.

    One in int8 is so quick that sharing one call among threads costs much of what it brings: several calls are made at
    once instead, each by one thread.
    """
    small = ".int8." in path.name
    lanes = cpu_threads(threads) if small else 1

    def make() -> Model:
        return load(path, device=device, threads=1 if small else threads, card=card)

    return _Later(make, card, device, small, lanes)


def spread(work: Callable[[T], R], items: Sequence[T], lanes: int) -> list[R]:
    """``work`` for each item, by so many threads at once, this one among them; the results in order.

    Items should come largest first. What ``work`` raises is raised here, when all threads have stopped.
    """
    if lanes < 2 or len(items) < 2:
        return [work(item) for item in items]
    results: dict[int, R] = {}
    waiting = collections.deque(enumerate(items))

    def some() -> None:
        while True:
            try:
                number, item = waiting.popleft()
            except IndexError:
                return
            results[number] = work(item)

    others = [_pool(lanes - 1).submit(some) for _ in range(min(lanes, len(items)) - 1)]
    try:
        some()
    finally:
        waiting.clear()
        others = [other for other in others if not other.cancel()]  # what has not begun has nothing left to do
        concurrent.futures.wait(others)
    for other in others:
        other.result()
    return [results[i] for i in range(len(items))]


@functools.cache
def _pool(size: int) -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(size, thread_name_prefix="models")


if hasattr(os, "register_at_fork"):  # a forked child has the pool, but not its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def load(model: Path | bytes, *, device: Device, threads: int = 0, card: ModelCard | None = None) -> Model:
    """Load a model from bytes, so that external data and links cannot reach other files.

    Args:
        model: an ONNX file or its content.
        card: for files that carry none inside (models of others, pinned by hash in the registry).

    Raises:
        ModelMissing: no such file.
        ModelInvalid: not a loadable ONNX model, no card, or a card that does not fit the graph.
    """
    name = str(model) if isinstance(model, Path) else "model"
    data = read_bytes(model) if isinstance(model, Path) else model
    ort = runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = cpu_threads(threads)
    options.log_severity_level = 4
    # Spinning threads burn a core between two frames of a paced camera.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.name == "cuda":
        providers.insert(0, ("CUDAExecutionProvider", CUDA_OPTIONS))
    try:
        session = ort.InferenceSession(data, sess_options=options, providers=providers)
    except Exception as error:  # ONNX Runtime has no common base class
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise ModelInvalid(f"{name}: not a usable ONNX model ({reason}); see: facecam models verify") from error
    if device.name == "cuda" and session.get_providers()[0] != "CUDAExecutionProvider":
        raise DeviceUnavailable(f"{name}: no session on CUDA although a probe ran there; see: facecam doctor")
    if card is None:
        text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if text is None:
            raise ModelInvalid(f"{name}: has no model card; export it with python -m export")
        card = ModelCard.from_json(text)
    inputs, outputs = ({v.name for v in values} for values in (session.get_inputs(), session.get_outputs()))
    if card.input not in inputs or not set(card.outputs) <= outputs:
        raise ModelInvalid(
            f"{name}: its card names input {card.input!r} and outputs {list(card.outputs)}, "
            f"the graph has {sorted(inputs)} and {sorted(outputs)}; export it again"
        )
    return Model(session, card)


def read_bytes(path: Path) -> bytes:
    """Content of a model file of a sane size."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelInvalid(f"{path}: larger than {MAX_BYTES >> 20} MiB; not a model for facecam")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelMissing(f"{path}: no such model file; see: facecam models") from error
    except OSError as error:
        raise ModelMissing(f"{path}: cannot be read ({error.strerror}); see: facecam models") from error


def read_card(data: bytes) -> ModelCard:
    """The card inside an ONNX file, without making a session of it.

    Raises:
        ModelInvalid: not ONNX, or no card.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's DecodeError differs from version to version
        raise ModelInvalid("not an ONNX file, or a truncated one; download or export it again") from error
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            return ModelCard.from_json(entry.value)
    raise ModelInvalid("the ONNX file has no model card; export it with python -m export")
