"""What a training picture goes through (torchvision.transforms.v2); a validation picture does not."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from facecam.errors import OutputError, UsageFault
from train.data import Item
from train.picture import decode, square

PRESETS = {
    "none": "the picture as it is",
    "light": "small shifts, turns and scales; nothing is mirrored (digits stay digits)",
    "standard": "random crops, mirroring, turns, mild colour changes, a little erased",
    "strong": "larger crops, affine and perspective, strong colour, blur, JPEG, low light, erasing",
    "face": "aligned faces: mirroring, small misalignments, light, blur, JPEG, low light, occlusion",
}


class LowLight(v2.Transform):
    """A camera in the dark: a darker curve, then sensor noise.

    Args:
        gamma: range of the exponent (above 1 is darker). noise: largest deviation, of 0 to 255.
    """

    def __init__(self, gamma: tuple[float, float], noise: float) -> None:
        super().__init__()
        self.gamma, self.noise = gamma, noise

    def forward(self, image: Tensor) -> Tensor:
        gamma = float(torch.empty(1).uniform_(*self.gamma))
        noise = torch.randn(image.shape) * float(torch.rand(1)) * self.noise
        dark = (image.float() / 255).pow(gamma) * 255
        return (dark + noise).clamp(0, 255).to(torch.uint8)


class Jpeg(v2.Transform):
    """Compression, as cameras and messengers do it (v2.JPEG needs torchvision's compiled part).

    Args:
        low, high: range of the quality, 1 to 100.
    """

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, image: Tensor) -> Tensor:
        import cv2

        quality = int(torch.randint(self.low, self.high + 1, (1,)))
        array = np.ascontiguousarray(image.permute(1, 2, 0).numpy()[:, :, ::-1])
        _, data = cv2.imencode(".jpg", array, [cv2.IMWRITE_JPEG_QUALITY, quality])
        back = cv2.imdecode(data, cv2.IMREAD_COLOR)
        return torch.from_numpy(np.ascontiguousarray(back[:, :, ::-1])).permute(2, 0, 1)


class Shrink(v2.Transform):
    """A face far away: down to a share of the size, and up again.

    Args:
        low: smallest share, 0 to 1.
    """

    def __init__(self, low: float) -> None:
        super().__init__()
        self.low = low

    def forward(self, image: Tensor) -> Tensor:
        side = image.shape[-1]
        small = max(8, int(side * float(torch.empty(1).uniform_(self.low, 1.0))))
        down = v2.functional.resize(image, [small, small], antialias=True)
        return v2.functional.resize(down, [side, side], antialias=True)


def train_transform(preset: str, size: int) -> v2.Transform:
    """The preset as a transform of one uint8 tensor, 3 x L x L -> 3 x size x size, L = `load_size`."""
    maybe = lambda transform, p: v2.RandomApply([transform], p=p)  # noqa: E731  (a table reads better)
    steps: dict[str, list[v2.Transform]] = {
        "none": [],
        "light": [v2.RandomAffine(10, translate=(0.08, 0.08), scale=(0.9, 1.1), shear=5)],
        "standard": [
            v2.RandomResizedCrop(size, scale=(0.45, 1.0), ratio=(0.8, 1.25), antialias=True),
            v2.RandomHorizontalFlip(),
            maybe(v2.RandomRotation(15), 0.5),
            maybe(v2.ColorJitter(0.3, 0.3, 0.3, 0.03), 0.8),
            v2.RandomErasing(p=0.25, scale=(0.02, 0.15)),
        ],
        "strong": [
            v2.RandomResizedCrop(size, scale=(0.35, 1.0), ratio=(0.75, 1.33), antialias=True),
            v2.RandomHorizontalFlip(),
            maybe(v2.RandomAffine(20, translate=(0.1, 0.1), scale=(0.85, 1.15), shear=8), 0.4),
            v2.RandomPerspective(0.3, p=0.3),
            maybe(v2.ColorJitter(0.4, 0.4, 0.4, 0.06), 0.8),
            v2.RandomGrayscale(0.1),
            maybe(v2.GaussianBlur(5, (0.2, 1.5)), 0.2),
            maybe(Jpeg(25, 90), 0.3),
            maybe(LowLight((1.0, 2.2), 12), 0.2),
            v2.RandomErasing(p=0.4, scale=(0.02, 0.25)),
        ],
        "face": [
            v2.RandomHorizontalFlip(),
            maybe(v2.RandomAffine(6, translate=(0.03, 0.03), scale=(0.94, 1.06)), 0.6),
            maybe(v2.RandomPerspective(0.12, p=1.0), 0.15),
            maybe(v2.ColorJitter(0.3, 0.3, 0.25, 0.02), 0.7),
            v2.RandomGrayscale(0.08),
            maybe(Shrink(0.25), 0.25),
            maybe(v2.GaussianBlur(7, (0.3, 2.0)), 0.15),
            maybe(Jpeg(25, 90), 0.25),
            maybe(LowLight((1.0, 2.5), 12), 0.2),
            v2.RandomErasing(p=0.2, scale=(0.02, 0.15)),
        ],
    }
    if preset not in steps:
        raise UsageFault(f"--augment is one of {', '.join(PRESETS)}, not {preset!r}")
    return v2.Compose([*steps[preset], v2.Identity()])


def load_size(preset: str, size: int) -> int:
    """Side at which pictures are kept for a preset: a margin for those that crop."""
    return size * 8 // 7 if preset in ("standard", "strong") else size


class Pictures(torch.utils.data.Dataset):
    """Items as (uint8 tensor 3 x S x S, label, position).

    What happens to a picture follows from seed, epoch and content, not from the order or the process in which
    pictures are drawn: a resumed run sees what an uninterrupted one would have seen. Decoded pictures are kept
    where all of them fit into memory.

    Args:
        preset: augmentation; "none" for validation.
        keep: bytes that decoded pictures may take.
    """

    def __init__(self, items: tuple[Item, ...], size: int, preset: str, seed: int, keep: int = 1 << 30) -> None:
        self.items, self.size, self.preset, self.seed, self.epoch = items, size, preset, seed, 0
        self.labels = [item.label for item in items]
        self.side = load_size(preset, size)
        self.transform = train_transform(preset, size)
        self.kept: np.ndarray | None = None
        if len(items) * self.side**2 * 3 <= keep:
            self.kept = np.empty((len(items), self.side, self.side, 3), np.uint8)
            for i, item in enumerate(items):
                self.kept[i] = self.picture(item)

    def picture(self, item: Item) -> np.ndarray:
        """RGB uint8, before augmentation."""
        return square(item.pixels if item.pixels is not None else decode(Path(item.path).read_bytes()), self.side)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        item = self.items[index]
        array = self.kept[index] if self.kept is not None else self.picture(item)
        image = torch.from_numpy(array).permute(2, 0, 1)
        if self.preset != "none":
            before = torch.get_rng_state()
            # Not torch.manual_seed: that queues a seed for every device that is not awake, with a stack trace.
            torch.default_generator.manual_seed(picture_seed(self.seed, self.epoch, item.digest))
            image = self.transform(image)
            torch.set_rng_state(before)
        return image.contiguous(), item.label, index


def picture_seed(seed: int, epoch: int, key: str | int) -> int:
    """One number per picture (its content's hash, or another key) and epoch."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{epoch}:{key}".encode()).digest()[:7], "big")


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 N x 3 x H x W -> float32, (pixel - mean) / std with values on the scale 0 to 255."""
    shift = torch.tensor(mean, device=images.device).view(1, 3, 1, 1)
    scale = torch.tensor(std, device=images.device).view(1, 3, 1, 1)
    return (images.float() - shift) / scale


def blend(
    images: Tensor, targets: Tensor, mixup: float, cutmix: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mixup (Zhang et al. 2018) or CutMix (Yun et al. 2019), drawn per batch.

    Args:
        images: float32 N x 3 x H x W. targets: float32 N x C, one-hot.
        mixup, cutmix: Beta parameters; 0 leaves one out. With both, each gets half of the batches.

    Returns:
        The blended pictures and targets, same shapes.
    """
    kinds = [kind for kind, alpha in (("mixup", mixup), ("cutmix", cutmix)) if alpha > 0]
    if not kinds:
        return images, targets
    kind = kinds[int(torch.randint(len(kinds), (1,), generator=generator))]
    alpha = mixup if kind == "mixup" else cutmix
    rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
    share = float(rng.beta(alpha, alpha))
    partner = torch.from_numpy(rng.permutation(len(images))).to(images.device)
    if kind == "mixup":
        images = share * images + (1 - share) * images[partner]
    else:
        height, width = images.shape[-2:]
        cut_h, cut_w = round(height * (1 - share) ** 0.5), round(width * (1 - share) ** 0.5)
        top, left = int(rng.integers(height - cut_h + 1)), int(rng.integers(width - cut_w + 1))
        images = images.clone()
        window = (..., slice(top, top + cut_h), slice(left, left + cut_w))
        images[window] = images[partner][window]
        share = 1 - cut_h * cut_w / (height * width)
    return images, share * targets + (1 - share) * targets[partner]


def sheet(items: tuple[Item, ...], size: int, preset: str, seed: int, rows: int = 8, columns: int = 9) -> bytes:
    """A contact sheet as PNG: a picture a row, first as validation sees it, then as training does."""
    import cv2

    step = max(1, len(items) // rows)
    chosen = items[::step][:rows]
    plain, changed = (Pictures(chosen, size, p, seed) for p in ("none", preset))
    lines = []
    for row in range(len(chosen)):
        cells = [plain[row][0]]
        for epoch in range(columns - 1):
            changed.epoch = epoch
            cells.append(changed[row][0])
        lines.append(torch.cat([torch.nn.functional.pad(c, (2, 2, 2, 2), value=255) for c in cells], dim=2))
    image = torch.cat(lines, dim=1).permute(1, 2, 0).numpy()[:, :, ::-1]
    done, data = cv2.imencode(".png", np.ascontiguousarray(image))
    if not done:
        raise OutputError("the contact sheet could not be encoded as PNG")
    return io.BytesIO(data.tobytes()).getvalue()


def write_sheet(path: Path, data: bytes) -> None:
    """Write the sheet; raises OutputError where the folder cannot be written."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from error
