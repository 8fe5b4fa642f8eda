"""The training loop, top to bottom: `fit`."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from facecam.errors import DeviceUnavailable, ModelInvalid, UsageFault
from train import augment, checkpoint, crowding, feed, losses, networks, records, transfer, weights
from train.data import Corpus
from train.recipe import Recipe, from_dict


def choose_device(asked: str) -> torch.device:
    """auto, cuda or cpu as a torch device; raises DeviceUnavailable for cuda where there is none."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise DeviceUnavailable(
            "--device cuda: torch sees no CUDA device; use --device cpu, or install a CUDA build of torch"
        )
    return torch.device("cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu")


def set_up(recipe: Recipe, device: torch.device) -> None:
    """Threads, and everything that makes two runs of one seed the same on the CPU."""
    torch.set_num_threads(recipe.threads or min(8, os.cpu_count() or 1))
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    torch.manual_seed(recipe.seed)


def schedule(step: int, steps: int, warmup: int) -> float:
    """Factor of the learning rate: linear warm-up, then a cosine down to one hundredth."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def precision(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """The reduced type of autocast, or None for full precision."""
    if recipe.amp == "off" or (device.type == "cpu" and recipe.amp != "bf16"):
        return None
    if device.type == "cpu" or torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float16


def fit(
    recipe: Recipe,
    corpus: Corpus,
    out: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    say: Any = print,
    memo: dict[str, torch.Tensor] | None = None,
) -> dict[str, Any]:
    """Train; leaves best.pt, last.pt, metrics.csv, run.json and TensorBoard scalars in ``out``.

    Killed and resumed, a run ends with the weights of one that was not: an epoch is a function of the
    checkpoint before it (on the CPU; CUDA sums in an order of its own).

    Args:
        memo: features that another run has computed (feed.Features), where part of the network does not learn.

    Returns:
        The last checkpoint's facts: best, history.
    """
    where = choose_device(device)
    set_up(recipe, where)
    items = corpus.train + corpus.background
    train_part = augment.Pictures(items, recipe.size, recipe.augment, recipe.seed)
    val_part: Any = augment.Pictures(corpus.val, recipe.size, "none", recipe.seed)
    network = networks.build(recipe, corpus.outputs).to(where, memory_format=torch.channels_last)
    networks.try_size(network, recipe)
    start = {name: value.clone() for name, value in network.state_dict().items()}
    origin = weights.fingerprint(network)
    counts = corpus.counts(corpus.train)
    labels = torch.tensor([item.label for item in items])

    # For the sampler the other people are one class, however many they are.
    order_labels = labels.clamp(max=len(corpus.classes))

    # What is trained beside the backbone, and what a batch is fed to.
    head: nn.Module = network.head
    forward: Any = network
    teacher = torch.empty(0)
    if recipe.metric:
        people, labels = labels.unique(return_inverse=True)
        if recipe.crowding and len(people) < crowding.PEOPLE:
            raise UsageFault(
                f"{corpus.root}: crowding is measured on {crowding.PEOPLE} people or more, there are {len(people)}; "
                "give more people, or crowding=0"
            )
        if recipe.objective == "pairs":
            head = losses.PairMemory(network.dim, len(items), margin=recipe.margin, scale=recipe.scale)
        else:
            head = losses.MarginHead(
                network.dim, len(people), kind=recipe.objective, margin=recipe.margin, scale=recipe.scale
            )
    source: Any = train_part
    if recipe.freeze == "all":
        say("computing features once: the backbone does not learn")
        source = feed.Features(network.features, network, train_part, recipe, where, recipe.views, memo)
        val_part = feed.Features(network.features, network, val_part, recipe, where, 1, memo)
        forward = network.head
    elif recipe.bottom:
        say(f"computing what the {recipe.bottom} lowest stages make, once: they do not learn")
        source = feed.Features(network.lower(recipe.bottom), network, train_part, recipe, where, recipe.views, memo)
        val_part = feed.Features(network.lower(recipe.bottom), network, val_part, recipe, where, 1, memo)
        forward = network.upper(recipe.bottom)
    if isinstance(head, losses.MarginHead | losses.PairMemory):
        # Where each person starts, and what distillation pulls back to: the vectors of the unaltered pictures.
        plain: Any = augment.Pictures(items, recipe.size, "none", recipe.seed)
        if recipe.bottom:
            plain = torch.utils.data.TensorDataset(source.views[:, 0].float(), labels, labels)
        teacher = feed.forward_all(forward, network, plain, recipe, where)
        head.start_from(teacher, labels)
        head.to(where)
    class_weights = None
    if recipe.balance == "weights":
        others = [len(corpus.background)] * (corpus.outputs - len(corpus.classes))
        class_weights = losses.class_weights(counts + others).to(where)

    groups = transfer.parameter_groups(network, head, recipe)
    if recipe.optimizer == "adamw":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(groups)
    else:
        optimizer = torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)
    reduced = precision(recipe, where)
    scaler = torch.amp.GradScaler(where.type, enabled=reduced == torch.float16)
    average = transfer.Averaged(network, recipe.ema) if recipe.ema else None
    first, history, best = 0, [], {"score": -1.0, "loss": math.inf, "epoch": -1}

    last = out / "last.pt"
    if resume:
        state = checkpoint.load(last, (*checkpoint.RUN, "head", "optimizer", "scaler", "rng"))
        if from_dict(state["recipe"]) != recipe or state["data"] != corpus.digest or state["origin"] != origin:
            raise UsageFault(
                f"{out}: the data, the recipe or the starting weights are not those of the run; use a new --out"
            )
        network.load_state_dict(state["model"])
        head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        if average:
            average.state, average.steps = (
                {k: v.to(where) for k, v in state["ema"].items()},
                state["ema_steps"],
            )
        first, history, best = state["epoch"] + 1, state["history"], state["best"]
        checkpoint.set_rng_state(state["rng"])
        say(f"resuming at epoch {first + 1}")
    elif last.exists():
        raise UsageFault(f"{out}: holds a run already; continue it with --resume or give another --out")
    else:
        checkpoint.write_json(out / "run.json", records.run_facts(recipe, corpus, where, network))
    facts = {
        "recipe": recipe.to_dict(), "classes": list(corpus.classes),
        "outputs": corpus.outputs, "data": corpus.digest, "origin": origin,
        "mean": list(network.mean), "std": list(network.std),
    }  # fmt: skip
    from torch.utils.tensorboard import SummaryWriter

    board = SummaryWriter(str(out / "tensorboard"), purge_step=first)
    per_epoch = len(feed.batches(recipe, order_labels, 0))
    total, warm = per_epoch * recipe.epochs, round(per_epoch * recipe.warmup)
    for epoch in range(first, recipe.epochs):
        if recipe.patience and epoch - best["epoch"] > recipe.patience and best["epoch"] >= 0:
            say(f"stopped early: no gain for {recipe.patience} epochs")
            break
        began = time.perf_counter()
        source.epoch = epoch
        network.train()
        transfer.apply(network, transfer.open_stages(recipe, len(network.stages()), epoch))
        order = feed.batches(recipe, order_labels, epoch)
        losses_seen = []
        for number, (images, targets, indices) in enumerate(
            records.progress(feed.loader(source, order, recipe.workers), len(order), epoch)
        ):
            step = epoch * per_epoch + number
            for group in optimizer.param_groups:
                group["lr"] = group["rate"] * schedule(step, total, warm)
            images = images.to(where, non_blocking=True)
            if images.dtype == torch.uint8:
                images = augment.normalise(images, network.mean, network.std)
                images = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast(where.type, dtype=reduced or torch.bfloat16, enabled=reduced is not None):
                if recipe.metric:
                    vectors = forward(images)
                    share = losses.margin_share(step / per_epoch, recipe.margin_warmup)
                    loss = head(vectors, labels[indices].to(where), share, indices)
                    if recipe.distill:
                        loss = loss + recipe.distill * losses.distillation(vectors, teacher[indices].to(where))
                else:
                    wanted = F.one_hot(targets, corpus.outputs).float().to(where)
                    generator = torch.Generator().manual_seed(augment.picture_seed(recipe.seed, epoch, -2 - number))
                    images, wanted = augment.blend(images, wanted, recipe.mixup, recipe.cutmix, generator)
                    loss = losses.soft_cross_entropy(forward(images), wanted, recipe.label_smoothing, class_weights)
                    if network.aux is not None:  # inception's second opinion, weighed as its authors do
                        loss = loss + 0.4 * losses.soft_cross_entropy(
                            network.aux, wanted, recipe.label_smoothing, class_weights
                        )
                        network.aux = None
            if not torch.isfinite(loss):
                raise ModelInvalid(
                    f"the loss is {loss.item()} in epoch {epoch + 1}; lower --lr (now {recipe.lr}) and start again"
                )
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            if recipe.clip:
                # The network's alone: a margin head's gradients are many times larger and would eat the allowance.
                nn.utils.clip_grad_norm_([p for p in network.parameters() if p.grad is not None], recipe.clip)
            scaler.step(optimizer)
            scaler.update()
            if average:
                average.update(network)
            losses_seen.append(loss.item())

        # Judge and keep the result's weights: averaged, and mixed with the start, where the recipe says so.
        trained = {name: value.clone() for name, value in network.state_dict().items()}
        result = average.state if average else trained
        result = transfer.mixed(start, result, recipe.mix) if recipe.mix != 1.0 else result
        network.load_state_dict(result)
        row: dict[str, Any] = {
            "epoch": epoch + 1,
            "lr": optimizer.param_groups[0]["lr"],
            "train_loss": float(np.mean(losses_seen)),
        }
        row |= (
            feed.judge(forward, network, val_part, recipe, where, len(corpus.classes))
            if len(corpus.val)
            else {"val_loss": math.nan, "val_score": math.nan}
        )
        row["seconds"] = round(time.perf_counter() - began, 2)
        history.append(row)
        gained = (row["val_score"], -row["val_loss"]) > (best["score"], -best["loss"])
        better = gained or recipe.keep == "last" or not len(corpus.val)
        if better:
            best = {"score": row["val_score"], "loss": row["val_loss"], "epoch": epoch}
            checkpoint.save(
                out / "best.pt",
                {**facts, "model": network.state_dict(), "epoch": epoch, "best": best, "history": history},
            )
        network.load_state_dict(trained)
        state = {
            **facts, "model": trained, "head": head.state_dict(), "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(), "rng": checkpoint.rng_state(), "epoch": epoch, "best": best,
            "history": history,
        }  # fmt: skip
        if average:
            state |= {"ema": average.state, "ema_steps": average.steps}
        records.write_metrics(out / "metrics.csv", history)
        checkpoint.save(last, state)
        for key in ("lr", "train_loss", "val_loss", "val_score"):
            board.add_scalar(key, row[key], epoch + 1)
        say(
            f"epoch {epoch + 1}/{recipe.epochs}  loss {row['train_loss']:.4f}  val loss {row['val_loss']:.4f}  "
            f"val score {row['val_score']:.4f}{' *' if better else ''}  {row['seconds']:.1f} s"
        )
    board.close()
    if recipe.crowding:
        say("measuring how crowded the neighbourhoods of faces are")
        state = checkpoint.load(out / "best.pt")
        state["model"] = {k: v for k, v in state["model"].items() if not k.startswith("crowding.")}
        network.load_state_dict(state["model"])
        vectors = feed.forward_all(forward, network, plain, recipe, where)
        network.crowding = crowding.Crowding.measured(vectors, labels, recipe.crowding, recipe.seed).to(where)
        checkpoint.save(out / "best.pt", state | {"model": network.state_dict()})
    return {"best": best, "history": history}
