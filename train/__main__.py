"""python -m train: fit, eval, predict, summary, augment, recipes."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import click

from facecam.errors import FacecamError, UsageFault
from train import recipe as recipes


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Train networks on folders of pictures; python -m export turns the result into one ONNX file."""


DATA = click.argument("data", type=click.Path(path_type=Path))
DEVICE = click.option("--device", type=click.Choice(("auto", "cuda", "cpu")), default="auto", show_default=True)


@cli.command(epilog="Example: python -m train fit photos/ --recipe faces-transfer --out runs/friends")
@DATA
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option("--recipe", "name", default=None, help="Name (see recipes) or TOML file.")
@click.option("--arch", help="mlp, cnn, dlib_resnet, a torchvision network or a timm name.")
@click.option("--weights", help="none, imagenet, dlib or a file.")
@click.option("--size", type=int, help="Side of the input, pixels.")
@click.option("--augment", type=click.Choice(("none", "light", "standard", "strong", "face")))
@click.option("--freeze", type=click.Choice(("none", "backbone", "all")), help="all: the head alone learns.")
@click.option("--balance", type=click.Choice(("none", "sampler", "root", "weights")), help="Against unequal classes.")
@click.option("--epochs", type=int)
@click.option("--batch", type=int)
@click.option("--lr", type=float)
@click.option("--seed", type=int)
@click.option("--split", help="Split by person (faces-metric): a name in train/splits or a JSON file.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Any other entry of a recipe.")
@click.option("--threads", type=int, help="CPU threads; default: all, up to 8.")
@DEVICE
@click.option("--resume", is_flag=True, help="Go on where the run in --out stopped.")
def fit(
    data: Path, out: Path, name: str | None, device: str, resume: bool, pairs: tuple[str, ...], **changes: Any
) -> None:
    """Train on DATA: DIR/CLASS/*.jpg, DIR/train + DIR/val|test, or MNIST's IDX files."""
    from train import checkpoint, evaluate, loop, report
    from train import data as data_sets

    if resume:
        if name or pairs or any(value is not None for value in changes.values()):
            raise UsageFault("--resume goes on with the run's own settings; leave the other options out")
        recipe = recipes.from_dict(checkpoint.load(out / "last.pt", ("recipe",))["recipe"])
    else:
        base = recipes.load(name) if name else recipes.Recipe()
        recipe = _resolved(base.with_changes(**{**changes, **_pairs(pairs)}))
    corpus = evaluate.load_data(data, recipe)
    click.echo(
        f"{len(corpus.classes)} classes; {len(corpus.train)} pictures to train on, {len(corpus.val)} to validate, "
        f"{len(corpus.test)} to test"
    )
    for path, reason in corpus.skipped[:20]:
        click.echo(f"left out: {path}: {reason}", err=True)
    if len(corpus.skipped) > 20:
        click.echo(f"left out: {len(corpus.skipped) - 20} more, all in {out / 'run.json'}", err=True)
    counts = [n for n in corpus.counts(corpus.train) if n]
    if max(counts) > 1.5 * min(counts) and not recipe.metric:
        click.echo(f"unequal classes: {min(counts)} to {max(counts)} pictures; balance = {recipe.balance}")
    if recipe.metric and (known := data_sets.shared(corpus.train, (*corpus.val, *corpus.test))):
        click.echo(
            f"warning: {known} people of the validation and test parts are trained on, too, which flatters an "
            "embedder; --split FILE keeps people apart",
            err=True,
        )
    began = time.perf_counter()
    try:
        loop.fit(recipe, corpus, out, device=device, resume=resume, say=click.echo)
    except KeyboardInterrupt:
        kept = (out / "last.pt").is_file()
        hint = (
            f"python -m train fit {data} --out {out} --resume goes on"
            if kept
            else "nothing was kept: no epoch had ended"
        )
        click.echo(f"\ninterrupted; {hint}", err=True)
        raise
    where = loop.choose_device(device)
    facts = report.write(evaluate.load_run(out, where), corpus, out, where)
    click.echo(report.headline(facts))
    click.echo(f"trained in {time.perf_counter() - began:.0f} s; see {out / 'report.html'}")


@cli.command("eval", epilog="Example: python -m train eval runs/friends photos/")
@click.argument("run", type=click.Path(path_type=Path))
@DATA
@click.option(
    "--part", type=click.Choice(("train", "val", "test", "all")), default=None, help="Default: test, else val."
)
@DEVICE
def evaluate_run(run: Path, data: Path, part: str | None, device: str) -> None:
    """Judge RUN on DATA (split as in training) and write its reports anew."""
    from train import evaluate, loop, report

    where = loop.choose_device(device)
    loaded = evaluate.load_run(run, where)
    loop.set_up(loaded.recipe, where)
    corpus = evaluate.load_data(data, loaded.recipe)
    evaluate.check_classes(loaded, corpus)
    out = run if run.is_dir() else run.parent
    click.echo(report.headline(report.write(loaded, corpus, out, where, part)))


@cli.command(epilog="Example: python -m train predict runs/catsdogs cat.jpg more/")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("images", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@DEVICE
def predict(run: Path, images: tuple[Path, ...], as_json: bool, device: str) -> None:
    """Name what IMAGES (files or folders) show."""
    from facecam.errors import MediaError
    from train import evaluate, loop
    from train.data import Item
    from train.picture import SUFFIXES, check_picture

    where = loop.choose_device(device)
    loaded = evaluate.load_run(run, where)
    if loaded.recipe.metric:
        raise UsageFault(f"{run}: an embedder has no classes; export it, then enrol people with it in facecam")
    files: list[Path] = []
    for path in images:
        files += sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    items, failed = [], 0
    for path in files:
        try:
            items.append(Item(str(path), 0, "", "", size=check_picture(path, path.read_bytes())))
        except (OSError, MediaError) as error:
            failed += 1
            click.echo(f"{path}: {getattr(error, 'strerror', None) or error}", err=True)
    if not items:
        raise UsageFault("no usable picture among the images given")
    evaluate.check_crops("IMAGES", items, loaded.recipe.crop)
    for item, row in zip(items, evaluate.outputs(loaded, items, where)):
        best = int(row.argmax())
        if as_json:
            table = {name: round(float(p), 5) for name, p in zip(loaded.classes, row)}
            click.echo(
                json.dumps(
                    {"path": item.path, "label": loaded.classes[best], "probabilities": table}, ensure_ascii=False
                )
            )
        else:
            click.echo(f"{item.path}\t{loaded.classes[best]}\t{row[best]:.4f}")
    if failed:
        sys.exit(1)


@cli.command(epilog="Example: python -m train summary vgg16 --input 3x224x224")
@click.argument("arch")
@click.option("--input", "shape", default="3x224x224", show_default=True, metavar="CxHxW")
@click.option("--classes", type=click.IntRange(2, 100_000), default=1000, show_default=True)
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="width, depth, ... as in a recipe.")
def summary(arch: str, shape: str, classes: int, pairs: tuple[str, ...]) -> None:
    """Show the layers of ARCH: kernel, stride, padding, output, parameters, multiply-adds."""
    from train import networks
    from train import summary as tables

    if not re.fullmatch(r"[13]x\d{1,4}x\d{1,4}", shape):
        raise UsageFault(f"--input is CxHxW, C 1 or 3, such as 3x224x224, not {shape!r}")
    channels, height, width = map(int, shape.split("x"))
    if height != width:
        raise UsageFault(f"--input: these networks eat squares, not {height}x{width}")
    recipe = recipes.Recipe(arch=arch, size=height, grey=channels == 1).with_changes(**_pairs(pairs))
    network = networks.build(recipe, classes)
    networks.try_size(network, recipe)
    click.echo(tables.table(tables.describe(network, (3, height, width))))


@cli.command("augment", epilog="Example: python -m train augment photos/ --augment strong --out sheet.png")
@DATA
@click.option(
    "--augment", "preset", type=click.Choice(("none", "light", "standard", "strong", "face")), default="standard"
)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--size", type=click.IntRange(16, 512), default=112, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def augment_sheet(data: Path, preset: str, out: Path, size: int, seed: int) -> None:
    """Draw what augmentation does: in each row a picture, then eight ways in which training sees it."""
    from train import augment, evaluate

    corpus = evaluate.load_data(data, recipes.Recipe(seed=seed))
    augment.write_sheet(out, augment.sheet(corpus.train, size, preset, seed))
    click.echo(f"{out}: {preset} ({augment.PRESETS[preset]})")


@cli.command("recipes", epilog="Example: python -m train recipes")
def list_recipes() -> None:
    """List the recipes."""
    for name in recipes.names():
        click.echo(f"{name:24} {recipes.load(name).about}")


def _resolved(recipe: recipes.Recipe) -> recipes.Recipe:
    """Files and folders are remembered by their full paths, so that a resumed run finds them from anywhere."""
    full = {
        "weights": recipe.weights not in ("none", "imagenet", "dlib"),
        "others": recipe.others != "",
        "split": recipe.split.endswith(".json"),
    }
    return recipe.with_changes(**{key: str(Path(getattr(recipe, key)).resolve()) for key, path in full.items() if path})


def _pairs(pairs: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE options as recipe entries, of the type that the recipe has there."""
    known = recipes.Recipe().to_dict()
    changes: dict[str, Any] = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign or key not in known:
            raise UsageFault(
                f"--set takes KEY=VALUE with an entry of a recipe, not {pair!r}; known: {', '.join(known)}"
            )
        kind = type(known[key])
        try:
            changes[key] = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
        except (ValueError, KeyError):
            raise UsageFault(f"--set {key}: expected {kind.__name__}, not {text!r}") from None
    return changes


def main() -> None:
    """Run the command line; a FacecamError becomes one line and its exit code."""
    try:
        cli(prog_name="python -m train")
    except FacecamError as error:
        click.echo(f"train: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
