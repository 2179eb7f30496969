"""What a training run must remember to continue after an interruption as if there had been none."""

from __future__ import annotations

import hashlib
import math
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from helpers.data.pack import Pack
from helpers.tasks import Task

STEP_CURVES = ("step", "train_loss", "valid_loss")
EPOCH_CURVES = ("epoch", "epoch_train_loss", "epoch_valid_loss", "epoch_train_score", "epoch_valid_score")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, which takes its place when all went well and is removed when not."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
