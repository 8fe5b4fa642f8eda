"""facecam bench: the figures, their sources, the film that is played when nothing is at hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from facecam.bench import film
from facecam.bench.models import multiply_adds
from facecam.bench.samples import STAGES, Report, Samples, percentile
from facecam.cli import invoke
from facecam.errors import DependencyMissing
from facecam.video.container import FileSource

#: What the figures are called for programs that read them.
KEYS = {
    "fps",
    "decode_fps",
    "stages",
    "latency_ms",
    "cpu_seconds_per_frame",
    "peak_rss_mb",
    "device",
    "detections",
    "embeddings",
}
#: dlib's embedder at 150 x 150, counted by hand: the first convolution gives 72 x 72; three blocks at 35 x 35, four at
#: 17 x 17, three at 8 x 8, one of 3 x 3 that padding makes 4 x 4, two at 4 x 4, one of 1 x 1; then 256 x 128.
RESNET = (
    72**2 * 32 * 147
    + 35**2 * 9 * (6 * 32 * 32)
    + 17**2 * 9 * (32 * 64 + 7 * 64 * 64)
    + 8**2 * 9 * (64 * 128 + 5 * 128 * 128)
    + 3**2 * 9 * (128 * 256 + 256 * 256)
    + 4**2 * 9 * (4 * 256 * 256)
    + 9 * (2 * 256 * 256)
    + 256 * 128
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic film, twice as fast. In a single second the face would turn about too often to be followed."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    before, film.SECONDS = film.SECONDS, 4  # type: ignore[misc]
    try:
        assert film.render(path)
    finally:
        film.SECONDS = before  # type: ignore[misc]
    return path


def run(*arguments: str, json_file: Path) -> dict[str, Any]:
    assert invoke(["bench", *arguments, "--device", "cpu", "--json", str(json_file)]) == 0
    figures: dict[str, Any] = json.loads(json_file.read_text(encoding="utf-8"))
    return figures


def check(figures: dict[str, Any]) -> None:
    assert set(figures) >= KEYS
    assert set(figures["stages"]) <= set(STAGES)
    for stage in figures["stages"].values():
        assert stage["calls"] > 0 and 0 <= stage["median_ms"] <= stage["p95_ms"]
    latency = figures["latency_ms"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    assert figures["cpu_seconds_per_frame"] > 0 and figures["device"] == "cpu"
    assert figures["peak_rss_mb"] is None or 50 < figures["peak_rss_mb"] < 8000
    assert figures["fps"] == pytest.approx(figures["frames"] / figures["seconds"], rel=0.01)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a process starts with a peak of its own")
def test_the_peak_of_memory_is_not_that_of_whoever_started_the_process() -> None:
    large = b"x" * (600 << 20)
    code = "from facecam.bench.samples import peak_rss; print(peak_rss())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    del large
    assert 10 < float(done.stdout) < 400


def test_a_file_runs_through_all_stages(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = run("--source", str(clip), json_file=tmp_path / "bench.json")
    check(figures)
    stages = figures["stages"]
    assert {"read", "detect", "track", "align", "embed", "match", "draw", "encode"} <= set(stages)
    assert figures["frames"] == 120 and figures["kind"] == "file"
    assert stages["read"]["calls"] >= 120 and stages["encode"]["calls"] == 90
    assert figures["detections"] > 0 and figures["embeddings"] > 0 and figures["faces"] > 110
    assert stages["draw"]["share"] is None, "label --no-video draws nothing"
    assert sum(s["share"] for s in stages.values() if s["share"] is not None) > 0
    assert figures["ratio_to_decode"] == pytest.approx(figures["fps"] / figures["decode_fps"], rel=0.01)
    assert figures["ratio_to_decode"] < 1, "nothing is faster than decoding alone"
    out = capsys.readouterr().out
    assert "film.mp4: 640 x 480, 120 frames" in out and "decoding alone" in out
    assert all(name in out for name in stages)


def test_the_film_is_played_at_its_pace_without_anything_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> None:
    monkeypatch.setattr(film, "SECONDS", 1)
    figures = run("--seconds", "2.5", json_file=tmp_path / "bench.json")
    check(figures)
    assert figures["kind"] == "live" and figures["source"] == "synthetic"
    assert figures["fps"] < 31, "paced at 30 frames a second"
    assert figures["frames"] > 30, "the film of one second goes on from its beginning"
    assert figures["decode_fps"] > 30 and figures["ratio_to_decode"] is None
    assert figures["detections"] > 0 and figures["faces"] > 0
    assert not (own_home / "gallery.db").exists(), "the gallery is left as it is"


def test_a_source_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["bench", "--source", str(tmp_path / "absent.mp4")]) == 2
    assert capsys.readouterr().err.strip().endswith("is none of these")
    assert invoke(["bench", "--source", "rtsp:/ada:hunter2@cam/x"]) == 2
    assert "hunter2" not in capsys.readouterr().err


def test_figures_that_cannot_be_written_are_told_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["bench", "--device", "cpu", "--json", str(tmp_path / "absent" / "bench.json")]) == 1
    shown = capsys.readouterr()
    assert "the folder does not exist" in shown.err and "fps" not in shown.out


def test_models_tell_time_work_and_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_home: Path) -> None:
    (own_home / "config.toml").write_text("threads = 1\n")
    monkeypatch.setattr("facecam.bench.models._SECONDS", 0.0)
    monkeypatch.setattr("facecam.bench.models._RUNS", 1)
    target = tmp_path / "models.json"
    assert invoke(["bench", "models", "--device", "cpu", "--json", str(target)]) == 0
    figures = json.loads(target.read_text(encoding="utf-8"))
    assert figures["threads"] == 1, "as config.toml says"
    rows = figures["rows"]
    assert {row["kind"] for row in rows} == {"detector", "scout", "landmarks", "embedder"}
    assert figures["peak"]["cpu"] > 1e8
    one = next(r for r in rows if r["kind"] == "embedder" and r["count"] == 1)
    eight = next(r for r in rows if r["kind"] == "embedder" and r["count"] == 8)
    # The mirror image, too, and the 400 places of the layer that stretches where faces are crowded.
    assert one["macs"] == 2 * RESNET + 400 * 128 and eight["macs"] == 8 * one["macs"]
    assert all(r["device"] == "cpu" and r["ms"] > 0 for r in rows)
    for row in rows:
        if row["kind"] != "landmarks":
            assert row["peak_share"] == pytest.approx(row["macs"] / row["ms"] * 1e3 / figures["peak"]["cpu"])


def graph(nodes: list[Any], weights: dict[str, tuple[int, ...]], size: list[Any], out: list[Any]) -> bytes:
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def test_multiply_adds_are_those_of_the_formula() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "b"], ["d"], group=4),
        helper.make_node("GlobalAveragePool", ["d"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["g"], transB=1),
        helper.make_node("MatMul", ["g", "m"], ["y"]),
    ]
    weights = {"a": (8, 3, 3, 3), "b": (8, 2, 3, 3), "w": (5, 8), "m": (5, 7)}
    data = graph(nodes, weights, ["n", 3, "h", "v"], ["n", 7])
    # 20 x 32 pictures: the first convolution gives 10 x 16, the second 8 x 14.
    first, second = 8 * 10 * 16 * 27, 8 * 8 * 14 * 18
    assert multiply_adds(data, "x", (1, 3, 20, 32)) == first + second + 5 * 8 + 7 * 5
    assert multiply_adds(data, "x", (6, 3, 20, 32)) == 6 * (first + second + 5 * 8 + 7 * 5)


def test_a_graph_whose_shapes_depend_on_the_values_gives_no_number() -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["z"]), helper.make_node("Cast", ["z"], ["q"], to=TensorProto.FLOAT)]
    nodes += [helper.make_node("Transpose", ["q"], ["t"]), helper.make_node("MatMul", ["t", "w"], ["y"])]
    assert multiply_adds(graph(nodes, {"w": (4, 2)}, [1, 3, 4, 4], ["a", "b"]), "x", (1, 3, 4, 4)) is None


def test_samples_keep_every_call_and_the_sums() -> None:
    samples = Samples()
    for seconds in (0.1, 0.3, 0.2):
        samples.add("embed", seconds)
    with samples.stage("read"):
        pass
    assert samples.calls["embed"] == [0.1, 0.3, 0.2] and samples.seconds["embed"] == pytest.approx(0.6)
    assert len(samples.calls["read"]) == 1
    report = Report("x", "file", "cpu", "dlib", "fp32", 1, 1, 0, frames=4, seconds=2.0, samples=samples)
    stage = report.stages()["embed"]
    assert stage.calls == 3 and stage.median == pytest.approx(200) and stage.share == pytest.approx(0.3)
    assert stage.per_frame == pytest.approx(150)
    assert list(report.stages()) == ["read", "embed"], "in the order of the way of a frame"


def test_percentiles_of_nothing_are_zero() -> None:
    assert percentile([], 95) == 0.0
    assert percentile([1.0, 2.0, 3.0], 50) == 2.0


def test_the_film_without_portraits_is_scenery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*arguments: object, **more: object) -> None:
        raise DependencyMissing("no portraits")

    monkeypatch.setattr(film, "film", absent)
    monkeypatch.setattr(film, "SECONDS", 1)
    assert film.render(tmp_path / "plain.mp4") is False
    with FileSource(tmp_path / "plain.mp4") as source:
        assert (source.info.width, source.info.height) == film.SIZE
        assert sum(1 for _ in source) == 30


def test_a_film_played_again_has_one_clock(clip: Path) -> None:
    with film.Again(clip) as source:
        frames = [source.read() for _ in range(70)]
    assert all(frame is not None for frame in frames)
    assert [frame.index for frame in frames if frame] == list(range(70))
    times = [frame.time for frame in frames if frame]
    assert np.diff(times) == pytest.approx(1 / film.FPS, abs=2e-3)
