"""One training loop for every network and task, from one CPU to many GPUs through Lightning Fabric."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm

from helpers import metrics, ranks
from helpers.augment import Augment, distort, mixup
from helpers.checkpoint import EPOCH_CURVES, STEP_CURVES, Run, copy_weights, identity_of
from helpers.data.pack import Pack
from helpers.models import to_probabilities, window_logits
from helpers.sampling import ahead, class_weights, draw_order
from helpers.tasks import Task

PROBE_CLIPS = 48  # validation clips, always the same, whose loss is followed between epochs
EVERY = 10  # steps between two points of the loss curves
COMPILED_FROM = 20_000  # steps of a training on a GPU: shorter ones are over before compiling has paid


@dataclass(frozen=True)
class Settings:
    """How to train: AdamW (Loshchilov & Hutter 2019), its rate rising and falling once (Smith & Topin 2019)."""

    epochs: int = 20  # passes over the training split
    batch: int = 32  # clips per step and device
    learning_rate: float = 5e-3  # at its highest
    weight_decay: float = 1e-2
    seed: int = 0  # of batch order and dropout; `models.build` seeds the network's own weights
    augment: Augment = field(default_factory=Augment)  # how the batch is changed
    balance: str = ""  # "loss": rare classes weigh more; "classes" or "groups": each is drawn equally often
    devices: int = 1  # over all nodes, a process on each; Fabric takes GPUs where there are any
    precision: str = "auto"  # "bf16-mixed" where the device computes in it, else "32-true"; or Fabric's name for it


@dataclass(frozen=True)
class Fit:
    """What training leaves behind.

    Attributes
    ----------
    best, last : dict
        Weights on the CPU: of the epoch with the best validation score, and of the final one.
    best_epoch : int
        Counted from 1.
    curves : dict of str to list of float
        "step", "train_loss", "valid_loss" every 10 steps (training: mean of those steps; validation: on a fixed probe
        of at most 48 clips), and per epoch "epoch", "epoch_train_loss", "epoch_valid_loss", "epoch_train_score",
        "epoch_valid_score" (the task's headline metric; training: of the windows as they were seen).
    seconds : float
    precision : str
        That was used.
    """

    best: dict
    last: dict
    best_epoch: int
    curves: dict
    seconds: float
    precision: str


def loss_of(logits: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Mean loss over windows: `logits` (clips, windows, classes), `targets` (clips,) or (clips, classes)."""
    repeated = targets.repeat_interleave(logits.shape[1], dim=0)  # every window has its clip's labels
    if targets.ndim == 1:
        return functional.cross_entropy(logits.flatten(0, 1), repeated, weight)
    return functional.binary_cross_entropy_with_logits(logits.flatten(0, 1), repeated, pos_weight=weight)


def with_tuned(config: dict, settings: Settings, tuned: dict[str, float]) -> tuple[dict, Settings]:
    """Put tuned numbers where they belong: fields of `Settings` there, all others among the network's options."""
    ours = {field.name for field in fields(Settings)}
    changed = replace(settings, **{name: value for name, value in tuned.items() if name in ours})
    return config | {name: value for name, value in tuned.items() if name not in ours}, changed


def best_precision() -> str:
    """ "bf16-mixed" where GPU or CPU has units for bfloat16, else "32-true"."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    able = torch.cpu.get_capabilities()
    return "bf16-mixed" if able.get("avx512_bf16") or able.get("amx_bf16") else "32-true"


@torch.no_grad()
def evaluate(model: nn.Module, pack: Pack, task: Task, batch: int = 64) -> tuple[float, np.ndarray]:
    """Mean loss over windows, and the probabilities of every clip, (clips, classes): the mean over its windows."""
    was_training = model.training
    model.eval()
    total, found = 0.0, []
    for start in range(0, len(pack), batch):
        clips = slice(start, start + batch)
        logits = window_logits(model, pack.take(clips), task)  # (clips, windows, classes)
        total += float(loss_of(logits, torch.from_numpy(pack.targets[clips]).to(logits.device))) * len(logits)
        found.append(to_probabilities(logits, task.multi_label).mean(dim=1).cpu().numpy())
    model.train(was_training)
    return total / len(pack), np.concatenate(found)


def evaluate_together(fabric: Fabric, network: nn.Module, pack: Pack, task: Task) -> tuple[float, np.ndarray]:
    """`evaluate`, each rank its share of the clips; all get the whole result."""
    ranks.same_statistics(fabric, network)
    every = fabric.world_size if len(pack) >= fabric.world_size else 1
    mine = pack.select(np.arange(len(pack))[fabric.global_rank :: every]) if every > 1 else pack
    loss, found = evaluate(network, mine, task)
    if every == 1:
        return loss, found
    whole, parts = np.empty((len(pack), found.shape[1]), found.dtype), ranks.gather(fabric, (loss * len(mine), found))
    for rank, (_, part) in enumerate(parts):
        whole[rank::every] = part
    return sum(total for total, _ in parts) / len(pack), whole


def batches_of(fabric: Fabric, train: Pack, task: Task, settings: Settings, epoch: int) -> Iterator[tuple]:
    """An epoch's batches, in shuffled order and changed as the settings say.

    Yields this rank's clips; their waves; the weight of their mean loss (DDP averages over ranks, and the ranks' shares
    of the last batch may differ by a clip); and how mixup laid them over each other.
    """
    draw = np.random.default_rng([settings.seed, epoch])
    order = draw_order(train, settings.balance, draw)
    rank, world = fabric.global_rank, fabric.world_size
    draw = np.random.default_rng([settings.seed, epoch, rank]) if rank else draw
    for start in range(0, len(order), settings.batch * world):
        batch = order[start : start + settings.batch * world]
        mine = batch[rank::world]
        weight = len(mine) * world / len(batch)
        clips = np.sort(mine if weight else batch[:1])  # sorted: read the memory map forwards
        waves = distort(train.take(clips), task.rate, settings.augment, draw)  # (clips, samples)
        share, other = mixup(len(clips), settings.augment, draw)
        if share < 1:
            waves = np.float32(share) * waves + np.float32(1 - share) * waves[other]
        yield clips, waves, weight, (share, other)


def train_epoch(fabric, network, optimizer, schedule, train, task, settings, epoch, after_step):
    """One pass over the training split; returns every step's loss, and probabilities and targets as seen."""
    network.train()
    losses, probabilities, targets, balance = [], [], [], None
    batches = batches_of(fabric, train, task, settings, epoch)
    for clips, waves, weight, (share, other) in ahead(batches) if fabric.device.type == "cuda" else batches:
        target = torch.from_numpy(train.targets[clips]).to(fabric.device)
        logits = window_logits(network, waves, task)  # (clips, windows, classes)
        if settings.balance == "loss" and balance is None:
            balance = torch.from_numpy(class_weights(train.targets, logits.shape[-1])).to(fabric.device)
        loss = loss_of(logits, target, balance)
        if share < 1:
            loss = share * loss + (1 - share) * loss_of(logits, target[other], balance)
        loss = weight * loss
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
        if weight:
            probabilities.append(to_probabilities(logits.detach(), task.multi_label).mean(dim=1))
            targets.append(train.targets[clips])
        after_step(losses)
    seen = torch.cat(probabilities).cpu().numpy(), np.concatenate(targets)
    return losses, *(np.concatenate(parts) for parts in zip(*ranks.gather(fabric, seen), strict=True))


def fit(model: nn.Module, train: Pack, valid: Pack, task: Task, settings: Settings, folder: Path | None = None) -> Fit:
    """Train `model` in place; it ends with the final epoch's weights. The test split is not an argument.

    Parameters
    ----------
    model : nn.Module
        From `models.build`.
    train, valid : Pack
        Weights learn from the first; the second chooses the best epoch and nothing else.
    task : Task
    settings : Settings
    folder : Path, optional
        Keeps TensorBoard logs, and a checkpoint after each epoch: the same call continues from it when interrupted,
        with the same result as without the interruption.

    Returns
    -------
    Fit

    Raises
    ------
    ValueError
        If a setting is not positive, training and validation share a recording, or other than `settings.devices`
        processes were started.
    RuntimeError
        In one of several processes, if another has ended, at the latest after `ranks.PATIENCE`.

    Notes
    -----
    Several processes (`settings.devices`) train as one would with as many times the batch: no clip is left out, and
    losses and scores are of all their clips. They differ from it by rounding, and where something is drawn or averaged
    within a process: dropout, augmentation, batch normalisation, and the mean of a loss that is weighted by class.
    """
    if min(settings.epochs, settings.batch, settings.learning_rate) <= 0:
        raise ValueError(f"EPOCHS, batch, learning rate: expected positive numbers, found {settings}.")
    if set(train.digests) & set(valid.digests):
        raise ValueError("training and validation share recordings, expected none. Remove the duplicates.")
    precision = best_precision() if settings.precision == "auto" else settings.precision
    fabric = Fabric(accelerator="auto", **ranks.options(settings.devices, precision))
    fabric.launch()
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    steps = -(-len(train) // (settings.batch * fabric.world_size))  # per epoch
    compiled = fabric.device.type == "cuda" and settings.epochs * steps >= COMPILED_FROM
    network, optimizer = fabric.setup(torch.compile(model) if compiled else model, optimizer)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, settings.epochs * steps)
    identity = identity_of(model, train, valid, task, settings)
    run = Run(folder, model, optimizer, schedule, identity, fabric.is_global_zero)
    probe = valid.select(np.random.default_rng(0).permutation(len(valid))[:PROBE_CLIPS])
    progress = tqdm(
        total=settings.epochs * steps, initial=run.epoch * steps, desc="train", unit="step",
        disable=None if fabric.is_global_zero else True,
    )  # fmt: skip
    with ranks.explained(fabric, run), torch.random.fork_rng(), progress:
        if len(set(found := ranks.gather(fabric, run.epoch))) > 1:
            raise RuntimeError(f"{folder}: the ranks found checkpoints of epochs {found}, expected the same folder.")
        torch.manual_seed(settings.seed)
        if run.random_state is not None:
            torch.set_rng_state(run.random_state)
        for epoch in range(run.epoch, settings.epochs):
            if fabric.global_rank:  # rank 0 goes on with its random state, the others begin each epoch with their own
                torch.manual_seed(hash((settings.seed, epoch, fabric.global_rank)))

            def after_step(losses: list[torch.Tensor], step: int = epoch * steps) -> None:
                progress.update()
                if (step := step + len(losses)) % EVERY == 0:
                    probed = evaluate_together(fabric, network, probe, task)[0]
                    row = (step, ranks.mean_loss(fabric, losses[-EVERY:]), probed)
                    run.add(step, zip(STEP_CURVES, row, strict=True))

            losses, *seen = train_epoch(fabric, network, optimizer, schedule, train, task, settings, epoch, after_step)
            loss = ranks.mean_loss(fabric, losses)
            valid_loss, probabilities = evaluate_together(fabric, network, valid, task)
            scored = [metrics.point_scores(*pair)[task.headline] for pair in (seen, (probabilities, valid.targets))]
            row = (epoch + 1, loss, valid_loss, *scored)
            run.add((epoch + 1) * steps, zip(EPOCH_CURVES, row, strict=True))
            progress.set_postfix(epoch=epoch + 1, train=f"{loss:.3f}", valid=f"{valid_loss:.3f}")
            run.end_epoch(scored[1], valid_loss)
    run.finish()
    return Fit(run.best, copy_weights(model), run.best_epoch, run.curves, run.seconds, precision)
