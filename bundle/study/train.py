"""Train one network on one or many devices, and keep its weights where notebooks with the same OUT find them.

On several CPUs or GPUs of one machine: --devices. On a cluster: srun, see slurm/train.sbatch. Interrupted, the same
command continues after the last epoch.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

from bundle.results import named, network, score_of
from helpers import experiment, models, training
from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]


def add_arguments(verbs) -> None:
    """Declare `python -m bundle train`."""
    parser = verbs.add_parser("train", help="train one network on many devices", description=__doc__)
    parser.add_argument("--task", choices=list(TASKS), default="magnatagatune", help="(%(default)s)")
    parser.add_argument("--data", default="demo", help="'demo' or a folder (%(default)s)")
    parser.add_argument(
        "--model", choices=("raw_cnn", "sample_cnn", "mel_cnn"), default="raw_cnn", help="(%(default)s)"
    )
    parser.add_argument("--length", type=int, default=256, help="of a first-layer filter, raw_cnn only (%(default)s)")
    parser.add_argument("--stride", type=int, default=256, help="of the first layer, raw_cnn only (%(default)s)")
    parser.add_argument("--epochs", type=int, default=30, help="(%(default)s)")
    parser.add_argument("--batch", type=int, help="clips per step and device (default: the task's)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument(
        "--devices", type=int, default=1, help="processes to start here, a GPU each where there are any"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "train", help="OUT is this/<task> (%(default)s)")
    parser.set_defaults(call=command)


def command(options) -> int:
    """Train, or become torchrun, which starts the processes that do; 0 when it succeeded, 1 when one of them failed."""
    here = training.place()
    if options.devices > 1 and here.ranks == 1:
        print(
            f"{options.devices} processes: when one fails, torchrun says which and ends the others. Then the same "
            "command continues after the last complete epoch.", flush=True,
        )  # fmt: skip
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // options.devices)))
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={options.devices}"]
        os.execv(sys.executable, [sys.executable, *torchrun, "-m", "bundle", *sys.argv[1:]])
    with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet if here.rank else sys.stdout):
        try:
            train(options, here)
        except ValueError as error:
            print(f"train: {error}", file=sys.stderr)
            return 2
    return 0


def train(options, here: training.Place) -> None:
    """Train in this process, one of `here.ranks`; the first one writes."""
    raw, known = options.model == "raw_cnn", network(options.model)
    parameters = {
        "TASK": options.task, "DATA": options.data, "MODE": "train", "SEED": options.seed, "CLASSES": "",
        "EPOCHS": options.epochs, "TRIALS": 0, "OUT": str(options.out / options.task),
    }  # fmt: skip
    run = experiment.start("03_raw_audio_cnn", ROOT, parameters)
    shape = {"length": options.length, "stride": options.stride} if raw else known.options
    config = models.config_for(run.task, known.kind, len(run.data.classes), **shape)
    settings = training.Settings(options.epochs, options.batch or run.task.batch, seed=options.seed)
    if known.search:  # else it is not tuned
        config, settings, _ = run.tuned(known.search, config, settings)
    started = time.perf_counter()
    name = f"raw_cnn_{options.length}_{options.stride}" if raw else options.model
    _, info = run.train_or_load(name, config, training.replace(settings, devices=here.ranks))
    if info:
        score = score_of(info["scores"][run.task.headline], run.task.headline)
        print(
            f"{name}, {named(run.data.name)}, best epoch {info['best_epoch']}: test {run.task.headline} {score.full}, "
            f"n {score.n}, chance {score.chance:.3f}; {(time.perf_counter() - started) / 60:.1f} minutes on "
            f"{here.ranks} device(s)"
        )
