"""Networks: mlp, cnn, torchvision's and timm's backbones, dlib's face network; one shape for the trainer.

A `Network` is a backbone (pictures -> features) and a head (features -> logits, or nothing for an embedder).
Its stages, bottom to top, are what transfer learning freezes and thaws.
"""

from __future__ import annotations

import urllib.error
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from facecam.errors import ModelMissing, UsageFault
from facecam.zoo import dlib
from train import dlibnet
from train.crowding import Crowding
from train.recipe import Recipe
from train.weights import load_backbone, read_weights

Three = tuple[float, float, float]
IMAGENET_MEAN: Three = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD: Three = (0.229 * 255, 0.224 * 255, 0.225 * 255)

TORCHVISION = (
    "resnet18", "resnet50", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn", "inception_v3",
    "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0",
)  # fmt: skip
#: Names that people use, and timm's.
TIMM_ALIASES = {"xception": "legacy_xception"}
#: Side of the input that a network was made for; recipes may ask for another.
NATIVE_SIZE = {"inception_v3": 299, "xception": 299, "dlib_resnet": dlibnet.SIZE}


class Network(nn.Module):
    """Backbone and head.

    Attributes:
        dim: features that the backbone gives.
        mean, std: preprocessing, per RGB channel, on the scale 0 to 255.
        metric: an embedder: the output is the features, L2-normalised.
        unit: length that features are brought to before the head, 0 leaves them; a face is a direction.
        mirror: features are the mean of the picture's and its mirror image's.
        crowding: an embedder's last layer, once it is trained, or None.
        aux: extra logits of inception's auxiliary head, in training only.
    """

    def __init__(
        self,
        backbone: nn.Module,
        stages: list[tuple[str, list[nn.Module]]],
        dim: int,
        *,
        classes: int,
        dropout: float,
        mean: Three,
        std: Three,
        metric: bool,
        unit: float = 0.0,
        mirror: bool = False,
    ) -> None:
        super().__init__()
        self.unit, self.mirror = unit, mirror
        self.crowding: Crowding | None = None
        self.backbone, self.dim, self.mean, self.std, self.metric = backbone, dim, mean, std, metric
        self._stages = stages
        self.head = nn.Identity() if metric else nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, classes))
        self.aux: Tensor | None = None

    def features(self, x: Tensor) -> Tensor:
        """Normalised pictures N x 3 x S x S -> N x dim."""
        if not self.mirror:
            found = self._plain(x)
        else:
            # One pass over both, not two: an exported graph would hold the network twice.
            found = self._plain(torch.cat([x, x.flip(3)])).unflatten(0, (2, -1)).sum(0)
        return F.normalize(found, dim=1) * self.unit if self.unit else found

    def _plain(self, x: Tensor) -> Tensor:
        """Features of each picture by itself."""
        found = self.backbone(x)
        self.aux = None
        if isinstance(found, tuple):  # torchvision's InceptionOutputs: only while its batch norm trains
            found, self.aux = found
        found = torch.flatten(found, 1)
        return F.normalize(found, dim=1) if self.unit else found

    def forward(self, x: Tensor) -> Tensor:
        """Logits N x C, or unit vectors N x width."""
        found = self.features(x)
        return self.finish(F.normalize(found, dim=1)) if self.metric else self.head(found)

    def finish(self, vectors: Tensor) -> Tensor:
        """An embedder's unit vectors as they leave it."""
        return vectors if self.crowding is None else self.crowding(vectors)

    @property
    def width(self) -> int:
        """Length of an embedder's vectors."""
        return self.dim + (self.crowding is not None)

    def lower(self, stages: int) -> Callable[[Tensor], Tensor]:
        """The bottom stages alone, as a function (dlib_resnet)."""
        return lambda x: self.backbone.lower(x, stages)

    def upper(self, stages: int) -> Callable[[Tensor], Tensor]:
        """The rest, head included, of what `lower` has made: each picture by itself, an embedder without `finish`."""

        def rest(x: Tensor) -> Tensor:
            found = F.normalize(self.backbone.upper(x, stages), dim=1)
            return found if self.metric else self.head(found * self.unit)

        return rest

    def stages(self) -> list[tuple[str, list[nn.Module]]]:
        """(name, modules) of the backbone's stages, bottom to top; together they hold all its parameters."""
        return self._stages


class Mlp(nn.Sequential):
    """Flatten, then ``depth`` hidden layers: linear, batch norm, relu, dropout."""

    def __init__(self, inputs: int, width: int, depth: int, dropout: float) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for _ in range(depth):
            layers += [
                nn.Linear(inputs, width, bias=False),
                nn.BatchNorm1d(width),
                nn.ReLU(),
                nn.Dropout(dropout),
            ]
            inputs = width
        super().__init__(*layers)


class Cnn(nn.Sequential):
    """``depth`` stages of conv, batch norm, relu (twice past the first), pool; widths double up to 8 x width.

    Then the mean of each map; the head adds dropout and the fully connected layer.
    """

    def __init__(self, channels: int, width: int, depth: int) -> None:
        stages = []
        for stage in range(depth):
            layers: list[nn.Module] = []
            for _ in range(1 if stage == 0 else 2):
                layers += [
                    nn.Conv2d(channels, width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                ]
                channels = width
            stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
            width = min(2 * width, 8 * stages[0][0].out_channels)
        self.dim = channels
        super().__init__(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Grey(nn.Module):
    """RGB -> brightness: N x 3 x H x W -> N x 1 x H x W, the mean of the channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=1, keepdim=True)


def build(recipe: Recipe, classes: int) -> Network:
    """Make the network that a recipe asks for, with its starting weights.

    Raises:
        UsageFault: no such network, or a size that it cannot take.
        ModelMissing: weights that cannot be had. ModelInvalid: weights that do not fit.
    """
    arch, weights = recipe.arch, recipe.weights
    if weights == "dlib" and arch != "dlib_resnet":
        raise UsageFault(f"--weights dlib belong to --arch dlib_resnet, not to {arch}")
    if weights == "imagenet" and arch in ("mlp", "cnn", "dlib_resnet"):
        raise UsageFault(f"there are no imagenet weights for {arch}; use --weights none or a file")
    mean, std = (127.5,) * 3, (64.0,) * 3
    if arch == "mlp":
        channels = 1 if recipe.grey else 3
        backbone: nn.Module = Mlp(channels * recipe.size**2, recipe.width, recipe.depth, recipe.dropout)
        dim, stages = recipe.width, [("mlp", [backbone])]
    elif arch == "cnn":
        if recipe.size >> recipe.depth < 1:
            raise UsageFault(
                f"a cnn of depth {recipe.depth} needs pictures of {1 << recipe.depth} px, not {recipe.size}"
            )
        cnn = Cnn(1 if recipe.grey else 3, recipe.width, recipe.depth)
        backbone, dim = cnn, cnn.dim
        stages = [(f"stage{i}", [cnn[i]]) for i in range(recipe.depth)]
    elif arch == "dlib_resnet":
        net = dlibnet.DlibResNet()
        if weights == "dlib":
            net.load_dlib(dlib.weights_path("embedder").read_bytes())
        backbone, dim, mean, std = net, 128, dlibnet.MEAN, dlibnet.STD
        stages = [("stem", [net.stem])]
        stages += [(f"block{i}", [block]) for i, block in enumerate(net.blocks)]
        stages += [("fc", [net.fc])]
    elif arch in TORCHVISION:
        backbone, dim, stages = _torchvision(arch, weights, classes, recipe.size)
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    else:
        backbone, dim, stages, mean, std = _timm(arch, weights)
    if recipe.grey:
        backbone = nn.Sequential(Grey(), backbone)
    network = Network(
        backbone,
        stages,
        dim,
        classes=classes,
        dropout=recipe.dropout,
        mean=mean,
        std=std,
        metric=recipe.metric,
        unit=10.0 if arch == "dlib_resnet" else 0.0,
        mirror=recipe.mirror,
    )
    if weights not in ("none", "imagenet", "dlib") and (arch in ("mlp", "cnn", "dlib_resnet")):
        load_backbone(backbone, read_weights(Path(weights)), weights)
    return network


def _torchvision(
    arch: str, weights: str, classes: int, size: int
) -> tuple[nn.Module, int, list[tuple[str, list[nn.Module]]]]:
    # Inception's auxiliary head needs maps of 17 x 17, which pictures of 299 px give.
    extra = {"init_weights": True, "aux_logits": size >= 299} if arch == "inception_v3" else {}
    net = models.get_model(arch, weights=None, **extra)
    if weights == "imagenet":
        origin = models.get_model_weights(arch).DEFAULT
        try:
            state = origin.get_state_dict(progress=True, check_hash=True)
        except (urllib.error.URLError, TimeoutError, OSError) as error:
            place = Path(torch.hub.get_dir()) / "checkpoints" / origin.url.rsplit("/", 1)[1]
            raise ModelMissing(
                f"the imagenet weights of {arch} could not be downloaded ({error}); get {origin.url} elsewhere and "
                f"put it at {place}, or use --weights FILE or --weights none"
            ) from error
        load_backbone(net, state, origin.url)
    elif weights != "none":
        load_backbone(net, read_weights(Path(weights)), weights)
    if arch.startswith("vgg"):
        # The course's VGG: the three fully connected layers (124 of 138 million weights) give way to a mean.
        net.avgpool, net.classifier, dim = nn.AdaptiveAvgPool2d(1), nn.Identity(), 512
    elif hasattr(net, "classifier"):
        dim = next(m for m in net.classifier if isinstance(m, nn.Linear)).in_features
        net.classifier = nn.Identity()
    else:
        dim, net.fc = net.fc.in_features, nn.Identity()
    if arch == "inception_v3":
        net.transform_input = False  # our own preprocessing stands in the card
        net.dropout = nn.Identity()  # the head has its own
        if net.aux_logits:
            net.AuxLogits.fc = nn.Linear(net.AuxLogits.fc.in_features, classes)
    if arch.startswith("resnet"):
        stages = [("stem", [net.conv1, net.bn1])] + [(f"layer{i}", [getattr(net, f"layer{i}")]) for i in range(1, 5)]
    else:
        stages = _children(net.features if hasattr(net, "features") else net)
    return net, dim, stages


def _timm(arch: str, weights: str) -> tuple[nn.Module, int, list[tuple[str, list[nn.Module]]], Three, Three]:
    import timm

    name = TIMM_ALIASES.get(arch, arch)
    if not timm.is_model(name):
        known = ", ".join(("mlp", "cnn", "dlib_resnet", *TORCHVISION, "xception"))
        raise UsageFault(f"no network {arch!r}; there are {known}, and every name of timm.list_models()")
    try:
        net = timm.create_model(name, pretrained=weights == "imagenet", num_classes=0)
    except Exception as error:
        # timm reaches the hub through several libraries, each with errors of its own.
        if weights != "imagenet":
            raise
        raise ModelMissing(
            f"the imagenet weights of {arch} could not be downloaded ({type(error).__name__}); get them elsewhere "
            f"(see timm's page on {name}) and use --weights FILE, or --weights none"
        ) from error
    if weights not in ("imagenet", "none"):
        load_backbone(net, read_weights(Path(weights)), weights)
    config = net.pretrained_cfg
    mean = tuple(255.0 * m for m in config.get("mean", (0.5,) * 3))
    std = tuple(255.0 * s for s in config.get("std", (0.5,) * 3))
    # Some end in a layer that widens the features (mobilenetv3): `num_features` is what goes in there.
    return net, getattr(net, "head_hidden_size", None) or net.num_features, _children(net), mean, std


def try_size(network: Network, recipe: Recipe) -> None:
    """Show the network one empty picture.

    Raises:
        UsageFault: it cannot take pictures of the recipe's size.
    """
    place, training = next(network.parameters()).device, network.training
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 3, recipe.size, recipe.size, device=place))
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        # Maps that shrink to nothing, sizes that are fixed: each network complains in its own way.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UsageFault(
            f"size {recipe.size} does not suit {recipe.arch} ({reason}); give another, such as --size 224"
        ) from error
    finally:
        network.train(training)


def _children(module: nn.Module) -> list[tuple[str, list[nn.Module]]]:
    """A stage for each child that has parameters; those of the module itself (class tokens) go with the bottom one."""
    stages = [(name, [child]) for name, child in module.named_children() if any(True for _ in child.parameters())]
    if own := list(module.parameters(recurse=False)):
        stages[0][1].append(nn.ParameterList(own))
    return stages
