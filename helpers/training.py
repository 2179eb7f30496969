"""One training loop for every network and task, from one CPU to many GPUs through Lightning Fabric."""

from __future__ import annotations

import hashlib
import math
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm

from helpers import metrics
from helpers.data.pack import Pack
from helpers.models import to_probabilities, window_logits
from helpers.tasks import Task

STEP_CURVES = ("step", "train_loss", "valid_loss")
EPOCH_CURVES = ("epoch", "epoch_train_loss", "epoch_valid_loss", "epoch_train_score", "epoch_valid_score")
PROBE_CLIPS = 96  # validation clips, always the same, whose loss is followed between epochs
EVERY = 10  # steps between two points of the loss curves


@dataclass(frozen=True)
class Settings:
    """How to train: AdamW (Loshchilov & Hutter 2019), its rate rising and falling once (Smith & Topin 2019)."""

    epochs: int = 20  # passes over the training split
    batch: int = 32  # clips per step and device
    learning_rate: float = 5e-3  # at its highest
    weight_decay: float = 1e-2
    seed: int = 0  # of batch order and dropout; `models.build` seeds the network's own weights
    shift_seconds: float = 0.1  # each batch is moved in time by up to this, circularly, so that no model counts samples
    devices: int = 1  # how many; Fabric takes GPUs where there are any
    precision: str = "32-true"  # Fabric's name for it: "bf16-mixed" …


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
        of at most 96 clips), and per epoch "epoch", "epoch_train_loss", "epoch_valid_loss", "epoch_train_score",
        "epoch_valid_score" (the task's headline metric; training: of the windows as they were seen).
    seconds : float
    """

    best: dict
    last: dict
    best_epoch: int
    curves: dict
    seconds: float


def loss_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean loss over windows: `logits` (clips, windows, classes), `targets` (clips,) or (clips, classes)."""
    repeated = targets.repeat_interleave(logits.shape[1], dim=0)  # every window has its clip's labels
    if targets.ndim == 1:
        return functional.cross_entropy(logits.flatten(0, 1), repeated)
    return functional.binary_cross_entropy_with_logits(logits.flatten(0, 1), repeated)


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


def train_epoch(fabric, network, optimizer, schedule, train, task, settings, epoch, after_step):
    """One pass over the training split in shuffled batches; returns mean loss, probabilities and targets as seen."""
    network.train()
    losses, probabilities, targets = [], [], []
    draw = np.random.default_rng([settings.seed, epoch])
    order, reach = draw.permutation(len(train)), int(settings.shift_seconds * task.rate)
    mine = order[: len(order) // fabric.world_size * fabric.world_size][fabric.global_rank :: fabric.world_size]
    for start in range(0, len(mine), settings.batch):
        clips = np.sort(mine[start : start + settings.batch])  # sorted: read the memory map forwards
        waves = np.roll(train.take(clips), draw.integers(-reach, reach + 1), axis=1)  # (clips, samples)
        target = torch.from_numpy(train.targets[clips]).to(fabric.device)
        logits = window_logits(network, waves, task)  # (clips, windows, classes)
        loss = loss_of(logits, target)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        probabilities.append(to_probabilities(logits.detach(), task.multi_label).mean(dim=1).cpu().numpy())
        targets.append(train.targets[clips])
        after_step(losses)
    return float(np.mean(losses)), np.concatenate(probabilities), np.concatenate(targets)


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
        If a setting is not positive, or training and validation share a recording.
    """
    if min(settings.epochs, settings.batch, settings.learning_rate) <= 0:
        raise ValueError(f"EPOCHS, batch, learning rate: expected positive numbers, found {settings}.")
    if set(train.digests) & set(valid.digests):
        raise ValueError("training and validation share recordings, expected none. Remove the duplicates.")
    fabric = Fabric(accelerator="auto", devices=settings.devices, precision=settings.precision)
    fabric.launch()
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    network, optimizer = fabric.setup(model, optimizer)
    steps = -(-(len(train) // fabric.world_size) // settings.batch)  # per epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, settings.epochs * steps)
    run = _Run(folder, model, optimizer, schedule, _identity(model, train, valid, task, settings))
    probe = valid.select(np.random.default_rng(0).permutation(len(valid))[:PROBE_CLIPS])
    progress = tqdm(total=settings.epochs * steps, initial=run.epoch * steps, desc="train", unit="step", disable=None)
    with torch.random.fork_rng(), progress:
        torch.manual_seed(settings.seed)
        if run.random_state is not None:
            torch.set_rng_state(run.random_state)
        for epoch in range(run.epoch, settings.epochs):

            def after_step(losses: list[float], before: int = epoch * steps) -> None:
                progress.update()
                if (before + len(losses)) % EVERY == 0:
                    row = (before + len(losses), float(np.mean(losses[-EVERY:])), evaluate(network, probe, task)[0])
                    run.add(row[0], zip(STEP_CURVES, row, strict=True))

            loss, *seen = train_epoch(fabric, network, optimizer, schedule, train, task, settings, epoch, after_step)
            valid_loss, probabilities = evaluate(network, valid, task)
            scored = [metrics.point_scores(*pair)[task.headline] for pair in (seen, (probabilities, valid.targets))]
            row = (epoch + 1, loss, valid_loss, *scored)
            run.add((epoch + 1) * steps, zip(EPOCH_CURVES, row, strict=True))
            progress.set_postfix(epoch=epoch + 1, train=f"{loss:.3f}", valid=f"{valid_loss:.3f}")
            run.end_epoch(scored[1], valid_loss, write=fabric.is_global_zero)
    run.finish()
    return Fit(run.best, copy_weights(model), run.best_epoch, run.curves, run.seconds)


def copy_weights(model: nn.Module) -> dict:
    """The model's state on the CPU, detached from it."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def _identity(model: nn.Module, train: Pack, valid: Pack, task: Task, settings: Settings) -> str:
    """Digest of all that decides how training goes: only a run that would go the same way is continued."""
    digest = hashlib.sha256(f"{settings} {task} {model}".encode())
    for value in copy_weights(model).values():
        digest.update(value.numpy().tobytes())
    for pack in (train, valid):
        digest.update("".join(pack.digests).encode() + pack.targets.tobytes())
    return digest.hexdigest()


class _Run:
    """What a training run must remember to continue after an interruption as if there had been none."""

    KEPT = ("epoch", "best", "best_merit", "best_epoch", "curves", "seconds", "random_state")

    def __init__(self, folder, model, optimizer, schedule, identity):
        self.parts, self.identity = (model, optimizer, schedule), identity
        self.epoch, self.best, self.best_merit, self.best_epoch = 0, {}, (), 0
        self.curves = {name: [] for name in STEP_CURVES + EPOCH_CURVES}
        self.seconds, self.random_state, self.log = 0.0, None, None
        self.path = folder / "checkpoint.pt" if folder else None
        if folder:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, not needed without a folder

            folder.mkdir(parents=True, exist_ok=True)
            self._resume()
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

    def end_epoch(self, score, loss, write):
        """Remember the best weights so far, and write the checkpoint under its name when complete."""
        # By score, and by loss among equal scores: of an overconfident network the loss rises while it still learns
        merit = (score, -loss) if math.isfinite(score) else (-math.inf, -loss)
        if merit > self.best_merit:
            self.best, self.best_merit, self.best_epoch = copy_weights(self.parts[0]), merit, self.epoch + 1
        self.epoch += 1
        self.seconds, self.random_state = time.perf_counter() - self.started, torch.get_rng_state()
        if self.path and write:
            stored = {name: getattr(self, name) for name in self.KEPT} | {"identity": self.identity}
            temporary = self.path.with_suffix(f".{os.getpid()}")
            torch.save(stored | {"parts": [part.state_dict() for part in self.parts]}, temporary)
            os.replace(temporary, self.path)

    def finish(self):
        if self.log:
            self.log.close()
        if self.path:
            self.path.unlink(missing_ok=True)
