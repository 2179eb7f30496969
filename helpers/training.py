"""One training loop for every network and task, from one CPU to many GPUs through Lightning Fabric."""

from __future__ import annotations

import hashlib
import inspect
import math
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm

from helpers import metrics
from helpers.augment import Augment, ahead, class_weights, distort, draw_order, mixup
from helpers.data.pack import Pack
from helpers.files import replacing
from helpers.models import to_probabilities, window_logits
from helpers.tasks import Task

STEP_CURVES = ("step", "train_loss", "valid_loss")
EPOCH_CURVES = ("epoch", "epoch_train_loss", "epoch_valid_loss", "epoch_train_score", "epoch_valid_score")


def copy_weights(model: nn.Module) -> dict:
    """The model's state on the CPU, detached from it."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def identity_of(model: nn.Module, train: Pack, valid: Pack, task: Task, settings) -> str:
    """Digest of all that decides how training goes: only a run that would go the same way is continued."""
    digest = hashlib.sha256(f"{settings} {task} {model}".encode())
    for value in copy_weights(model).values():
        digest.update(value.numpy().tobytes())
    for pack in (train, valid):
        digest.update("".join(pack.digests).encode() + pack.targets.tobytes())
    return digest.hexdigest()


class Run:
    """State of a run: best weights, curves, and the checkpoint in `folder` (none when it is None).

    Of several ranks all read the checkpoint, and the one that `writes` keeps it. No other can come to read it half-way:
    it is written after an epoch that all have trained together, and under its name when complete.
    """

    KEPT = ("epoch", "best", "best_merit", "best_epoch", "curves", "seconds", "random_state")

    def __init__(self, folder, model, optimizer, schedule, identity, writes=True):
        self.parts, self.identity, self.writes = (model, optimizer, schedule), identity, writes
        self.epoch, self.best, self.best_merit, self.best_epoch = 0, {}, (), 0
        self.curves = {name: [] for name in STEP_CURVES + EPOCH_CURVES}
        self.seconds, self.random_state, self.log = 0.0, None, None
        self.path = folder / "checkpoint.pt" if folder else None
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            self._resume()
        if folder and writes:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, not needed without a folder

            self.log = SummaryWriter(str(folder / "tensorboard"))
        self.started = time.perf_counter() - self.seconds

    def _resume(self):
        if not self.path.is_file():
            return
        try:
            stored = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file may raise anything: start anew, and say so
            warnings.warn(f"{self.path}: not a checkpoint ({type(error).__name__}); training starts anew", stacklevel=4)
            return
        if stored["identity"] != self.identity:
            return  # other settings, model or data: start anew
        for part, state in zip(self.parts, stored["parts"], strict=True):
            part.load_state_dict(state)
        for name in self.KEPT:
            setattr(self, name, stored[name])

    def add(self, step, row):
        for name, value in row:
            self.curves[name].append(value)
            if self.log:
                self.log.add_scalar(name, value, step)

    def end_epoch(self, score, loss):
        """Remember the best weights so far, and write the checkpoint under its name when complete."""
        # By score, and by loss among equal scores: of an overconfident network the loss rises while it still learns
        merit = (score, -loss) if math.isfinite(score) else (-math.inf, -loss)
        if merit > self.best_merit:
            self.best, self.best_merit, self.best_epoch = copy_weights(self.parts[0]), merit, self.epoch + 1
        self.epoch += 1
        self.seconds, self.random_state = time.perf_counter() - self.started, torch.get_rng_state()
        if self.path and self.writes:
            stored = {name: getattr(self, name) for name in self.KEPT} | {"identity": self.identity}
            with replacing(self.path) as temporary:
                torch.save(stored | {"parts": [part.state_dict() for part in self.parts]}, temporary)

    def finish(self):
        if self.log:
            self.log.close()
        if self.path and self.writes:
            self.path.unlink(missing_ok=True)


PATIENCE = timedelta(minutes=10)  # a rank that waits longer for another one gives up
LAUNCHERS = (  # variables that tell a process its rank, and how many there are: torchrun's, then srun's
    ("RANK", "WORLD_SIZE", "GROUP_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES"),
)


class Place(NamedTuple):
    """One process among those that were started together."""

    rank: int
    ranks: int
    nodes: int


def place() -> Place:
    """Of this process, as torchrun or srun has started it; without them it is alone."""
    for names in LAUNCHERS:
        if all(name in os.environ for name in names):
            return Place(*(int(os.environ[name]) for name in names))
    return Place(0, 1, 1)


class WholeWaves(MixedPrecision):
    """Mixed precision that hands waveforms on as they are: Fabric's own rounds them, and quiet mel bands drown."""

    def convert_input(self, data: Any) -> Any:
        return data


def options(devices: int, precision: str) -> dict[str, Any]:
    """What Fabric must know of the launcher and of the precision.

    Raises
    ------
    ValueError
        If other than `devices` processes were started.
    """
    here = place()
    if here.ranks != devices:
        raise ValueError(
            f"devices: found {devices}, expected {here.ranks}, the number of processes that were started together. "
            "Several are started by python -m bundle train --devices N, or by srun (slurm/train.sbatch)."
        )
    mixed = precision.endswith("-mixed")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kept = {"plugins": [WholeWaves(precision, device)]} if mixed else {"precision": precision, "plugins": []}
    if devices == 1:
        return kept | {"devices": 1, "plugins": [*kept["plugins"], LightningEnvironment()]}
    # Evaluation must not wait for the other ranks at every batch: they may have a batch less
    known = inspect.signature(torch.nn.parallel.DistributedDataParallel).parameters
    switch = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # its name before 2.13
    strategy = DDPStrategy(timeout=PATIENCE, **{switch: False})
    return kept | {"devices": devices // here.nodes, "num_nodes": here.nodes, "strategy": strategy}


def gather(fabric: Fabric, value: Any) -> list:
    """The value that every rank has, by rank."""
    found = [value] * fabric.world_size
    if fabric.world_size > 1:
        torch.distributed.all_gather_object(found, value)
    return found


def same_statistics(fabric: Fabric, network: torch.nn.Module) -> None:
    """Average what the ranks' batch normalisations have seen; between two such calls each goes by its own batches."""
    for layer in network.modules() if fabric.world_size > 1 else ():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            for statistic in (layer.running_mean, layer.running_var):
                fabric.all_reduce(statistic)  # in place


def mean_loss(fabric: Fabric, losses: list[torch.Tensor]) -> float:
    """Over ranks and steps."""
    return float(np.mean(np.mean(gather(fabric, [float(loss) for loss in losses]), axis=0)))


@contextmanager
def explained(fabric: Fabric, run) -> Iterator[None]:
    """Say what to do when this rank fails, most often since another one has ended; `run` is the training's state."""
    try:
        yield
    except RuntimeError as error:
        if fabric.world_size == 1:
            raise
        again = (
            f"The same command continues after epoch {run.epoch}, from {run.path}." if run.path and run.epoch else ""
        )
        raise RuntimeError(
            f"rank {fabric.global_rank} of {fabric.world_size} stopped in epoch {run.epoch + 1}: "
            f"{str(error).strip().splitlines()[0]} If this is a lost connection, another rank ended first. {again}"
        ) from error


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
    same_statistics(fabric, network)
    every = fabric.world_size if len(pack) >= fabric.world_size else 1
    mine = pack.select(np.arange(len(pack))[fabric.global_rank :: every]) if every > 1 else pack
    loss, found = evaluate(network, mine, task)
    if every == 1:
        return loss, found
    whole, parts = np.empty((len(pack), found.shape[1]), found.dtype), gather(fabric, (loss * len(mine), found))
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
    return losses, *(np.concatenate(parts) for parts in zip(*gather(fabric, seen), strict=True))


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
        In one of several processes, if another has ended, at the latest after `PATIENCE`.

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
    fabric = Fabric(accelerator="auto", **options(settings.devices, precision))
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
    with explained(fabric, run), torch.random.fork_rng(), progress:
        if len(set(found := gather(fabric, run.epoch))) > 1:
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
                    row = (step, mean_loss(fabric, losses[-EVERY:]), probed)
                    run.add(step, zip(STEP_CURVES, row, strict=True))

            losses, *seen = train_epoch(fabric, network, optimizer, schedule, train, task, settings, epoch, after_step)
            loss = mean_loss(fabric, losses)
            valid_loss, probabilities = evaluate_together(fabric, network, valid, task)
            scored = [metrics.point_scores(*pair)[task.headline] for pair in (seen, (probabilities, valid.targets))]
            row = (epoch + 1, loss, valid_loss, *scored)
            run.add((epoch + 1) * steps, zip(EPOCH_CURVES, row, strict=True))
            progress.set_postfix(epoch=epoch + 1, train=f"{loss:.3f}", valid=f"{valid_loss:.3f}")
            run.end_epoch(scored[1], valid_loss)
    run.finish()
    return Fit(run.best, copy_weights(model), run.best_epoch, run.curves, run.seconds, precision)
