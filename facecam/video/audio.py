"""The sound of one file beside the labelled pictures of another: copied, or encoded anew (PyAV)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from facecam.video.clock import Clock, packets

#: MP4 can hold more kinds of sound than players take from it.
_PLAYED_IN_MP4 = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})


class AudioTrack:
    """Carries every sound stream of ``path`` into ``output``, in step with the pictures.

    A codec that players take from the output's format is copied bit by bit at its own times; another one is
    encoded anew as AAC. Sound never fails a labelled video: what goes wrong is told in `warnings`.

    Args:
        path: a media file, with or without sound.
        output: an av.OutputContainer to which nothing was written yet.
        since, until: seconds: only the packets that begin in between go along, and ``since`` becomes 0.
    """

    def __init__(
        self, path: str | os.PathLike[str], output: Any, since: float | None = None, until: float | None = None
    ) -> None:
        import av

        self.warnings: list[str] = []
        self._since, self._until = since, until
        self._name = Path(path).name
        self._output = output
        self._lanes: dict[int, _Lane] = {}
        self._packets: Iterator[Any] = iter(())
        self._ahead: Any = None
        self._input: Any = None
        try:
            self._input = av.open(
                f"file:{Path(path).absolute()}", options={"protocol_whitelist": "file"}, metadata_errors="replace"
            )
        except av.error.FFmpegError as error:
            self._warn(f"its sound cannot be read ({error.strerror}); the output is silent")
            return
        streams = [s for s in self._input.streams.audio if self._add(s)]
        if streams:
            self._packets = self._demux(streams)
            self._ahead = next(self._packets, None)

    def pump(self, until: float | None = None) -> None:
        """Write the sound that starts before ``until`` seconds of the output; all that is left for None."""
        while self._ahead is not None:
            packet = self._ahead
            stamp = packet.dts if packet.dts is not None else packet.pts
            if until is not None and stamp is not None and float(stamp * packet.time_base) > until:
                return
            self._carry(self._lanes[packet.stream.index].write, packet)
            self._ahead = next(self._packets, None)
        if until is None:
            for lane in self._lanes.values():
                self._carry(lane.finish)

    def close(self) -> None:
        self._ahead, self._packets = None, iter(())
        if self._input is not None:
            self._input.close()

    def _carry(self, step: Callable[..., None], *arguments: Any) -> None:
        """Do a step of a lane; what is damaged is left out. Failures of the output's file pass through."""
        import av

        try:
            step(*arguments)
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            self._warn("its sound is damaged; parts of it are left out")

    def _warn(self, what: str) -> None:
        line = f"{self._name}: {what}"
        if line not in self.warnings:
            self.warnings.append(line)

    def _add(self, stream: Any) -> bool:
        context = stream.codec_context
        if context is None or not context.sample_rate:
            self._warn("sound of an unknown kind is left out")
            return False
        # A decoder's name can differ from its codec's (mp3float, libopus).
        codec = context.codec.canonical_name or context.name
        common = self._output.format.name != "mp4" or codec in _PLAYED_IN_MP4
        if common and codec in self._output.supported_codecs:
            self._lanes[stream.index] = _Copy(stream, self._output)
        else:
            self._warn(f"sound of kind {codec} does not fit the output and is encoded anew as AAC")
            self._lanes[stream.index] = _Encode(stream, self._output)
        return True

    def _demux(self, streams: list[Any]) -> Iterator[Any]:
        import av

        try:
            if self._since is not None:
                self._input.seek(math.floor(self._since * av.time_base))
            over: set[int] = set()
            clocks = {stream.index: Clock(stream.time_base) for stream in streams}
            for packet in packets(self._input, streams):
                if packet.size and packet.dts is not None:
                    shift = clocks[packet.stream.index].shift(packet.dts, packet.duration)
                    packet.dts += shift
                    packet.pts = None if packet.pts is None else packet.pts + shift
                if packet.size and self._inside(packet, over):
                    yield packet
                elif len(over) == len(streams):
                    return
        except av.error.FFmpegError as error:
            self._warn(f"its sound breaks off ({error.strerror})")

    def _inside(self, packet: Any, over: set[int]) -> bool:
        """Whether a packet is of the stretch; its times become the output's. ``over``: streams that are past it."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None or packet.time_base is None or (self._since is None and self._until is None):
            return True
        if self._until is not None and float(stamp * packet.time_base) >= self._until:
            over.add(packet.stream.index)
            return False
        shift = round(Fraction(self._since or 0.0) / packet.time_base)
        if stamp < shift:
            return False
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        return True


class _Lane:
    """One sound stream on its way."""

    def write(self, packet: Any) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Write what an encoder holds back."""


class _Copy(_Lane):
    def __init__(self, stream: Any, output: Any) -> None:
        self._output = output
        self._stream = output.add_stream_from_template(stream)
        self._last: int | None = None

    def write(self, packet: Any) -> None:
        # A muxer refuses times that do not grow; damaged files and joins have such packets.
        if packet.dts is None or (self._last is not None and packet.dts <= self._last):
            return
        self._last = packet.dts
        packet.stream = self._stream
        self._output.mux(packet)


class _Encode(_Lane):
    def __init__(self, stream: Any, output: Any) -> None:
        context = stream.codec_context
        self._rate = context.sample_rate if context.sample_rate in _AAC_RATES else 48000
        self._layout = "mono" if context.channels == 1 else "stereo"
        self._output = output
        self._stream = output.add_stream("aac", rate=self._rate, layout=self._layout)
        self._kind: tuple[str, str, int] | None = None
        self._resampler: Any = None
        self._until = -math.inf

    def write(self, packet: Any) -> None:
        import av

        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            return  # a damaged packet: a short silence
        for frame in frames:
            # Broadcasts change from stereo to mono and back; a resampler takes one kind only.
            kind = frame.format.name, frame.layout.name, frame.sample_rate
            if kind != self._kind:
                self._rest()
                self._kind = kind
                self._resampler = av.AudioResampler(format="fltp", layout=self._layout, rate=self._rate)
            self._encode(self._resampler.resample(frame))

    def finish(self) -> None:
        self._rest()
        self._output.mux(self._stream.encode(None))

    def _rest(self) -> None:
        """Encode what the resampler holds back."""
        if self._resampler is not None:
            self._encode(self._resampler.resample(None))

    def _encode(self, frames: list[Any]) -> None:
        for frame in frames:
            start = math.inf if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
            if start < self._until - _OVERLAP:
                continue  # times of damaged packets may go back; an encoder's must grow
            self._until = start + frame.samples / self._rate if start < math.inf else self._until
            self._output.mux(self._stream.encode(frame))


_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
#: Frames of sound may begin this long before the end of the one before, seconds: times are rounded.
_OVERLAP = 0.005
