"""The report of a run: report.json for programs, report.html (one file, pictures inside) for people."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Any

import numpy as np
import torch

from train import checkpoint, evaluate, metrics, openset, plots
from train.data import Corpus, Item
from train.evaluate import Run
from train.picture import decode, square

WORST = 24
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.5rem 0}td,th{padding:.15rem .7rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}figure{display:inline-block;margin:.5rem;vertical-align:top}
figcaption{font-size:12px;max-width:9rem}img{max-width:100%}h2{margin-top:2rem}.note{color:#555}
"""


def write(run: Run, corpus: Corpus, out: Path, device: torch.device, part: str | None = None) -> dict[str, Any]:
    """Judge a run on its test part (else validation) and write both reports into ``out``.

    Returns:
        what report.json says.
    """
    name = part or ("test" if corpus.test else "val" if corpus.val else "train")
    items = evaluate.part_of(corpus, name)
    found = evaluate.outputs(run, items, device)
    counts = {p: corpus.counts(getattr(corpus, p)) for p in ("train", "val", "test")}
    facts: dict[str, Any] = {
        "recipe": run.recipe.to_dict(),
        "part": name,
        "data": {
            "sha256": corpus.digest,
            "pictures": {p: sum(c) for p, c in counts.items()},
            "classes": len(corpus.classes),
            "largest_class": max(counts["train"]),
            "smallest_class": min(c for c in counts["train"] if c),
            "skipped": [list(row) for row in corpus.skipped],
        },
        "epochs": len(run.state["history"]),
        "best_epoch": run.state["best"]["epoch"] + 1,
        "seconds": round(sum(row["seconds"] for row in run.state["history"]), 1),
    }
    if run.recipe.metric:
        sections = _embedder(run, items, found, facts, device)
    else:
        sections = _classifier(run, items, found, facts, counts)
    checkpoint.write_json(out / "report.json", facts)
    checkpoint.write_atomic(out / "report.html", _page(run, facts, sections).encode())
    return facts


def _classifier(
    run: Run, items: tuple[Item, ...], found: np.ndarray, facts: dict[str, Any], counts: dict[str, list[int]]
) -> list[tuple[str, str]]:
    labels = np.array([item.label for item in items])
    facts |= metrics.summarise(found, labels, run.classes)
    kind = "one class against the other" if len(run.classes) == 2 else "all classes, one against the rest"
    rows = "".join(
        f"<tr><td>{html.escape(c['name'])}</td><td>{c['precision']:.3f}</td><td>{c['recall']:.3f}</td>"
        f"<td>{c['f1']:.3f}</td><td>{c['support']}</td><td>{n}</td></tr>"
        for c, n in zip(facts["classes"], counts["train"])
    )
    table = (
        "<table><tr><th>class</th><th>precision</th><th>recall</th><th>F1</th><th>pictures</th>"
        f"<th>in training</th></tr>{rows}</table>"
    )
    if facts["untested"]:
        names = html.escape(", ".join(facts["untested"]))
        table += f"<p>Without a picture in the {facts['part']} part, so that nothing is known of them: {names}.</p>"
    return [
        ("Learning", _image(plots.learning_curves(run.state["history"], "accuracy"))),
        ("Confusion", _image(plots.confusion(facts["confusion"], run.classes))),
        ("Classes", table),
        (
            "Can its confidence be believed?",
            _image(plots.reliability(facts["reliability"], facts["ece"]))
            + _image(plots.roc(facts["roc"], facts["auc"], kind)),
        ),
        ("The worst mistakes", _worst(items, found, labels, run.classes)),
        ("Data", _image(plots.bars(run.classes, counts)) + _balance(run, facts)),
    ]


def _embedder(
    run: Run, items: tuple[Item, ...], found: np.ndarray, facts: dict[str, Any], device: torch.device
) -> list[tuple[str, str]]:
    from train import networks

    start = evaluate.Run(networks.build(run.recipe, 2).to(device), run.recipe, run.classes, run.state)
    facts["after"] = openset.evaluate(found, items, seed=run.recipe.seed)
    facts["before"] = openset.evaluate(evaluate.outputs(start, items, device), items, seed=run.recipe.seed)
    keys = (*openset.FIGURES, "enrolled", "probes", "strangers")
    rows = "".join(
        f"<tr><td>{k}</td><td>{facts['before'][k]:.4g}</td><td>{facts['after'][k]:.4g}</td></tr>" for k in keys
    )
    return [
        ("Learning", _image(plots.learning_curves(run.state["history"], "DIR at FPIR 1 %"))),
        ("Before and after, on people it never saw", _image(plots.before_after(facts["before"], facts["after"]))),
        ("Figures", f"<table><tr><th></th><th>before</th><th>after</th></tr>{rows}</table>"),
    ]


def _balance(run: Run, facts: dict[str, Any]) -> str:
    data = facts["data"]
    how = {
        "none": "nothing was done about it",
        "sampler": "rare classes were drawn as often as others",
        "root": "rare classes were drawn more often",
    }
    skipped = "".join(f"<li>{html.escape(Path(p).name)}: {html.escape(why)}</li>" for p, why in data["skipped"][:50])
    return (
        f"<p>Training pictures of the largest class: {data['largest_class']}, smallest: {data['smallest_class']} "
        f"({how.get(run.recipe.balance, 'errors on rare classes weighed more')}). "
        f"Files left out: {len(data['skipped'])}.</p><ul>{skipped}</ul>"
    )


def _worst(items: tuple[Item, ...], found: np.ndarray, labels: np.ndarray, classes: list[str]) -> str:
    wrong = np.nonzero(found.argmax(axis=1) != labels)[0]
    wrong = wrong[np.argsort(-found[wrong].max(axis=1))][:WORST]
    if not len(wrong):
        return "<p>None.</p>"
    cells = []
    for i in wrong.tolist():
        guess = int(found[i].argmax())
        caption = html.escape(f"{classes[labels[i]]}, taken for {classes[guess]} ({found[i, guess]:.0%})")
        cells.append(f"<figure>{_image(_thumbnail(items[i]), caption)}<figcaption>{caption}</figcaption></figure>")
    return "".join(cells)


def _thumbnail(item: Item) -> bytes:
    import cv2

    image = square(item.pixels if item.pixels is not None else decode(Path(item.path).read_bytes()), 112)
    return cv2.imencode(".jpg", np.ascontiguousarray(image[:, :, ::-1]))[1].tobytes()


def _image(data: bytes, alt: str = "") -> str:
    kind = "png" if data[:4] == b"\x89PNG" else "jpeg"
    return f'<img alt="{alt}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def headline(facts: dict[str, Any]) -> str:
    """The result in one line."""
    if "after" in facts:
        old, new = facts["before"], facts["after"]
        return (
            f"{facts['part']}: DIR at FPIR 1 % {old['dir_1']:.4f} -> {new['dir_1']:.4f}, "
            f"at 0.1 % {old['dir_01']:.4f} -> {new['dir_01']:.4f}, "
            f"with one photo each {old['one_1']:.4f} -> {new['one_1']:.4f} and {old['one_01']:.4f} -> "
            f"{new['one_01']:.4f}, verification {old['verification']:.4f} -> {new['verification']:.4f} "
            f"({new['enrolled']} people enrolled, {new['probes']} probes, {new['strangers']} strangers)"
        )
    untested = facts["untested"]
    return (
        f"{facts['part']}: accuracy {facts['accuracy']:.4f} on {facts['pictures']} pictures, "
        f"macro F1 {facts['macro_f1']:.4f}, "
        f"calibration error {facts['ece']:.4f}, area under ROC {facts['auc']:.4f}"
        + (f" ({len(untested)} classes without a picture there: {some(untested)})" if untested else "")
    )


def some(names: list[str], most: int = 5) -> str:
    """A list of names for one line."""
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")


def _page(run: Run, facts: dict[str, Any], sections: list[tuple[str, str]]) -> str:
    recipe = run.recipe
    settings = "".join(
        f"<tr><td>{html.escape(key)}</td><td>{html.escape(str(value))}</td></tr>"
        for key, value in recipe.to_dict().items()
    )
    start = "random weights" if recipe.weights == "none" else f"weights: {recipe.weights}"
    body = "".join(f"<h2>{title}</h2>{content}" for title, content in sections)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(recipe.name)}</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(recipe.name)}</h1><p class=note>{html.escape(recipe.about)}</p>"
        f"<p><b>{html.escape(headline(facts))}</b></p><p>{html.escape(recipe.arch)}, {html.escape(start)}; "
        f"{facts['epochs']} epochs in {facts['seconds']} s, the best was number {facts['best_epoch']}.</p>"
        f"{body}<h2>Settings</h2><table>{settings}</table></html>"
    )
