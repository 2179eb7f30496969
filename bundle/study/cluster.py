"""Calls as jobs of a SLURM array: requeued when preempted or out of time, waited for, and explained when they fail."""

from __future__ import annotations

import getpass
import math
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
SIGNAL = "USR1"  # sent by SLURM before it ends a job; submitit then puts the job back into the queue
WARNING = 60  # seconds before the end of a job's time that it is sent
RESTARTS = 10  # of a job that runs out of time: a training goes on at its last complete epoch
POLL = 2.0  # seconds between two looks at the queue


@dataclass(frozen=True, eq=False)
class Call:
    """What one job does: call a function that leaves a file, `result`, when all went well."""

    title: str
    result: Path
    function: Callable
    arguments: tuple

    def __call__(self) -> None:
        self.function(*self.arguments)

    def checkpoint(self):
        """Called by submitit on the signal; what there is to keep is on disk already."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    @property
    def note(self) -> Path:
        """The file that holds the job's number while it is queued or runs."""
        return self.result.with_suffix(".job")


def add_arguments(parser) -> None:
    """Options of a command that runs here or on a cluster."""
    parser.add_argument("--executor", choices=("local", "slurm"), default="local", help="where (%(default)s)")
    parser.add_argument("--minutes", type=float, default=60, help="time limit of one notebook or job (%(default)s)")
    parser.add_argument("--cpus", type=int, default=2, help="cores of a SLURM job (%(default)s)")
    parser.add_argument(
        "--sbatch", nargs="+", default=[], metavar="NAME=VALUE",
        help="more options of sbatch, such as partition=gpu gres=gpu:1 mem=16G account=NAME",
    )  # fmt: skip


def problem(options) -> str:
    """What is wrong with the options, "" when nothing is."""
    if options.executor == "slurm" and not shutil.which("sbatch"):
        return "--executor slurm: sbatch is not on the PATH. Run this on a login node of the cluster."
    wrong = [text for text in options.sbatch if not all(text.partition("="))]
    return f"--sbatch: found {wrong[0]!r}, expected NAME=VALUE." if wrong else ""


def run(calls: list[Call], folder: Path, options) -> list[str]:
    """Submit what is not queued by an earlier command, wait for all, and return what went wrong.

    `folder` gets scripts and logs, on a file system that the nodes share; `options` are those of `add_arguments`, and
    `jobs`, how many run at a time.
    """
    there = queued(patience=1)
    numbers = {call: call.note.read_text() for call in calls if call.note.is_file()}
    numbers = {call: number for call, number in numbers.items() if number in there}
    if numbers:
        print(f"{len(numbers)} jobs of an earlier command are still there: waiting for them.")
    numbers |= submit([call for call in calls if call not in numbers], folder, options)
    print(f"SLURM: {len(numbers)} jobs; logs in {folder}", flush=True)
    errors = []
    with tqdm(total=len(numbers), unit="job", disable=None) as progress:
        try:
            while numbers:
                time.sleep(POLL)
                there = queued()
                for call in [call for call, number in numbers.items() if number not in there]:
                    number, error = numbers.pop(call), ""
                    if not appears(call.result):
                        error = explain(number, folder)
                        errors.append(f"{call.title}: {error}")
                    call.note.unlink(missing_ok=True)
                    progress.update()
                    progress.write(f"{'FAILED' if error else 'ok':7}{call.title}")
        except KeyboardInterrupt:
            print(
                f"The jobs go on, and the same command waits for them; scancel {' '.join(numbers.values())} ends them."
            )
            raise
    return errors


def submit(calls: list[Call], folder: Path, options) -> dict[Call, str]:
    """Put calls into the queue as one array; their jobs' numbers."""
    os.environ["SUBMITIT_PREEMPT_SIGNAL"] = SIGNAL  # read when submitit is imported, here and in the job
    import submitit

    if not calls:
        return {}
    executor = submitit.SlurmExecutor(folder, max_num_timeout=RESTARTS)
    executor.update_parameters(
        job_name="sweep",
        time=math.ceil(options.minutes),
        cpus_per_task=options.cpus,
        ntasks_per_node=1,
        signal_delay_s=WARNING,
        array_parallelism=options.jobs or len(calls),
        setup=[f"cd {shlex.quote(str(ROOT))}", f"export SUBMITIT_PREEMPT_SIGNAL={SIGNAL}"],
        additional_parameters={"requeue": True} | dict(text.split("=", 1) for text in options.sbatch),
    )
    for call in calls:
        call.result.parent.mkdir(parents=True, exist_ok=True)
    with executor.batch():
        jobs = [executor.submit(call) for call in calls]
    for call, job in zip(calls, jobs, strict=True):
        call.note.write_text(job.job_id)
    return {call: job.job_id for call, job in zip(calls, jobs, strict=True)}


def queued(patience: int = 20) -> set[str]:
    """Numbers of this user's jobs that wait or run, such as "12_0"; asked up to `patience` times.

    Raises
    ------
    RuntimeError
        If SLURM does not answer.
    """
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={getpass.getuser()}"]
    for attempt in range(patience):
        time.sleep(15 if attempt else 0)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return set(done.stdout.split())
    raise RuntimeError(f"squeue: {done.stderr.strip()}. Jobs in the queue go on; the same command waits for them.")


def appears(path: Path, seconds: float = 10) -> bool:
    """Whether a file is there; one written on another node may take a moment to be seen."""
    for _ in range(int(seconds)):
        os.listdir(path.parent)  # a network file system looks again
        if path.is_file():
            return True
        time.sleep(1)
    return False


def explain(number: str, folder: Path) -> str:
    """Why a job has left no result: its state as SLURM tells it, and the last lines of its log."""
    done = subprocess.run(["scontrol", "--oneliner", "show", "job", number], capture_output=True, text=True)
    facts = dict(text.split("=", 1) for text in done.stdout.split() if "=" in text)
    state = f"{facts['JobState']}, exit code {facts['ExitCode']}" if "JobState" in facts else "gone from the queue"
    log = folder / f"{number}_0_log.err"
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    said = " | ".join(line.strip() for line in lines[-2:] if line.strip())
    return f"job {number}: {state}; " + (f"{said} ({log})" if said else f"its log is empty ({log})")
