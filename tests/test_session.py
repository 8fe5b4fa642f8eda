"""Sessions: honest about the device, deaf to what a model file tries."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facecam.errors import DeviceUnavailable, ModelInvalid, ModelMissing
from facecam.zoo import session
from facecam.zoo.card import METADATA_KEY, ModelCard
from facecam.zoo.session import Device, choose_device, cpu_threads, load, read_card

CPU = Device("cpu")


def tiny(card: ModelCard | None, *, external: bool = False) -> bytes:
    """y = x * w on vectors, as an ONNX file."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones(4, np.float32), "w")
    if external:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        entry = weight.external_data.add()
        entry.key, entry.value = "location", "../../etc/passwd"
    graph = helper.make_graph(
        [helper.make_node("Mul", ["image", "w"], ["score"])],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 4])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    if card is not None:
        prop = model.metadata_props.add()
        prop.key, prop.value = METADATA_KEY, card.to_json()
    data: bytes = onnx.ModelProto.SerializeToString(model)
    return data


CARD = ModelCard(
    name="tiny", kind="detector", input="image", size=(0, 0), colour="BGR", mean=(0.0,) * 3, std=(1.0,) * 3,
    outputs=("score",), licence="MIT", source="test", decoder="mmod",
)  # fmt: skip


def test_a_model_brings_its_card(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny(CARD))
    model = load(path, device=CPU)
    assert model.card == CARD and model.device == "cpu"
    assert read_card(path.read_bytes()) == CARD
    np.testing.assert_array_equal(model.run_batch(np.full((3, 4), 2, np.float32)), np.full((3, 4), 2))


@pytest.mark.parametrize(
    "content",
    [b"", b"not onnx", tiny(None), tiny(CARD)[:-60], tiny(CARD, external=True)],
    ids=["empty", "text", "no card", "truncated", "external data"],
)
def test_a_useless_file_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelInvalid) as caught:
        load(path, device=CPU)
    assert "\n" not in str(caught.value)


def test_a_card_of_another_graph_is_refused() -> None:
    import dataclasses

    lying = dataclasses.replace(CARD, input="pixels")
    with pytest.raises(ModelInvalid, match="pixels"):
        load(tiny(lying), device=CPU)


def test_a_missing_and_a_huge_file(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing):
        load(tmp_path / "no.onnx", device=CPU)
    huge = tmp_path / "huge.onnx"
    with huge.open("wb") as file:
        file.truncate(session.MAX_BYTES + 1)  # sparse: takes no disk
    with pytest.raises(ModelInvalid, match="larger"):
        load(huge, device=CPU)


def test_no_gpu_is_told_by_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    choose_device.cache_clear()
    monkeypatch.setattr(session, "_why_no_cuda", lambda: "no NVIDIA driver on this machine")
    assert choose_device("auto") == Device("cpu", "no NVIDIA driver on this machine")
    assert choose_device("cpu") == Device("cpu")
    with pytest.raises(DeviceUnavailable, match="NVIDIA driver"):
        choose_device("cuda")
    choose_device.cache_clear()


def test_a_silent_fallback_of_onnxruntime_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver is there, the provider is listed, and the session still runs on the CPU: that must be said."""

    class Driver:
        def cuInit(self, flags: int) -> int:
            return 0

        def cuDeviceGetCount(self, count: Any) -> int:
            count._obj.value = 1
            return 0

    monkeypatch.setattr(session.ctypes, "CDLL", lambda name: Driver())
    real = session.runtime()
    monkeypatch.setattr(real, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(real, "preload_dlls", lambda: None, raising=False)
    choose_device.cache_clear()
    device = choose_device("auto")
    choose_device.cache_clear()
    if device.name == "cuda":
        pytest.skip("this machine has a GPU")
    assert device.why is not None and ("CUDA" in device.why)


def test_onnxruntime_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    load(tiny(CARD), device=CPU)
    with pytest.raises(ModelInvalid):
        load(b"garbage", device=CPU)
    assert capfd.readouterr() == ("", "")


def test_batches_on_cuda_are_padded_and_cut_back() -> None:
    model = load(tiny(CARD), device=CPU)
    model.device = "cuda"  # the padding alone; the session stays on the CPU
    sizes: list[int] = []
    run = model.run

    def spy(feeds: Any) -> Any:
        sizes.append(len(feeds["image"]))
        return run(feeds)

    model.run = spy  # type: ignore[method-assign]
    batch = np.arange(37 * 4, dtype=np.float32).reshape(37, 4)
    np.testing.assert_array_equal(model.run_batch(batch), batch)
    assert sizes == [32, 8]


def test_threads_leave_a_laptop_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cpu_threads(3) == 3
    for cores, threads in ((1, 1), (2, 2), (4, 2), (8, 4), (64, 4)):
        monkeypatch.setattr(session.os, "sched_getaffinity", lambda pid, n=cores: set(range(n)), raising=False)
        assert cpu_threads() == threads


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_work_is_spread_in_order_and_its_errors_are_raised(lanes: int) -> None:
    assert session.spread(lambda n: n * n, list(range(20)), lanes) == [n * n for n in range(20)]
    assert session.spread(lambda n: n, [], lanes) == []
    done: list[int] = []

    def work(n: int) -> int:
        done.append(n)
        if n == 3:
            raise IndexError("item 3")
        return n

    with pytest.raises(IndexError, match="item 3"):
        session.spread(work, list(range(1000)), lanes)
    assert len(done) < 1000 or lanes > 1, "what has not begun is left"


def test_spread_work_runs_at_once() -> None:
    meeting = threading.Barrier(2, timeout=10)
    session.spread(lambda n: meeting.wait(), [0, 1], 2)  # one alone would wait for ever


def test_a_model_opened_later_is_loaded_once_and_when_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny(CARD))
    calls = []
    load_now = session.load
    monkeypatch.setattr(session, "load", lambda *a, **k: calls.append(a) or load_now(*a, **k))
    model = session.open_later(path, device=CPU, card=CARD)
    assert (model.card, model.device, model.raw, model.lanes, calls) == (CARD, "cpu", False, 1, [])
    batch = np.full((3, 4), 2, np.float32)
    session.spread(lambda n: np.testing.assert_array_equal(model.run_batch(batch), batch), range(8), 4)
    assert len(calls) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_work_is_spread_in_a_forked_child_too() -> None:
    assert session.spread(str, [1, 2, 3], 2) == ["1", "2", "3"]  # the pool has its thread now
    child = os.fork()
    if child == 0:
        os._exit(0 if session.spread(str, [1, 2, 3], 2) == ["1", "2", "3"] else 1)
    for _ in range(200):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.05)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child waits for a thread that it does not have")
    assert os.waitstatus_to_exitcode(status) == 0
