"""Several processes ("ranks") that train one network together: which one this is, and what all of them found."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import DDPStrategy

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
