"""What a smaller precision costs and brings: accuracy and time before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from export import cards, parity
from facecam.zoo.session import Model
from train import data, openset
from train.evaluate import Run


def before_after(run: Run, before: bytes, after: bytes, items: Sequence[data.Item], some: np.ndarray) -> Iterator[str]:
    """Lines that compare two files of one network.

    Args:
        items: labelled pictures to judge on; may be empty. some: preprocessed pictures for the timing.
    """
    models = [parity.open_model(content) for content in (before, after)]
    yield f"size: {len(before) / 1e6:.2f} MB before, {len(after) / 1e6:.2f} MB after"
    for batch in (1, 8):
        times = [parity.milliseconds(model, some, batch) for model in models]
        yield f"time for a picture, batch of {batch}: {times[0]:.2f} ms before, {times[1]:.2f} ms after"
    if items:
        old, new = (_outputs(model, run, items) for model in models)
        cosine = (old * new).sum(axis=1) / (np.linalg.norm(old, axis=1) * np.linalg.norm(new, axis=1)).clip(1e-12)
        yield f"mean cosine of the outputs on {len(items)} pictures: {cosine.mean():.5f}"
        labels = np.array([item.label for item in items])
        if run.recipe.metric:
            first, second = (openset.evaluate(v, items, seed=run.recipe.seed) for v in (old, new))
            for key, what in (("dir_1", "DIR at FPIR 1 %"), ("verification", "verification accuracy")):
                yield f"{what}: {first[key]:.4f} before, {second[key]:.4f} after"
        else:
            rates = [float((rows.argmax(axis=1) == labels).mean()) for rows in (old, new)]
            yield f"accuracy: {rates[0]:.4f} before, {rates[1]:.4f} after"


def _outputs(model: Model, run: Run, items: Sequence[data.Item]) -> np.ndarray:
    return np.concatenate([model.run_batch(cards.preprocess(run, items[i : i + 32])) for i in range(0, len(items), 32)])
