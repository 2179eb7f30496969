"""The cells of a sweep: run here in processes or as jobs of a SLURM array; one that fails does not stop the others."""

from __future__ import annotations

import getpass
import hashlib
import json
import math
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from submitit import SlurmExecutor, SlurmJob
from submitit.helpers import Checkpointable
from submitit.slurm.slurm import SlurmInfoWatcher
from tqdm import tqdm

from demo import end_with_parent

ROOT = Path(__file__).resolve().parents[2]
WARNING = 60  # seconds before the end of its time that a job is told; submitit then puts it back into the queue
RESTARTS = 10  # of a job that runs out of time: a training goes on at its last complete epoch
ENDED = (
    "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "FORGOTTEN",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Cell(Checkpointable):
    """One piece of a sweep: a function that leaves a file, `result`, when all went well. A finished one is not run."""

    title: str
    result: Path
    function: Callable
    arguments: tuple

    def __call__(self) -> None:
        self.function(*self.arguments)

    @property
    def note(self) -> Path:
        """The file that holds the job's number while it is queued or runs."""
        return self.result.with_suffix(".job")


def digest_of(what: dict) -> str:
    """Of all that decides a cell, for its file's name."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def run(cells: list[Cell], folder: Path, options) -> list[str]:
    """Run the cells that are not finished, and return what went wrong.

    Parameters
    ----------
    cells : list of Cell
    folder : Path
        Gets scripts and logs of jobs, on a file system that the nodes share.
    options : Namespace
        `executor` ("local" or "slurm"), `jobs` (at a time) and of SLURM `minutes`, `cpus` (of a job) and `sbatch`.
    """
    missing = [cell for cell in cells if not cell.result.is_file()]
    print(f"{len(cells)} cells, {len(cells) - len(missing)} finished before", flush=True)
    for cell in missing:
        cell.result.parent.mkdir(parents=True, exist_ok=True)
    if not missing:
        return []
    done = on_slurm(missing, folder, options) if options.executor == "slurm" else here(missing, options.jobs)
    failed = []
    with tqdm(total=len(missing), unit="cell", disable=None) as progress:
        for cell, error in done:
            failed += [f"{cell.title}: {error}"] * bool(error)
            progress.update()
            progress.write(f"{'FAILED' if error else 'ok':7}{cell.title}")
    if failed:
        print(f"{len(failed)} of {len(cells)} cells failed; the same command runs only these again.")
    return failed


def here(cells: list[Cell], jobs: int | None) -> Iterator[tuple[Cell, str]]:
    """Run cells in processes that share the cores; each as it ends, with what went wrong."""
    cores = os.cpu_count() or 1
    jobs = jobs or cores
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (max(1, cores // jobs),)) as pool:
        waiting = {pool.submit(cell): cell for cell in cells}
        for future in as_completed(waiting):
            error = future.exception()
            yield waiting[future], f"{type(error).__name__}: {error}" if error else ""


def _begin(threads: int) -> None:
    """Begin a worker, before it imports what its first cell needs."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it, else it would go on with the next cell
    os.environ |= {"OMP_NUM_THREADS": str(threads), "TQDM_DISABLE": "1"}


class Queue(SlurmInfoWatcher):
    """States of jobs from squeue: sacct, which submitit asks by itself, needs a data base that some clusters lack."""

    def _make_command(self) -> list[str]:
        return ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T", f"--user={getpass.getuser()}"]

    def read_info(self, string: bytes) -> dict[str, dict[str, str]]:
        """State of every job that was asked for; SLURM forgets an ended one after some minutes."""
        there = dict(line.split() for line in string.decode().splitlines())
        return {number: {"State": there.get(number, "FORGOTTEN")} for number in self._registered}

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Whether it ended: one that is suspended, or put back into the queue, has not."""
        return self.get_state(job_id, mode) in ENDED


class Job(SlurmJob):
    """A job of submitit's that asks `Queue`."""

    watcher = Queue(delay_s=10)


def on_slurm(cells: list[Cell], folder: Path, options) -> Iterator[tuple[Cell, str]]:
    """Submit the cells that no earlier command has in the queue; each as it ends, with what went wrong."""
    noted = {cell: Job(folder, cell.note.read_text()) for cell in cells if cell.note.is_file()}
    jobs = {cell: job for cell, job in noted.items() if not job.done()}
    if jobs:
        print(f"{len(jobs)} jobs of an earlier command are still there: waiting for them.")
    if new := [cell for cell in cells if cell not in jobs]:
        executor = SlurmExecutor(folder, max_num_timeout=RESTARTS)
        executor.update_parameters(
            job_name="sweep",
            time=math.ceil(options.minutes),
            cpus_per_task=options.cpus,
            ntasks_per_node=1,
            signal_delay_s=WARNING,
            array_parallelism=options.jobs or len(new),
            setup=[f"cd {shlex.quote(str(ROOT))}", f"export TQDM_DISABLE=1 OMP_NUM_THREADS={options.cpus}"],
            additional_parameters={"requeue": True} | dict(options.sbatch),
        )
        for cell, job in zip(new, executor.submit_array(new), strict=True):
            cell.note.write_text(job.job_id)
            jobs[cell] = Job(folder, job.job_id)
    print(f"SLURM: {len(jobs)} jobs; logs in {folder}", flush=True)
    try:
        while jobs:
            for cell, job in [(cell, job) for cell, job in jobs.items() if job.done()]:
                yield cell, explain(job) if job.exception() else ""
                del jobs[cell]
                cell.note.unlink()
            time.sleep(1)
    except KeyboardInterrupt:
        numbers = " ".join(job.job_id for job in jobs.values())
        print(f"The jobs go on, and the same command waits for them; scancel {numbers} ends them.")
        raise


def explain(job: Job) -> str:
    """Why a job failed: its state as SLURM tells it, and the last lines of its log."""
    while not job.watcher.is_done(job.job_id):
        time.sleep(1)  # what it died of is known before its log is complete
    lines = [line.strip() for line in (job.stderr() or "").splitlines() if line.strip()]
    said = " | ".join(lines[-2:]) or "its log is empty"
    return f"job {job.job_id}: {job.state}; {said} ({job.paths.stderr})"
