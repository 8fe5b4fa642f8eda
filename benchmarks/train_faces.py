"""Faces by name: the folders that docs/training.md works with, and the baselines beside the recipe faces-transfer.

python -m benchmarks.train_faces folders CROPS OUT    CROPS comes from: facecam crop LFW_DEV/images CROPS
python -m benchmarks.train_faces baseline OUT/known   PCA + SVM on the same split (scikit-learn's eigenfaces)
python -m benchmarks.train_faces photos LFW_DEV/images OUT
                                                      the test pictures and 200 strangers as whole photos, to name with:
                                                      facecam label --model NAME OUT/photos --no-video -o LABELLED
python -m benchmarks.train_faces score LABELLED/photos.sightings.jsonl
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

#: People with at least this many photos are those that the classifier knows.
KNOWN = 20
#: Shares of the other people: shown in training, used for the threshold, and kept for the test.
SHARES = (0.4, 0.6)
STRANGERS = 200


def folders(crops: Path, out: Path) -> None:
    """Links, not copies: known/NAME, and others/{background,calibrate,test}/NAME, by person."""
    counts = {p: sum(1 for _ in p.iterdir()) for p in sorted(crops.iterdir()) if p.is_dir()}
    known = [p for p, count in counts.items() if count >= KNOWN]
    others = [p for p in counts if p not in known]
    order = [others[i] for i in np.random.default_rng(1).permutation(len(others))]
    first, second = (round(share * len(order)) for share in SHARES)
    plan = {
        "known": known,
        "others/background": order[:first],
        "others/calibrate": order[first:second],
        "others/test": order[second:],
    }
    for name, people in plan.items():
        for person in people:
            link = out / name / person.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                os.symlink(person.resolve(), link)
        print(f"{name}: {len(people)} people, {sum(counts[p] for p in people)} crops")


def baseline(known: Path) -> None:
    """Eigenfaces: 150 principal components of grey crops, whitened, and an RBF SVM chosen by cross-validation."""
    from sklearn.decomposition import PCA
    from sklearn.metrics import accuracy_score
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVC

    from train import data, picture, recipe

    made = recipe.load("faces-transfer")
    corpus = data.load(known, val=made.val, test=made.test, seed=made.seed)

    def table(items: tuple[data.Item, ...]) -> tuple[np.ndarray, list[int]]:
        images = [picture.square(picture.decode(Path(i.path).read_bytes()), 50).mean(axis=2) for i in items]
        return np.array(images, np.float32).reshape(len(items), -1) / 255, [i.label for i in items]

    began = time.perf_counter()
    model = GridSearchCV(
        make_pipeline(PCA(150, whiten=True, random_state=1), SVC(class_weight="balanced")),
        {"svc__C": [1, 10, 100], "svc__gamma": [5e-4, 1e-3, 5e-3]},
        cv=3,
    )
    model.fit(*table(corpus.train + corpus.val))
    rows, labels = table(corpus.test)
    accuracy = accuracy_score(labels, model.predict(rows))
    print(f"PCA + SVM: accuracy {accuracy:.4f} on {len(labels)} crops, {time.perf_counter() - began:.0f} s")


def photos(images: Path, out: Path) -> None:
    """Links to the whole photos that the command is to name: photos/known/NAME_0001.jpg, photos/strangers/..."""
    from train import data, recipe

    made = recipe.load("faces-transfer")
    corpus = data.load(out / "known", val=made.val, test=made.test, seed=made.seed)
    strangers = [sorted(p.iterdir())[0] for p in sorted((out / "others" / "test").iterdir())][:STRANGERS]
    for group, crops in (("known", [Path(item.path) for item in corpus.test]), ("strangers", strangers)):
        (out / "photos" / group).mkdir(parents=True, exist_ok=True)
        for crop in crops:
            photo = images / crop.parent.name / crop.name.removesuffix(".png")
            link = out / "photos" / group / photo.name
            if not link.exists():
                os.symlink(photo.resolve(), link)
        print(f"photos/{group}: {len(crops)}")


def score(sightings: Path) -> None:
    """What `facecam label` wrote about those photos.

    Of a known person's photo the face nearest the middle counts; of a stranger's, every face in it does: any
    name is a false one, even where somebody known stands in the background.
    """
    right = wrong = known = 0
    strangers: list[tuple[str, list[str]]] = []
    for line in sightings.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["type"] != "photo":
            continue
        path = Path(row["source"])
        if path.parent.name == "strangers":
            strangers.append((path.stem, [face["name"] for face in row["faces"] if face["name"]]))
            continue
        known += 1
        middle = np.array([row["width"], row["height"]]) / 2
        faces = sorted(
            row["faces"], key=lambda f: np.hypot(*(np.array(f["box"][:2]) + np.array(f["box"][2:]) / 2 - middle))
        )
        name = faces[0]["name"] if faces else None
        right += name == path.stem[:-5]
        wrong += name not in (None, path.stem[:-5])
    named = [entry for entry in strangers if entry[1]]
    print(f"known: {right} of {known} photos named rightly ({right / known:.2%}), {wrong} wrongly")
    print(f"strangers: {len(named)} of {len(strangers)} named ({len(named) / len(strangers):.2%}) {json.dumps(named)}")


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    {"folders": folders, "baseline": baseline, "photos": photos, "score": score}[task](*map(Path, arguments))
