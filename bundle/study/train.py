"""Train one network on one or many devices, and keep its weights where notebooks with the same OUT find them.

On several CPUs or GPUs of one machine: --devices. On a cluster: srun, see slurm/train.sbatch. Interrupted, the same
command continues after the last epoch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

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
    """Train, or start the processes that do; 0 when it succeeded, 1 when one of them failed."""
    here = training.place()
    if options.devices > 1 and here.ranks == 1:
        return launch(options.devices, options.out.resolve() / options.task)
    with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet if here.rank else sys.stdout):
        train(options, here)
    return 0


def launch(devices: int, out: Path) -> int:
    """Run this command in as many processes; when one fails, end the others and say which it was."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices)))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=devices, max_restarts=0, run_id=str(os.getpid()),
        rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="localhost",
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-m", "bundle", *sys.argv[1:])
    except ChildFailedError as error:
        # A rank that was killed before those that lost it, and these before those that were told to stop
        rank, failure = min(
            error.failures.items(), key=lambda one: (one[1].exitcode == -signal.SIGTERM, one[1].exitcode)
        )
        how = f"was ended by {failure.signal_name()}" if failure.exitcode < 0 else f"failed with {failure.exitcode}"
        kept = [str(path) for path in sorted(out.rglob("checkpoint.pt"))]
        after = f"from {' or '.join(kept)}" if kept else "from the start: no epoch was complete"
        print(f"FAILED: rank {rank} of {devices} {how}; the others were stopped.", file=sys.stderr)
        print(f"The same command continues {after}.", file=sys.stderr)
        return 1
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
