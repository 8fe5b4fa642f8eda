"""facecam eval: how well it recognises, on data of your own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from facecam.cli import common
from facecam.cli.options import settings as setting_options
from facecam.cli.progress import bar
from facecam.errors import UsageFault
from facecam.settings import Settings

if TYPE_CHECKING:
    from facecam.engine import Engine

F = TypeVar("F", bound=Callable[..., Any])
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(
    name="eval",
    short_help="Measure recognition on labelled data.",
    epilog="Example: facecam eval openset --enroll enrolled/ --known others/ --unknown strangers/",
)
@click.pass_context
def evaluate(ctx: click.Context) -> None:
    """Measure how well people are recognised, on data whose truth you know.

    What the figures mean, and for whom they are worse: docs/accuracy.md.
    """
    # The settings of config.toml hold for every kind of test.
    ctx.default_map = {name: ctx.default_map for name in evaluate.commands}


eval = evaluate


def _json_option(command: F) -> F:
    return click.option(
        "--json",
        "json_file",
        type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
        metavar="FILE",
        help="Write the result as JSON (replaced if there; - for stdout).",
    )(command)


def _plots_option(command: F) -> F:
    return click.option(
        "--plots",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Write the curves as PNG into this folder (replaced if there).",
    )(command)


def _split_option(command: F) -> F:
    return click.option(
        "--split",
        type=FILE,
        metavar="FILE",
        help="Use only the people under 'test' in this split (JSON), such as of train/splits.",
    )(command)


@evaluate.command(epilog="Example: facecam eval pairs lfw/images lfw/pairs.txt --json pairs.json --plots plots/")
@click.argument("images", type=FOLDER)
@click.argument("pairs_file", metavar="PAIRS.TXT", type=FILE)
@_split_option
@_json_option
@_plots_option
@setting_options("min_face", "device", "pack", "threads")
def pairs(
    images: Path, pairs_file: Path, split: Path | None, json_file: Path | None, plots: Path | None, settings: Settings
) -> int:
    """Same person or not? The protocol of LFW on IMAGES/NAME/NAME_0001.jpg and a PAIRS.TXT.

    For each fold the threshold comes from all others. A pair in which no face is found is an error.
    """
    engine, workers = _open(settings, plots)
    from facecam.evaluate.openset import read_split
    from facecam.evaluate.pairs import run_pairs

    only = read_split(split) if split is not None else None
    with bar(images.name, "images") as progress:
        result, problems = run_pairs(engine, images, pairs_file, progress, only=only, workers=workers)
    drawn: list[Path] = []
    if plots is not None:
        from facecam.evaluate.plots import plot_pairs

        drawn = plot_pairs(result, plots)
    _finish(result, json_file, drawn, _say_pairs, problems)
    return 0


@evaluate.command(epilog="Example: facecam eval openset --enroll enrolled/ --known others/ --unknown strangers/")
@click.option("--enroll", type=FOLDER, help="Pictures to enrol, a sub-folder a person.")
@click.option("--known", type=FOLDER, help="Other pictures of these people, a sub-folder a person.")
@click.option("--unknown", type=FOLDER, help="Pictures of strangers.")
@click.option("--images", type=FOLDER, help="Instead: one folder, NAME/*.jpg, of which halves are drawn.")
@click.option("--halves", type=click.IntRange(1, 1000), default=20, show_default=True, help="Draws from --images.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draws from --images.")
@_split_option
@_json_option
@_plots_option
@setting_options("threshold", "max_false_names", "min_face", "device", "pack", "threads")
def openset(
    enroll: Path | None,
    known: Path | None,
    unknown: Path | None,
    images: Path | None,
    halves: int,
    seed: int,
    split: Path | None,
    json_file: Path | None,
    plots: Path | None,
    settings: Settings,
) -> int:
    """Who is it, or nobody? Enrols some pictures and probes with others and with strangers.

    Either give --enroll, --known and --unknown; or --images, and random halves of the people with several
    pictures are enrolled (up to three each), their other pictures probed, everybody else a stranger.
    """
    folders = (enroll, known, unknown)
    if (images is None) == (None in folders) or (images is not None and any(folders)):
        raise UsageFault("give either --enroll, --known and --unknown, or --images")
    if images is None and split is not None:
        raise UsageFault("--split goes with --images; give folders of just these people instead")
    engine, workers = _open(settings, plots)
    from facecam.evaluate.openset import read_split, run_folders, run_halves

    with bar("openset", "images") as progress:
        if images is not None:
            only = read_split(split) if split is not None else None
            result, problems = run_halves(engine, images, halves, seed, progress, only=only, workers=workers)
        else:
            assert enroll is not None and known is not None and unknown is not None
            result, problems = run_folders(engine, enroll, known, unknown, progress, workers=workers)
    drawn: list[Path] = []
    if plots is not None:
        from facecam.evaluate.plots import plot_openset

        drawn = plot_openset(result, plots)
    _finish(result, json_file, drawn, _say_openset, problems)
    return 0


@evaluate.command(epilog="Example: facecam eval clip party.mp4 party-truth.csv")
@click.argument("clip_file", metavar="CLIP", type=FILE)
@click.argument("truth_file", metavar="TRUTH.CSV", type=FILE)
@click.option("--frames", is_flag=True, help="start and end in the truth are frame numbers, the last included.")
@_json_option
@setting_options("threshold", "max_false_names", "min_face", "detect_every", "device", "pack", "threads")
def clip(clip_file: Path, truth_file: Path, frames: bool, json_file: Path | None, settings: Settings) -> int:
    """Label CLIP with your gallery, as facecam label does, and compare with a TRUTH.CSV written by watching it.

    Its columns: start,end,name (seconds from the first frame) or start_frame,end_frame,name (the last included), a
    line for each time that somebody's face is to be seen; optionally required (yes or no).
    """
    common.import_cv2()
    from facecam.evaluate.clip import run_clip
    from facecam.evaluate.truth import read_truth

    truth = read_truth(truth_file, frames=frames)
    engine = common.open_engine(settings)
    gallery = common.open_gallery()
    matcher = common.open_matcher(engine, gallery)
    if gallery is not None:
        gallery.close()
    with bar(clip_file.name) as progress:
        result = run_clip(engine, matcher, clip_file, truth, progress)
    _finish(result, json_file, [], _say_clip, ())
    return 0


@evaluate.command(epilog="Example: facecam eval compare before.json after.json")
@click.argument("first", metavar="A.JSON", type=FILE)
@click.argument("second", metavar="B.JSON", type=FILE)
@click.option("--all", "everything", is_flag=True, help="Also figures that are equal.")
def compare(first: Path, second: Path, everything: bool) -> int:
    """Two results of one kind of test side by side: what changed from A.JSON to B.JSON."""
    from facecam.evaluate.compare import compare as compared
    from facecam.evaluate.compare import read_result

    rows, differences = compared(read_result(first), read_result(second))
    for line in differences:
        click.echo(line)
    shown = [row for row in rows if everything or row.change != 0]
    for row in shown:
        change = "" if row.change is None else f"{row.change:+.6g}"
        click.echo(f"{row.name:<32} {_number(row.first):>12} {_number(row.second):>12} {change:>12}")
    if not shown:
        click.echo(f"all {len(rows)} figures are equal")
    return 0


# --- what the commands share -----------------------------------------------------------------------------


def _open(settings: Settings, plots: Path | None) -> tuple[Engine, int]:
    """The engine with single-threaded models, and how many threads shall use it: faster than the other way round."""
    common.import_cv2()
    from facecam.evaluate.metrics import scikit

    scikit()  # what is missing is said before the long work, not after it
    if plots is not None:
        from facecam.evaluate.plots import prepare

        prepare(plots)
    workers = settings.threads or _cores()
    return common.open_engine(replace(settings, threads=1)), workers


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _finish(
    result: Mapping[str, Any],
    json_file: Path | None,
    drawn: Sequence[Path],
    say: Callable[[Mapping[str, Any]], None],
    problems: Sequence[str],
) -> None:
    """Print or write a result, and name what could not be read."""
    from facecam.video.atomic import atomic_text

    text = json.dumps(result, ensure_ascii=False, indent=1) + "\n"
    if str(json_file) == "-":
        click.echo(text, nl=False)
    else:
        say(result)
        if json_file is not None:
            with atomic_text(json_file, overwrite=True) as file:
                file.write(text)
        for path in [*([json_file] if json_file is not None else []), *drawn]:
            click.echo(f"  wrote {path}")
    for line in problems[:5]:
        common.note(line)
    if len(problems) > 5:
        common.note(f"{len(problems) - 5} more pictures could not be read; they count as pictures without a face")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _say_pairs(result: Mapping[str, Any]) -> None:
    data = result["data"]
    click.echo(
        f"{result['pairs']} pairs of {data['images']} images of {data['people']} people; "
        f"{result['failed']} pairs without a face in one of them, counted as errors"
    )
    for variant, title in (("plain", "no mirror"), ("mirror", "with mirror")):
        figures = result[variant]
        rates = ", ".join(f"{far}: {tar:.4f}" for far, tar in figures["tar_at_far"].items())
        click.echo(
            f"{title:<12} accuracy {figures['accuracy']:.4f} +- {figures['std']:.4f} at {figures['threshold']:.4f}; "
            f"AUC {figures['auc']:.5f}, EER {figures['eer']:.4f}; TAR at FAR {rates}"
        )


def _say_openset(result: Mapping[str, Any]) -> None:
    data, counts = result["data"], result["counts"]
    of = f", mean of {data['halves']} halves (seed {data['seed']})" if data["protocol"] == "halves" else ""
    click.echo(
        f"{counts['people']:.0f} people enrolled with {counts['enrolled_images']:.0f} images, "
        f"{counts['probes']:.0f} probes, {counts['strangers']:.0f} images of strangers{of}"
    )
    for variant, title in (("plain", "no mirror"), ("mirror", "with mirror")):
        figures = result[variant]
        spread = figures.get("std", {}).get("dir_at_fpir", {})
        rates = ", ".join(
            f"{rate}: {value:.4f}" + (f" +- {spread[rate]:.4f}" if rate in spread else "")
            for rate, value in figures["dir_at_fpir"].items()
        )
        here = figures["at_default"]
        click.echo(f"{title:<12} rank 1 {figures['rank1']:.4f}; DIR at FPIR {rates}")
        click.echo(
            f"{'':<12} at the tool's own threshold {here['threshold']:.4f}: DIR {here['dir']:.4f}, "
            f"FPIR {here['fpir']:.5f}, known people misnamed {here['misnamed']:.5f}"
        )


def _say_clip(result: Mapping[str, Any]) -> None:
    data, faces = result["data"], result["faces"]
    click.echo(
        f"{data['clip']}: {data['frames']} frames; faces found {faces['found']} of {faces['expected']} "
        f"(recall {_share(faces['recall'])}, precision {_share(faces['precision'])}, by count)"
    )
    click.echo(
        f"false names {result['false_names']} ({result['false_name_frames']} frames, "
        f"{_share(result['false_names_per_minute'])} a minute); identity switches {result['identity_switches']}"
    )
    for name, person in result["people"].items():
        wait = person["time_to_name"]
        waits = [a["face_to_name"] for a in person["appearances"] if a["face_to_name"] is not None]
        click.echo(
            f"{name}: F1 {_share(person['f1'])}, precision {_share(person['precision'])}, recall "
            f"{_share(person['recall'])} of {person['frames']} frames; "
            + ("never named live" if wait is None else f"named {wait:.2f} s after the first face")
            + (f", {max(waits):.2f} s when it came again" if waits and max(waits) > wait else "")
            + ("" if person["enrolled"] else "; not enrolled")
        )
    for entry in result["false_name_list"]:
        click.echo(
            f"  false: {entry['name']} from frame {entry['frame']} ({entry['start']:.2f} s), {entry['frames']} frames"
        )
