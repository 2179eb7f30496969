"""One training loop for every network and task, from one CPU to many GPUs through Lightning Fabric.

Of several processes (ranks) each takes its share of every batch, and Fabric averages their gradients; the first one
writes. All evaluate the same clips.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.plugins.environments import LightningEnvironment
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm

from helpers import metrics
from helpers.augment import Augment, ahead, class_weights, distort, draw_order, mixup
from helpers.data.pack import Pack
from helpers.files import replacing
from helpers.models import to_probabilities, window_logits
from helpers.tasks import Task

CHECKPOINT = "checkpoint.pt"
EVERY = 10  # steps between two points of STEP_CURVES
PROBE_CLIPS = 48  # validation clips, always the same, whose loss is followed there
STEP_CURVES = ("step", "train_loss", "valid_loss")  # training: mean of these steps
# Scores are the task's headline metric; training: of the windows as they were seen
EPOCH_CURVES = ("epoch", "epoch_train_loss", "epoch_valid_loss", "epoch_train_score", "epoch_valid_score")
LAUNCHERS = (  # variables that tell a process its rank, and how many there are: torchrun's, then srun's
    ("RANK", "WORLD_SIZE", "GROUP_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES"),
)


class Place(NamedTuple):
    """One process among those that were started together."""

    rank: int = 0
    ranks: int = 1
    nodes: int = 1


def place() -> Place:
    """Of this process, as torchrun or srun has started it; without them it is alone."""
    for names in LAUNCHERS:
        if all(name in os.environ for name in names):
            return Place(*(int(os.environ[name]) for name in names))
    return Place()


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


@dataclass
class Fit:
    """A training: how far it has come, and what it leaves behind. Weights are on the CPU."""

    identity: str  # see `identity_of`
    precision: str  # that is used
    epoch: int = 0  # complete ones
    best: dict = field(default_factory=dict)  # weights of the epoch with the best validation score
    best_merit: tuple = ()
    best_epoch: int = 0  # counted from 1
    last: dict = field(default_factory=dict)  # weights of the final epoch, once it is over
    curves: dict = field(default_factory=lambda: {name: [] for name in STEP_CURVES + EPOCH_CURVES})
    seconds: float = 0.0
    random_state: torch.Tensor | None = None


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
    able = torch.cpu.get_capabilities()
    on_cpu = able.get("avx512_bf16") or able.get("amx_bf16")
    able = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else on_cpu
    return "bf16-mixed" if able else "32-true"


class WholeWaves(MixedPrecision):
    """Mixed precision that hands waveforms on as they are: Fabric's own rounds them, and quiet mel bands drown."""

    def convert_input(self, data: Any) -> Any:
        return data


def start_fabric(devices: int, precision: str) -> Fabric:
    """Fabric over the processes that were started together, of which there must be `devices`."""
    here = place()
    if here.ranks != devices:
        raise ValueError(
            f"devices: found {devices}, expected {here.ranks}, the number of processes that were started together. "
            "Several are started by python -m bundle train --devices N, or by srun (slurm/train.sbatch)."
        )
    mixed = precision.endswith("-mixed")
    plugins: list = [WholeWaves(precision, "cuda" if torch.cuda.is_available() else "cpu")] if mixed else []
    if devices == 1:
        plugins.append(LightningEnvironment())  # not that of a cluster's job, which this process may be in by chance
    fabric = Fabric(
        accelerator="auto", strategy="ddp" if devices > 1 else "auto", devices=devices // here.nodes,
        num_nodes=here.nodes, precision=None if mixed else precision, plugins=plugins,
    )  # fmt: skip
    fabric.launch()
    return fabric


def gather(fabric: Fabric, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Every array with those of all ranks in a row; their lengths may differ."""
    if fabric.world_size == 1:
        return arrays
    found: list = [None] * fabric.world_size
    torch.distributed.all_gather_object(found, arrays)
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def mean_loss(fabric: Fabric, losses: list[torch.Tensor]) -> float:
    """Over ranks and steps."""
    return float(np.mean(fabric.all_reduce(torch.stack(losses)).tolist()))


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
    return losses, *gather(fabric, seen)


def copy_weights(model: nn.Module) -> dict:
    """On the CPU, detached from the model."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def identity_of(model: nn.Module, train: Pack, valid: Pack, task: Task, settings: Settings) -> str:
    """Digest of all that decides how training goes: only a run that would go the same way is continued."""
    digest = hashlib.sha256(f"{settings} {task} {model}".encode())
    for value in copy_weights(model).values():
        digest.update(value.numpy().tobytes())
    for pack in (train, valid):
        digest.update("".join(pack.digests).encode() + pack.targets.tobytes())
    return digest.hexdigest()


def read_checkpoint(path: Path, identity: str) -> dict | None:
    """What an interrupted run of this identity left at `path`; None when there is nothing of it."""
    if not path.is_file():
        return None
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        return stored if stored["identity"] == identity else None
    except Exception as error:  # a damaged file may raise anything: start anew, and say so
        warnings.warn(f"{path}: not a checkpoint ({type(error).__name__}); training starts anew", stacklevel=3)
        return None


def forget(folder: Path) -> None:
    """Remove the checkpoint of a training whose result is stored."""
    (folder / CHECKPOINT).unlink(missing_ok=True)


def fit(model: nn.Module, train: Pack, valid: Pack, task: Task, settings: Settings, folder: Path | None = None) -> Fit:
    """Train `model` in place; it ends with the final epoch's weights. The test split is not an argument.

    Several processes (`settings.devices`) train as one would with as many times the batch. They differ from it by
    rounding, and where something is drawn or averaged within a process: dropout, augmentation, batch normalisation, and
    the mean of a loss that is weighted by class.

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
        with the same result as without the interruption. Who has stored the result calls `forget`.

    Raises
    ------
    ValueError
        If a setting is not positive, training and validation share a recording, or other than `settings.devices`
        processes were started.
    """
    if min(settings.epochs, settings.batch, settings.learning_rate) <= 0:
        raise ValueError(f"EPOCHS, batch, learning rate: expected positive numbers, found {settings}.")
    if set(train.digests) & set(valid.digests):
        raise ValueError("training and validation share recordings, expected none. Remove the duplicates.")
    if settings.precision == "auto":
        settings = replace(settings, precision=best_precision())
    fabric = start_fabric(settings.devices, settings.precision)
    steps = -(-len(train) // (settings.batch * fabric.world_size))  # per epoch
    total = settings.epochs * steps
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    network, optimizer = fabric.setup(model, optimizer)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total)
    probe = valid.select(np.random.default_rng(0).permutation(len(valid))[:PROBE_CLIPS])

    run, parts = Fit(identity_of(model, train, valid, task, settings), settings.precision), (model, optimizer, schedule)
    first, path, log = fabric.is_global_zero, None, None
    if folder and first:
        from torch.utils.tensorboard import SummaryWriter  # slow to import, not needed without a folder

        path, log = folder / CHECKPOINT, SummaryWriter(str(folder / "tensorboard"))
    if stored := fabric.broadcast(read_checkpoint(path, run.identity) if path else None):
        for part, state in zip(parts, stored.pop("parts"), strict=True):
            part.load_state_dict(state)
        run = Fit(**stored)
    started = time.perf_counter() - run.seconds
    bar = tqdm(total=total, initial=run.epoch * steps, desc="train", unit="step", disable=not first or None)

    def add(step: int, names: tuple[str, ...], *values: float) -> None:
        for name, value in zip(names, values, strict=True):
            run.curves[name].append(value)
            if log:
                log.add_scalar(name, value, step)

    def after_step(losses: list[torch.Tensor]) -> None:
        bar.update()
        if (step := run.epoch * steps + len(losses)) % EVERY == 0:
            add(step, STEP_CURVES, step, mean_loss(fabric, losses[-EVERY:]), evaluate(network, probe, task)[0])

    with torch.random.fork_rng(), bar:
        torch.manual_seed(settings.seed)
        if run.random_state is not None:
            torch.set_rng_state(run.random_state)
        while run.epoch < settings.epochs:
            if fabric.global_rank:  # rank 0 goes on with its random state, the others begin each epoch with their own
                torch.manual_seed(hash((settings.seed, run.epoch, fabric.global_rank)))
            losses, *seen = train_epoch(
                fabric, network, optimizer, schedule, train, task, settings, run.epoch, after_step
            )
            loss, (valid_loss, found) = mean_loss(fabric, losses), evaluate(network, valid, task)
            scores = [metrics.point_scores(*pair)[task.headline] for pair in (seen, (found, valid.targets))]
            run.epoch += 1
            add(run.epoch * steps, EPOCH_CURVES, run.epoch, loss, valid_loss, *scores)
            run.random_state, run.seconds = torch.get_rng_state(), time.perf_counter() - started
            # By score, and by loss among equal scores: of an overconfident network the loss rises while it still learns
            merit = (scores[1] if math.isfinite(scores[1]) else -math.inf, -valid_loss)
            if merit > run.best_merit:
                run.best, run.best_merit, run.best_epoch = copy_weights(model), merit, run.epoch
            bar.set_postfix(epoch=run.epoch, train=f"{loss:.3f}", valid=f"{valid_loss:.3f}")
            if path:
                with replacing(path) as temporary:
                    torch.save(vars(run) | {"parts": [part.state_dict() for part in parts]}, temporary)
    if path:
        log.close()
    run.last = copy_weights(model)
    return run
