"""Networks: shapes, weights and where they come from, stages, the summary's formula, parity with dlib's ONNX."""

from __future__ import annotations

import urllib.error
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

import torch
from torch import nn

from facecam.errors import ModelInvalid, ModelMissing, UsageFault
from facecam.zoo import dlib, session
from facecam.zoo.card import TEMPLATES
from train import dlibnet, losses, networks, recipe, summary, transfer, weights
from train.recipe import Recipe

SMALL = {
    "resnet18": 32, "vgg16": 32, "vgg19_bn": 32, "mobilenet_v3_small": 32, "efficientnet_b0": 32,
    "inception_v3": 107, "xception": 48, "mlp": 16, "cnn": 16, "dlib_resnet": 150, "regnetx_002": 32,
}  # fmt: skip


@pytest.mark.parametrize("arch", SMALL)
def test_every_network_gives_logits_and_has_all_its_parameters_in_stages(arch: str) -> None:
    network = networks.build(Recipe(arch=arch, size=SMALL[arch], width=8), 5).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, SMALL[arch], SMALL[arch])).shape == (2, 5)
    staged = {id(p) for _, modules in network.stages() for m in modules for p in m.parameters()}
    assert staged == {id(p) for p in network.backbone.parameters()}
    assert len(transfer.parameter_groups(network, network.head, Recipe(arch=arch, weights="x"))) >= 3


@pytest.mark.parametrize(
    ("arch", "size"), [("mobilenetv3_small_050", 64), ("ghostnet_050", 64), ("test_vit", 160), ("levit_128s", 224)]
)
def test_timms_networks_of_other_shapes_fit_too(arch: str, size: int) -> None:
    network = networks.build(Recipe(arch=arch, size=size), 3).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, size, size)).shape == (1, 3)
    staged = [id(p) for _, modules in network.stages() for m in modules for p in m.parameters()]
    assert sorted(staged) == sorted(id(p) for p in network.backbone.parameters())
    # What stands beside the layers (class tokens, places) belongs to the bottom: frozen until the very end.
    transfer.apply(network.train(), len(network.stages()) - 1)
    loose = list(network.backbone.parameters(recurse=False))
    assert not any(p.requires_grad for p in loose) and bool(loose) == (arch == "test_vit")
    assert len(transfer.parameter_groups(network, network.head, Recipe(arch=arch, weights="x"))) >= 3


@pytest.mark.parametrize(("arch", "size"), [("inception_v3", 64), ("vit_tiny_patch16_224", 96)])
def test_a_size_that_a_network_cannot_take_is_a_usage_error(arch: str, size: int) -> None:
    made = Recipe(arch=arch, size=size)
    with pytest.raises(UsageFault, match=f"size {size} does not suit {arch}") as caught:
        networks.try_size(networks.build(made, 2), made)
    assert "\n" not in str(caught.value)
    made = made.with_changes(size=224)
    networks.try_size(networks.build(made, 2), made)


def test_inception_trains_with_its_auxiliary_head() -> None:
    network = networks.build(Recipe(arch="inception_v3", size=299), 4).train()
    logits = network(torch.randn(2, 3, 299, 299))
    assert network.aux is not None and network.aux.shape == logits.shape == (2, 4)
    network.eval()
    network(torch.randn(1, 3, 299, 299))
    assert network.aux is None
    small = networks.build(Recipe(arch="inception_v3", size=107), 4).train()
    small(torch.randn(2, 3, 107, 107))
    assert small.aux is None  # too small for it: trained without


def test_discriminative_rates_fall_towards_the_bottom() -> None:
    made = Recipe(arch="resnet18", weights="x", lr=1.0, backbone_lr=0.1, stage_decay=0.5)
    network = networks.build(made.with_changes(weights="none"), 2)
    rates = {group["name"]: group["rate"] for group in transfer.parameter_groups(network, network.head, made)}
    assert rates == pytest.approx(
        {"head": 1.0, "layer4": 0.1, "layer3": 0.05, "layer2": 0.025, "layer1": 0.0125, "stem": 0.00625}
    )


def test_frozen_batch_norm_stands_still() -> None:
    network = networks.build(Recipe(arch="resnet18"), 2).train()
    transfer.apply(network, 1)
    before = {name: value.clone() for name, value in network.state_dict().items() if "running" in name}
    network(torch.randn(4, 3, 32, 32))
    moved = {name for name, value in network.state_dict().items() if name in before and (value != before[name]).any()}
    assert moved and all("layer4" in name for name in moved)
    assert not network.backbone.layer3[0].conv1.weight.requires_grad
    assert network.backbone.layer4[0].conv1.weight.requires_grad


# --- weights -------------------------------------------------------------------------------------------------------


def torchvision_file(path: Path, arch: str = "resnet18") -> Path:
    from torchvision import models

    torch.manual_seed(7)
    torch.save(models.get_model(arch, weights=None).state_dict(), path)
    return path


def test_weights_come_from_a_file(tmp_path: Path) -> None:
    path = torchvision_file(tmp_path / "resnet18.pth")
    network = networks.build(Recipe(arch="resnet18", weights=str(path)), 3)
    stored = torch.load(path, weights_only=True)
    assert torch.equal(network.backbone.layer3[1].conv2.weight, stored["layer3.1.conv2.weight"])
    assert network.head[1].weight.shape == (3, 512)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = torchvision_file(tmp_path / "resnet18.pth")
    with pytest.raises(ModelInvalid, match=r"does not fit this network: .* check --arch"):
        networks.build(Recipe(arch="resnet50", weights=str(path)), 3)


def test_imagenet_weights_are_found_in_torchs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loading path of --weights imagenet, with a file made here where a download would put it."""
    from torchvision import models

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    origin = models.get_model_weights("resnet18").DEFAULT
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torchvision_file(cache / origin.url.rsplit("/", 1)[1])
    network = networks.build(Recipe(arch="resnet18", weights="imagenet"), 2)
    stored = torch.load(cache / origin.url.rsplit("/", 1)[1], weights_only=True)
    assert torch.equal(network.backbone.conv1.weight, stored["conv1.weight"])


def test_imagenet_weights_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(ModelMissing, match=r"put it at .*resnet18-.*\.pth"):
        networks.build(Recipe(arch="resnet18", weights="imagenet"), 2)


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x04."], ids=["empty", "text", "pickle"])
def test_bad_weight_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(ModelInvalid, match="not a file of plain tensors"):
        weights.read_weights(path)
    torch.save({"note": "no weights"}, path)
    with pytest.raises(ModelInvalid, match="holds no state_dict"):
        weights.read_weights(path)
    with pytest.raises(ModelMissing):
        weights.read_weights(tmp_path / "absent.pth")


@pytest.mark.parametrize(
    ("arch", "origin"), [("nonsense", "none"), ("resnet18", "dlib"), ("cnn", "imagenet"), ("cnn", "dlib")]
)
def test_impossible_wishes_are_usage_errors(arch: str, origin: str) -> None:
    with pytest.raises(UsageFault):
        networks.build(Recipe(arch=arch, weights=origin), 2)


# --- dlib's network ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def face_network() -> networks.Network:
    made = Recipe(arch="dlib_resnet", weights="dlib", size=150, objective="cosface")
    return networks.build(made, 2).eval()


def test_dlib_resnet_equals_the_onnx_embedder(face_network: networks.Network) -> None:
    model = session.load(
        dlib.convert("embedder", dlib.weights_path("embedder").read_bytes()), device=session.choose_device("cpu")
    )
    pictures = np.random.default_rng(1).integers(0, 256, (3, 3, 150, 150)).astype(np.float32)
    wanted = model.run_batch(pictures[:, ::-1].copy())  # the ONNX file eats BGR 0 to 255
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in (dlibnet.MEAN, dlibnet.STD))
    with torch.inference_mode():
        came = face_network(torch.from_numpy((pictures - mean) / std)).numpy()
    assert np.abs(came - wanted).max() < 1e-4


def test_lower_and_upper_make_the_whole(face_network: networks.Network) -> None:
    x = torch.randn(2, 3, 150, 150)
    with torch.inference_mode():
        whole = face_network(x)
        for stages in (1, 5, 11, 15):
            assert torch.allclose(face_network.upper(stages)(face_network.lower(stages)(x)), whole, atol=1e-6)


def test_mirroring_is_in_the_network() -> None:
    made = Recipe(arch="dlib_resnet", weights="dlib", size=150, mirror=True)
    network = networks.build(made, 3).eval()
    x = torch.randn(2, 3, 150, 150)
    with torch.inference_mode():
        assert torch.allclose(network(x), network(x.flip(3)), atol=1e-5)
        assert torch.allclose(network.features(x).norm(dim=1), torch.full((2,), 10.0), atol=1e-4)


def test_stages_learn_from_each_picture_by_itself_and_the_result_mirrors() -> None:
    made = Recipe(arch="dlib_resnet", weights="dlib", size=150, mirror=True, objective="pairs", bottom=11)
    network = networks.build(made, 2).eval()
    x = torch.randn(2, 3, 150, 150)
    with torch.inference_mode():
        sides = [network.upper(11)(network.lower(11)(side)) for side in (x, x.flip(3))]
        assert torch.allclose(network(x), nn.functional.normalize(sides[0] + sides[1], dim=1), atol=1e-5)
    with pytest.raises(UsageFault, match="mirror"):
        replace(made, objective="ce")


# --- losses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cosface", "arcface"])
def test_a_margin_makes_the_loss_harder(kind: str) -> None:
    torch.manual_seed(0)
    head = losses.MarginHead(8, 4, kind=kind, margin=0.3, scale=16)
    vectors, labels = nn.functional.normalize(torch.randn(32, 8)), torch.randint(4, (32,))
    values = [head(vectors, labels, share).item() for share in (0.0, 0.5, 1.0)]
    assert values[0] < values[1] < values[2]


def test_without_margin_it_is_cross_entropy_of_cosines() -> None:
    torch.manual_seed(0)
    head = losses.MarginHead(8, 4, kind="arcface", margin=0.3, scale=16)
    vectors, labels = nn.functional.normalize(torch.randn(32, 8)), torch.randint(4, (32,))
    logits = 16 * vectors @ nn.functional.normalize(head.centres).t()
    assert head(vectors, labels, 0.0).item() == pytest.approx(
        nn.functional.cross_entropy(logits, labels).item(), rel=1e-3
    )


def test_centres_start_at_the_means() -> None:
    head = losses.MarginHead(2, 3, kind="cosface", margin=0.1, scale=8)
    third = head.centres[2].clone()
    head.start_from(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), torch.tensor([0, 0, 1]))
    assert torch.allclose(head.centres[0], torch.tensor([0.5**0.5, 0.5**0.5]))
    assert torch.allclose(head.centres[1], torch.tensor([0.0, -1.0]))
    assert torch.equal(head.centres[2], third)


def pairs_of(vectors: torch.Tensor, labels: torch.Tensor, margin: float = 0.1) -> losses.PairMemory:
    memory = losses.PairMemory(vectors.shape[1], len(vectors), margin=margin, scale=16)
    memory.start_from(vectors, labels)
    return memory


def test_pairs_are_content_when_people_lie_apart_and_not_before() -> None:
    labels = torch.arange(8) // 2
    apart = torch.eye(4)[labels]  # every person a direction of their own
    mixed = nn.functional.normalize(torch.randn(8, 4, generator=torch.Generator().manual_seed(1)))
    places = torch.arange(8)
    good, bad = (pairs_of(v, labels)(v, labels, 0.0, places).item() for v in (apart, mixed))
    assert good < 0.6 < 5 < bad
    memory = pairs_of(apart, labels)
    assert memory(apart, labels, 0.0, places).item() < memory(apart, labels, 1.0, places).item()


def test_pairs_leave_out_the_picture_itself_and_people_of_one_picture() -> None:
    labels, places = torch.tensor([0, 1, 2]), torch.arange(3)
    vectors = torch.eye(3)
    value = pairs_of(vectors, labels, 0.0)(vectors, labels, 1.0, places)
    # Nobody has a second picture: only the strangers count, two at cosine 0 each.
    logits = torch.full((2,), -16 * losses.PairMemory.START)
    assert value.item() == pytest.approx(nn.functional.softplus(torch.logsumexp(logits, 0)).item(), abs=1e-6)


def test_pairs_remember_what_they_saw_and_keep_it_in_their_state() -> None:
    labels = torch.tensor([0, 0, 1])
    memory = pairs_of(torch.eye(3), labels)
    seen = nn.functional.normalize(torch.ones(1, 3), dim=1).requires_grad_()
    memory(seen, labels[1:2], 1.0, torch.tensor([1])).backward()
    assert torch.isfinite(seen.grad).all() and seen.grad.abs().sum() > 0 and memory.level.grad is not None
    kept = memory.state_dict()["memory"]
    assert torch.equal(kept[1], seen.detach()[0]) and torch.equal(kept[[0, 2]], torch.eye(3)[[0, 2]])
    with pytest.raises(ValueError, match="positions"):
        memory(seen, labels[1:2])


# --- recipes and the summary ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_loads_and_says_what_it_is(name: str) -> None:
    made = recipe.load(name)
    assert made.name == name and 20 < len(made.about) < 140
    assert recipe.from_dict(made.to_dict()) == made


def test_the_courses_recipes_are_there() -> None:
    assert set(recipe.names()) >= {
        "mnist-mlp", "mnist-cnn", "catsdogs-cnn", "catsdogs-cnn-augmented", "catsdogs-transfer", "faces-transfer",
        "faces-metric",
    }  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "epochs = 0",
        'augment = "wild"',
        "colour = 3",
        'epochs = "ten"',
        "epochs = true",
        "val = 0.6\ntest = 0.5",
        "dropout = 1.5",
        "dropout = 1.0",
        "label_smoothing = 2",
        "ema = 1.5",
        "lr = nan",
        "scale = inf",
        "mix = 1.5",
        "batch = 1",
        "seed = 99999999999999999999",
        "workers = 5000",
        'arch = "resnet18"\ngrey = true',
    ],
)
def test_wrong_recipes_are_usage_errors(tmp_path: Path, line: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(line)
    with pytest.raises(UsageFault, match="mine"):
        recipe.load(str(path))


@pytest.mark.parametrize(("crop", "size"), [("dlib-150", 112), ("arcface-112", 150)])
def test_a_network_of_faces_eats_them_in_the_size_of_its_crop(crop: str, size: int) -> None:
    with pytest.raises(UsageFault, match=f"crop {crop} has {TEMPLATES[crop]} px a side, size is {size}"):
        Recipe(crop=crop, size=size)
    assert Recipe(crop=crop, size=TEMPLATES[crop]).size != size
    assert Recipe(crop="image", size=size).size == size


@pytest.mark.parametrize(("name", "known"), [("absent", "mnist-cnn"), ("absent.toml", "give a .toml file")])
def test_unknown_recipes_name_the_known(name: str, known: str) -> None:
    with pytest.raises(UsageFault, match=known):
        recipe.load(name)


@pytest.mark.parametrize("split", [f"lfw_dev-{number}" for number in range(1, 6)])
def test_committed_splits_share_nobody(split: str) -> None:
    people = recipe.people_of(split)
    assert people is not None
    parts = [set(people[part]) for part in ("train", "calibrate", "test")]
    assert all(parts) and sum(map(len, parts)) == len(set.union(*parts)) == 2031


@pytest.mark.parametrize("arch", ["resnet18", "vgg16", "cnn", "mobilenet_v3_small"])
def test_the_summary_follows_the_formula(arch: str) -> None:
    size = 64
    network = networks.build(Recipe(arch=arch, size=size, width=8), 10)
    rows = summary.describe(network, (3, size, size))
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in network.parameters())
    sizes = {row.name: row.output for row in rows}
    if arch in ("vgg16", "cnn"):  # plain sequences: each layer eats what the one before gives
        side = size
        for row in rows:
            if row.kernel and row.stride and row.padding:
                side = (side - row.kernel[0] + 2 * row.padding[0]) // row.stride[0] + 1
                assert row.output[1:] == (side, side)
    first = next(row for row in rows if row.kind == "Conv2d")
    assert first.madds == first.output[0] * first.output[1] * first.output[2] * 3 * first.kernel[0] * first.kernel[1]
    assert "multiply-adds" in summary.table(rows) and len(sizes) > 5


def test_vgg16_without_its_dense_layers_has_the_published_size() -> None:
    rows = summary.describe(networks.build(Recipe(arch="vgg16", size=224), 1000), (3, 224, 224))
    convolutions = [row for row in rows if row.kind == "Conv2d"]
    assert sum(row.parameters for row in convolutions) == 14_714_688  # Keras: VGG16(include_top=False)
    assert sum(row.madds for row in convolutions) == 15_346_630_656


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "out"), [(224, 7, 2, 3, 112), (5, 2, 2, 0, 2), (3, 3, 1, 1, 3)]
)
def test_output_size(size: int, kernel: int, stride: int, padding: int, out: int) -> None:
    assert summary.output_size(size, kernel, stride, padding) == out
