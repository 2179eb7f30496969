"""Two processes train as one with twice the batch; one that dies ends the training, and the next call continues."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from helpers import training
from helpers.augment import Augment, ahead
from tests.test_cluster import first_epochs
from tests.test_training import SETTINGS, TAGGING, TASK, assert_identical, fit, tones

ROOT = Path(training.__file__).resolve().parent.parent
EXACT = replace(
    SETTINGS, batch=12, precision="32-true", augment=Augment(shift_seconds=0.0)
)  # nothing is drawn per rank
KINDS = {
    "tags": ("RawCNN", TAGGING, {"dropout": 0.0}),
    "one label": ("RawCNN", TASK, {"dropout": 0.0}),
}
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import pytest, torch
from tests import test_distributed as here
folder = Path(sys.argv[2])
with pytest.MonkeyPatch.context() as patch:
    here.on_the_cpu(patch)
    half = here.replace(here.EXACT, batch=6, devices=2)
    found = {name: here.fit_45(name, half) for name in here.KINDS}
    drawn, epoch = here.replace(here.SETTINGS, devices=2), here.training.train_epoch
    found["drawn"] = here.fit("MelCNN", drawn, train=here.tones(45, 0))
    patch.setattr(here.training, "train_epoch", lambda *given: 1 / 0 if given[7] == 2 else epoch(*given))
    with pytest.raises(ZeroDivisionError):
        here.fit("MelCNN", drawn, train=here.tones(45, 0), folder=folder / "run")
    patch.setattr(here.training, "train_epoch", lambda *given: 1 / 0 if given[7] < 2 else epoch(*given))
    found["resumed"] = here.fit("MelCNN", drawn, train=here.tones(45, 0), folder=folder / "run")
torch.save(found, folder / f"{here.training.place().rank}.pt")
"""


def on_the_cpu(patch):
    fabric = training.Fabric
    patch.setattr(training, "Fabric", lambda **given: fabric(**{**given, "accelerator": "cpu"}))


def fit_45(name, settings):
    """45 clips: the last batch is not full, and its halves are not equal."""
    kind, task, options = KINDS[name]
    return fit(kind, settings, task=task, train=tones(45, 0, task), **options)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What both of two processes found."""
    folder = tmp_path_factory.mktemp("pair")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    (folder / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [*launcher, str(folder / "program.py"), str(ROOT), str(folder)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("name", KINDS)
def test_two_processes_train_as_one_with_twice_the_batch(pair, name, monkeypatch):
    on_the_cpu(monkeypatch)
    alone, both = fit_45(name, EXACT), pair[0][name]
    assert both.best_epoch == alone.best_epoch
    for curve, values in alone.curves.items():
        np.testing.assert_allclose(both.curves[curve], values, rtol=1e-4, err_msg=curve)
    for key, value in alone.last.items():
        torch.testing.assert_close(both.last[key], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", [*KINDS, "drawn", "resumed"])
def test_all_processes_end_with_the_same_weights_and_curves(pair, name):
    assert_identical(*(found[name] for found in pair))  # running statistics among the weights


def test_two_processes_continue_from_a_checkpoint_bit_by_bit(pair):
    assert_identical(pair[0]["resumed"], pair[0]["drawn"])


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("clips", [24, 25, 31])
def test_the_shares_of_all_ranks_hold_every_clip_once(world, clips):
    settings = replace(EXACT, batch=12 // world)
    parts = [
        list(
            training.batches_of(SimpleNamespace(global_rank=rank, world_size=world), tones(clips, 0), TASK, settings, 0)
        )
        for rank in range(world)
    ]
    seen = []
    for step in zip(*parts, strict=True):
        weights = [weight for _, _, weight, _ in step]
        assert sum(weights) == pytest.approx(world)  # the mean over ranks is the mean over clips
        shares = [(clips, weight) for clips, _, weight, _ in step if weight]
        total = sum(len(clips) for clips, _ in shares)
        assert all(weight / world == pytest.approx(len(clips) / total) for clips, weight in shares)
        seen += [clip for clips, _ in shares for clip in clips]
    assert sorted(seen) == list(range(clips))


def test_ranks_change_their_clips_differently():
    settings, pack = replace(SETTINGS, augment=Augment(shift_seconds=0.1)), tones(30, 0)
    shifts = []
    for rank in (0, 1):
        place = SimpleNamespace(global_rank=rank, world_size=2)
        clips, waves, *_ = next(training.batches_of(place, pack, TASK, settings, 0))
        first = pack.take(clips)[0]
        shifts.append(next(shift for shift in range(-800, 801) if np.array_equal(np.roll(first, shift), waves[0])))
    assert shifts[0] != shifts[1]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (0, 1, 1)),
        ({"RANK": "3", "WORLD_SIZE": "8", "GROUP_WORLD_SIZE": "2"}, (3, 8, 2)),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2"}, (1, 4, 2)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_NNODES": "2"}, (0, 1, 1)),  # sbatch without srun
    ],
)
def test_a_process_knows_its_place(variables, expected, monkeypatch):
    for name in {name for names in training.LAUNCHERS for name in names}:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert training.place() == expected


def test_more_devices_than_processes_are_refused():
    with pytest.raises(ValueError, match=r"devices: found 2, expected 1, the number of processes.*--devices N"):
        fit(settings=replace(SETTINGS, devices=2))


def test_batches_made_ahead_are_the_same_and_so_are_their_errors():
    assert list(ahead(iter(range(5)))) == list(range(5))

    def failing():
        yield 1
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(ahead(failing()))


def train(toy, out):
    given = {"task": "languages", "data": toy / "languages", "length": 1024, "stride": 1024, "epochs": 8, "batch": 4}
    options = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    return subprocess.Popen(
        [sys.executable, "-m", "bundle", "train", *options, "--devices", "2", "--out", str(out)],
        cwd=ROOT, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def rank_of(process):
    try:
        return process.environ().get("RANK")
    except psutil.Error:
        return None


def test_a_killed_rank_ends_the_training_and_the_same_command_continues(toy, tmp_path):
    broken = train(toy, tmp_path)
    while broken.poll() is None and not list(tmp_path.rglob("checkpoint.pt")):
        time.sleep(0.02)
    children = psutil.Process(broken.pid).children(recursive=True)
    next(child for child in children if rank_of(child) == "1").send_signal(signal.SIGKILL)
    output, errors = broken.communicate()
    assert broken.returncode == 1, output + errors
    assert "Signal 9 (SIGKILL) received" in errors
    assert "the same command continues after the last complete epoch" in output
    (checkpoint,) = tmp_path.rglob("checkpoint.pt")
    assert not list(tmp_path.rglob("raw_cnn*.json"))
    epoch = torch.load(checkpoint, weights_only=True)["epoch"]
    assert 1 <= epoch < 8
    again = train(toy, tmp_path)
    output, errors = again.communicate()
    assert again.returncode == 0, output + errors
    assert "raw_cnn_1024_1024, data set ‘languages’, best epoch" in output
    (path,) = tmp_path.rglob("raw_cnn_1024_1024.json")
    curves = json.loads(path.read_text())["curves"]
    assert curves["epoch"] == list(range(1, 9))
    assert first_epochs(tmp_path)[-1] == epoch + 1  # it did continue
    assert not list(tmp_path.rglob("checkpoint*"))
