"""Pictures and labels: scan a folder or MNIST's IDX files, then split, before anything is augmented."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from facecam.errors import MediaError, UsageFault
from train.idx import read_idx
from train.layout import folders, parts_of, pictures
from train.picture import check_picture
from train.sittings import joined, session, without


@dataclass(frozen=True, slots=True)
class Item:
    """One picture: where it is, what it shows.

    Attributes:
        path: its file; for IDX data FILE#NUMBER.
        label: index into the classes.
        digest: SHA-256 of the content, hex.
        group: pictures of one class and one group never part ways in a split.
        pixels: RGB or grey uint8 where the picture is already decoded (IDX), else None.
        size: height and width in its file, pixels.
    """

    path: str
    label: int
    digest: str
    group: str
    pixels: np.ndarray | None = None
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Corpus:
    """A data set, split.

    Attributes:
        skipped: (path, reason) of every file that is not used.
        digest: hash of all contents, their labels and their split.
        background: other people's pictures; their labels go on after those of the classes.
    """

    root: str
    classes: tuple[str, ...]
    train: tuple[Item, ...]
    val: tuple[Item, ...]
    test: tuple[Item, ...]
    skipped: tuple[tuple[str, str], ...]
    digest: str
    background: tuple[Item, ...] = ()

    @property
    def outputs(self) -> int:
        """Logits that training needs: the classes, and the other people."""
        return max((item.label + 1 for item in self.background), default=len(self.classes))

    def counts(self, part: Sequence[Item]) -> list[int]:
        """Pictures per class, in the order of the classes."""
        found = Counter(item.label for item in part)
        return [found[label] for label in range(len(self.classes))]


def load(
    root: Path,
    *,
    val: float,
    test: float,
    seed: int,
    min_images: int = 2,
    people: dict[str, list[str]] | None = None,
) -> Corpus:
    """Read a data set and split it.

    A folder of classes is split by shares; ``train`` beside ``val`` or ``test`` (or another of `layout.PARTS`)
    keeps its own split, and what is missing is split off ``train``. IDX files (MNIST) have a train and a test part.

    Args:
        val, test: shares, 0 to 1, for parts that the data does not bring itself.
        min_images: classes with fewer pictures are left out (a class below 2 is an error).
        people: a split by class instead ("train", "calibrate", "test" -> class names): all pictures of
            a class go to one part. For embedders, which are judged on people they never saw.

    Raises:
        UsageFault: the folder is missing, or holds no usable classes, or a class has one picture.
    """
    if not root.is_dir():
        raise UsageFault(
            f"{root}: expected a folder of classes (DIR/CLASS/*.jpg) or MNIST IDX files; it is not a folder"
        )
    if idx := find_idx(root):
        return _split(root, *_scan_idx(idx), [], val=val, test=test, seed=seed)
    if parts := parts_of(root):
        classes = tuple(p.name for p in folders(parts["train"]))
        scanned, skipped = {}, []
        for name, folder in parts.items():
            scanned[name], missed = scan(folder, classes)
            skipped += missed
            for more in (p for p in folders(folder) if p.name not in classes):
                count = sum(1 for _ in pictures(more))
                skipped.append(
                    (str(more), f"no such class in {parts['train'].name}: its {count} picture(s) are not used")
                )
    else:
        classes, few = tuple(p.name for p in folders(root)), []
        if people:
            chosen = {name for names in people.values() for name in names}
            if absent := sorted(chosen - set(classes)):
                raise UsageFault(f"{root}: lacks {len(absent)} people of the split, the first is {absent[0]!r}")
            classes = tuple(sorted(chosen))
        elif min_images > 2:
            counts = {name: sum(1 for _ in pictures(root / name)) for name in classes}
            classes = tuple(name for name in classes if counts[name] >= min_images)
            few = [
                (str(root / name), f"{count} picture(s), fewer than min_images = {min_images}: the class is left out")
                for name, count in counts.items()
                if count < min_images
            ]
        found, skipped = scan(root, classes)
        skipped += few
        if people:
            return _by_people(root, classes, found, skipped, people)
        scanned = {"all": found}
    if len(classes) < 2:
        raise UsageFault(f"{root}: expected at least two folders of pictures, found {len(classes)}: {list(classes)}")
    known = Counter(item.label for items in scanned.values() for item in items)
    for label, name in enumerate(classes):
        if known[label] < 2:
            lost = [(path, reason) for path, reason in skipped if name in Path(path).relative_to(root).parts]
            left_out = f" ({len(lost)} left out, the first is {lost[0][0]}: {lost[0][1]})" if lost else ""
            raise UsageFault(
                f"{root}: class {name!r} has {known[label]} usable picture(s), at least 2 are needed{left_out}; "
                "add some or move the folder away"
            )
    hanging = iter(joined([item for items in scanned.values() for item in items]))
    scanned = {name: [next(hanging) for _ in items] for name, items in scanned.items()}
    return _split(root, classes, scanned, skipped, val=val, test=test, seed=seed)


def shared(part: Iterable[Item], other: Iterable[Item]) -> int:
    """How many classes two parts have in common: none, where an embedder is judged on people it never saw."""
    return len({item.label for item in part} & {item.label for item in other})


def scan(root: Path, classes: Sequence[str]) -> tuple[list[Item], list[tuple[str, str]]]:
    """List the usable pictures of ``root/CLASS``; damaged files and other files come back with a reason."""
    items, skipped = [], []
    for label, name in enumerate(classes):
        folder = root / name
        for path in sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else ():
            try:
                data = path.read_bytes()
                size = check_picture(path, data)
            except (OSError, MediaError) as error:
                skipped.append((str(path), str(error)))
                continue
            digest = hashlib.sha256(data).hexdigest()
            items.append(Item(str(path), label, digest, session(path) or digest, size=size))
    owners: dict[str, set[int]] = defaultdict(set)
    for item in items:
        owners[item.digest].add(item.label)
    for item in items:
        if len(owners[item.digest]) > 1:
            named = " and ".join(sorted(classes[label] for label in owners[item.digest]))
            skipped.append((item.path, f"the same picture stands in {named}"))
    return [item for item in items if len(owners[item.digest]) == 1], skipped


def find_idx(root: Path) -> dict[str, Path]:
    """MNIST's four files below a folder (plain or .gz), by their short names; {} where it has none."""
    found = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        for what, dims in (("images", 3), ("labels", 1)):
            hits = sorted(root.rglob(f"{prefix}-{what}-idx{dims}-ubyte*"))
            if hits:
                found[f"{part}-{what}"] = hits[0]
    return found if len(found) == 4 else {}


def _scan_idx(files: dict[str, Path]) -> tuple[tuple[str, ...], dict[str, list[Item]]]:
    scanned, top = {}, 0
    for part in ("train", "test"):
        images, labels = read_idx(files[f"{part}-images"]), read_idx(files[f"{part}-labels"])
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise UsageFault(f"{files[f'{part}-images']}: {images.shape} pictures and {labels.shape} labels do not fit")
        top = max(top, int(labels.max()))
        rows = [(i, hashlib.sha256(image.tobytes()).hexdigest()) for i, image in enumerate(images)]
        name = files[f"{part}-images"].name
        scanned[part] = [Item(f"{name}#{i}", int(labels[i]), d, d, images[i], images[i].shape) for i, d in rows]
    return tuple(str(label) for label in range(top + 1)), scanned


def _split(
    root: Path,
    classes: tuple[str, ...],
    scanned: dict[str, list[Item]],
    skipped: list[tuple[str, str]],
    *,
    val: float,
    test: float,
    seed: int,
) -> Corpus:
    parts = {"val": scanned.get("val", []), "test": scanned.get("test", [])}
    rest = scanned.get("all", scanned.get("train", []))
    for name, share in (("test", test), ("val", val)):
        if name not in scanned:
            # The second share is of what the first has left, so that both are shares of the whole.
            left = share if name == "test" or "test" in scanned else share / max(1e-9, 1 - test)
            rest, parts[name] = take(rest, left, seed)
    parts["val"], shown = without(parts["val"], parts["test"], "the test part: left out of validation")
    both = (*parts["val"], *parts["test"])
    rest, twins = without(rest, both, "the validation or test part: left out of training")
    skipped = skipped + shown + twins
    if missing := [classes[label] for label in range(len(classes)) if not any(i.label == label for i in rest)]:
        raise UsageFault(
            f"{root}: nothing left to train {missing[0]!r} on after the split; add pictures or lower val, test"
        )
    return corpus(root, classes, rest, parts["val"], parts["test"], skipped)


def take(items: Sequence[Item], share: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Split ``share`` of every class off, whole groups at a time; a class keeps at least one group."""
    rest, taken = [], []
    for label in sorted({item.label for item in items}):
        groups: dict[str, list[Item]] = defaultdict(list)
        for item in items:
            if item.label == label:
                groups[item.group].append(item)
        total = sum(len(group) for group in groups.values())
        order = sorted(groups, key=lambda g: hashlib.sha256(f"{seed}:{g}".encode()).digest())
        count = 0
        for n, name in enumerate(order):
            group = groups[name]
            room = count + len(group) / 2 <= share * total and n < len(order) - 1
            (taken if room else rest).extend(group)
            count += len(group) * room
    return rest, taken


def _by_people(
    root: Path,
    classes: tuple[str, ...],
    items: list[Item],
    skipped: list[tuple[str, str]],
    people: dict[str, list[str]],
) -> Corpus:
    part_of = {name: part for part, names in people.items() for name in names}
    if len(part_of) != sum(len(names) for names in people.values()):
        raise UsageFault("the split names a person in two parts")
    parts: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        parts[part_of[classes[item.label]]].append(item)
    return corpus(root, classes, parts["train"], parts["calibrate"], parts["test"], skipped)


def with_background(known: Corpus, folder: Path) -> Corpus:
    """Add other people's pictures (``folder/PERSON/*``) as classes that exist in training only.

    People and pictures that the data set has itself are left out.

    Raises:
        UsageFault: the folder is missing, or gives nobody.
    """
    if not folder.is_dir():
        raise UsageFault(f"--others {folder}: expected a folder with a folder for each other person; there is none")
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name not in known.classes)
    items, skipped = scan(folder, names)
    own = {item.digest for item in (*known.train, *known.val, *known.test)}
    items = [item for item in items if item.digest not in own]
    if not items:
        raise UsageFault(f"--others {folder}: no picture of anybody else; expected {folder}/PERSON/*.jpg")
    first = len(known.classes)
    numbers = {label: first + n for n, label in enumerate(sorted({item.label for item in items}))}
    background = tuple(replace(item, label=numbers[item.label]) for item in items)
    facts = known.digest + "".join(sorted(f"{item.label}:{item.digest}" for item in background))
    digest = hashlib.sha256(facts.encode()).hexdigest()
    return replace(known, background=background, digest=digest, skipped=known.skipped + tuple(skipped))


def corpus(
    root: Path,
    classes: tuple[str, ...],
    train: Iterable[Item],
    val: Iterable[Item],
    test: Iterable[Item],
    skipped: Iterable[tuple[str, str]],
) -> Corpus:
    """Put a corpus together and name its contents by a hash."""
    parts = {"train": tuple(train), "val": tuple(val), "test": tuple(test)}
    facts = {name: sorted((classes[i.label], i.digest) for i in part) for name, part in parts.items()}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return Corpus(str(root), classes, **parts, skipped=tuple(skipped), digest=digest)
