"""Every backbone, end to end: python -m benchmarks.train_backbones CATS_DOGS OUT [SIZE [ARCH ...]]

One epoch on 100 pictures a class with random weights (it shows that all parts fit together, and nothing about
accuracy), the export with its parity check, and verify. SIZE is the side of the input, 112 if not given; all
architectures unless some are named.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from pathlib import Path

from click.testing import CliRunner

from export import __main__ as export
from train import __main__ as train
from train.networks import TORCHVISION

ARCHS = ("mlp", "cnn", *TORCHVISION, "xception", "dlib_resnet")
PICTURES = 100


def subset(source: Path, out: Path) -> Path:
    """The first pictures of each class, as links."""
    for folder in sorted((source / "train").iterdir()):
        (out / folder.name).mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.iterdir())[:PICTURES]:
            link = out / folder.name / path.name
            if not link.exists():
                os.symlink(path.resolve(), link)
    return out


def step(group: object, words: list[object]) -> str:
    """Run a command; its output."""
    with contextlib.redirect_stderr(io.StringIO()):
        came = CliRunner().invoke(group, [str(word) for word in words])
    if came.exit_code:
        raise SystemExit(f"{words}: {came.exception or came.output}")
    return came.output


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    size = int(sys.argv[3]) if len(sys.argv) > 3 else 112
    data = subset(source, out / "pictures")
    for arch in sys.argv[4:] or ARCHS:
        side = 150 if arch == "dlib_resnet" else size
        began = time.perf_counter()
        run, file = out / arch, out / f"{arch}.onnx"
        words = ["--arch", arch, "--weights", "none", "--size", side, "--epochs", 1, "--batch", 16, "--threads", 1]
        step(train.cli, ["fit", data, "--out", run, *words])
        fitted = time.perf_counter() - began
        parity = step(export.cli, ["model", run, "-o", file]).splitlines()[0].split("8: ")[1]
        checked = step(export.cli, ["verify", file]).splitlines()[-1].split(": ", 1)[1]
        megabytes = file.stat().st_size / 1e6
        print(
            f"{arch:20} {side:4} px  fit {fitted:5.0f} s  {megabytes:7.2f} MB  {parity}  verify: {checked}", flush=True
        )


if __name__ == "__main__":
    main()
