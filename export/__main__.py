"""python -m export RUN -o models/NAME.onnx; python -m export verify|describe FILE."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from facecam.errors import FacecamError, ModelInvalid, UsageFault

COMMANDS = ("model", "verify", "describe")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Turn a trained run into one ONNX file that facecam runs; look into such files.

    `python -m export RUN -o FILE` is short for `python -m export model RUN -o FILE`.
    """


@cli.command(epilog="Example: python -m export runs/friends -o models/friends.onnx --unknown crops/others")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The ONNX file to write.")
@click.option("--fp16", is_flag=True, help="Store weights in 16 bits: half the size.")
@click.option("--int8", is_flag=True, help="Weights and activations in 8 bits: faster; needs --calibrate.")
@click.option("--calibrate", type=click.Path(path_type=Path), help="Pictures that show the usual range (int8).")
@click.option("--unknown", type=click.Path(path_type=Path), help="Strangers, to calibrate a classifier's threshold.")
@click.option("--data", type=click.Path(path_type=Path), help="The training data; default: where the run found it.")
@click.option(
    "--risk", type=click.FloatRange(0, 0.5), default=0.005, show_default=True, help="Share of strangers named."
)
@click.option("--name", help="The model's name; default: the file's.")
@click.option("--licence", default="LicenseRef-unstated", show_default=True, help="SPDX expression.")
@click.option("--opset", type=click.IntRange(17, 25), default=None, help="ONNX opset; default 18.")
@click.pass_context
def model(
    ctx: click.Context,
    run: Path,
    out: Path,
    fp16: bool,
    int8: bool,
    calibrate: Path | None,
    unknown: Path | None,
    data: Path | None,
    risk: float,
    name: str | None,
    licence: str,
    opset: int | None,
) -> None:
    """Write RUN (a folder of python -m train fit, or a checkpoint) as one ONNX file, if it computes the same."""

    from export import cards, compare, parity, quantize, to_onnx
    from facecam.zoo.card import TEMPLATES
    from train import evaluate, loop
    from train.checkpoint import write_atomic

    if out.suffix != ".onnx":
        raise UsageFault(f"-o {out}: the file's name ends in .onnx")
    if math.isnan(risk):  # Click's range takes it
        raise UsageFault("--risk takes a share from 0 to 0.5, not nan")
    if int8 and fp16:
        raise UsageFault("--fp16 and --int8 exclude each other; choose one")
    if int8 != (calibrate is not None):
        raise UsageFault("--int8 and --calibrate DIR belong together; give both or neither")
    if unknown is None and ctx.get_parameter_source("risk") is not ParameterSource.DEFAULT:
        raise UsageFault("--risk is a share of strangers; give pictures of them with --unknown DIR")
    loaded = evaluate.load_run(run)
    if loaded.recipe.metric and unknown:
        raise UsageFault("--unknown is for a classifier; an embedder's threshold is found on its calibration people")
    loop.set_up(loaded.recipe, loop.choose_device("cpu"))
    corpus = _corpus(loaded, run, data)
    strangers = _pictures(unknown, 5000, loaded) if unknown else ()
    val = corpus.val if corpus else ()
    if loaded.recipe.metric:
        found = cards.embedder_threshold(loaded, val, corpus.train if corpus else ())
    else:
        found = cards.classifier_threshold(loaded, val, strangers, risk)
    precision = "int8" if int8 else "fp16" if fp16 else "fp32"
    card = cards.make(loaded, found, name=name or out.stem, licence=licence, precision=precision)
    finished = to_onnx.Finished(loaded.network, len(loaded.classes))
    plain = to_onnx.with_card(to_onnx.convert(finished, loaded.recipe.size, opset or to_onnx.OPSET), card)

    items = (corpus.test or corpus.val or corpus.train) if corpus else ()
    some = cards.preprocess(loaded, items[:: max(1, len(items) // 8)][:8]) if items else _noise(loaded)
    click.echo(f"parity with torch, fp32, batches 1, 3, 8: {parity.compare(plain, finished, some, 'fp32')}")
    data_out = plain
    if fp16:
        data_out = to_onnx.with_card(to_onnx.halve(plain), card)
    elif int8 and calibrate:
        batch = cards.preprocess(loaded, _pictures(calibrate, 256, loaded))
        data_out = to_onnx.with_card(quantize.to_int8(plain, to_onnx.INPUT, batch), card)
    if data_out is not plain:
        click.echo(f"parity with torch, {precision}: {parity.compare(data_out, finished, some, precision)}")
        for line in compare.before_after(loaded, plain, data_out, items, some):
            click.echo(line)
    write_atomic(out, data_out)
    if found.warning:
        click.echo(f"warning: {found.warning}", err=True)
    click.echo(f"threshold {card.threshold.value:.4f} ({card.threshold.kind}): {card.threshold.calibration}")
    # facecam looks at faces alone: digits, or cats and dogs, are of no use to it.
    following = f"facecam models add {out}" if card.template in TEMPLATES else f"python -m export verify {out}"
    click.echo(f"{out}: {card.kind}, {len(data_out) / 1e6:.2f} MB, {precision}; try: {following}")


def _corpus(loaded: Any, run: Path, data: Path | None) -> Any:
    """The run's data, if it is still there and still the same; else None with a line about it."""
    from train import evaluate

    facts = run / "run.json" if run.is_dir() else run.parent / "run.json"
    if data is None and facts.is_file():
        data = Path(json.loads(facts.read_text(encoding="utf-8"))["data"]["root"])
    if data is None or not data.is_dir():
        click.echo("the training data is not at hand (--data DIR): nothing is measured on it", err=True)
        return None
    corpus = evaluate.load_data(data, loaded.recipe)
    evaluate.check_classes(loaded, corpus)
    if corpus.digest != loaded.state["data"]:
        raise UsageFault(
            f"{data}: has changed since the run: its validation part may hold training pictures; give --data"
        )
    return corpus


def _pictures(folder: Path, limit: int, loaded: Any) -> Any:
    """Pictures of the kind that the run eats; a line for each that cannot be used."""
    from export import cards

    items, skipped = cards.pictures_below(folder, limit, crop=loaded.recipe.crop)
    for path, reason in skipped:
        click.echo(f"left out: {path}: {reason}", err=True)
    return items


def _noise(loaded: Any) -> Any:
    import numpy as np

    shape = (8, 3, loaded.recipe.size, loaded.recipe.size)
    return np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)


@cli.command(epilog="Example: python -m export verify models/friends.onnx")
@click.argument("file", type=click.Path(path_type=Path))
def verify(file: Path) -> None:
    """Check a file without its run: a valid card, and outputs that are what the card says."""
    from export import parity

    data, card = _read(file)
    for line in parity.self_check(data, card):
        click.echo(line)
    click.echo(f"{file}: ok, {card.kind} {card.name!r}")


@cli.command(epilog="Example: python -m export describe models/friends.onnx")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The card as it stands in the file.")
def describe(file: Path, as_json: bool) -> None:
    """Show what a model file says of itself."""
    data, card = _read(file)
    if as_json:
        click.echo(card.to_json())
        return
    rows: dict[str, Any] = {
        "name": card.name,
        "kind": card.kind,
        "eats": f"{card.template}, {card.size[1]}x{card.size[0]} {card.colour}",
        "preprocessing": f"(pixel - {_numbers(card.mean)}) / {_numbers(card.std)}",
        "gives": f"{card.dim} values of norm 1" if card.kind == "embedder" else f"{len(card.labels)} probabilities",
        "labels": ", ".join(card.labels[:12]) + (" ..." if len(card.labels) > 12 else ""),
        "threshold": f"{card.threshold.value:.4f} ({card.threshold.kind})" if card.threshold else "",
        "calibration": card.threshold.calibration if card.threshold else "",
        "space": card.space or "",
        "licence": card.licence,
        "source": card.source,
        **{f"training: {key}": value for key, value in card.training.items() if not isinstance(value, dict)},
        "file": f"{len(data) / 1e6:.2f} MB",
    }
    for key, value in rows.items():
        if value != "":
            click.echo(f"{key:22} {value}")


def _numbers(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"


def _read(file: Path) -> tuple[bytes, Any]:
    from facecam.zoo.session import read_bytes, read_card

    data = read_bytes(file)
    try:
        return data, read_card(data)
    except ModelInvalid as error:
        raise ModelInvalid(f"{file}: {error}") from error


def main() -> None:
    """Run the command line; a FacecamError becomes one line and its exit code."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] not in (*COMMANDS, "-h", "--help"):
        arguments = ["model", *arguments]
    try:
        cli(arguments, prog_name="python -m export")
    except FacecamError as error:
        click.echo(f"export: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
