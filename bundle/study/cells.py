"""The cells of a sweep: run here in processes or as jobs of a SLURM array; one that fails does not stop the others."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from submitit import SlurmExecutor, SlurmJob
from submitit.helpers import Checkpointable
from tqdm import tqdm

from demo import end_with_parent

ROOT = Path(__file__).resolve().parents[2]
POLL = 5  # seconds between two looks at a cluster's queue
PATIENCE = 60  # looks that may fail one after another, as while a controller restarts
WARNING = 60  # seconds before the end of its time that a job is told; submitit then puts it back into the queue
RESTARTS = 10  # of a job that runs out of time: a training goes on at its last complete epoch


@dataclass(frozen=True, eq=False)
class Cell(Checkpointable):
    """One piece of a sweep: a call that leaves a file, `result`, when all went well. A finished one is not run."""

    title: str
    result: Path
    call: Callable[[], None]

    def __call__(self) -> None:
        self.call()

    @property
    def note(self) -> Path:
        """The file that holds the job's number while it is queued or runs."""
        return self.result.with_suffix(".job")


def run(cells: list[Cell], folder: Path, options) -> list[str]:
    """Run the cells that are not finished, as the command line's `options` say, and return what went wrong.

    `folder` gets scripts and logs of SLURM's jobs: on a file system that the nodes share.
    """
    missing = [cell for cell in cells if not cell.result.is_file()]
    print(f"{len(cells)} cells, {len(cells) - len(missing)} finished before", flush=True)
    if not missing:
        return []
    for cell in missing:
        cell.result.parent.mkdir(parents=True, exist_ok=True)
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


def queued() -> set[str]:
    """Numbers of the jobs that have not ended. Asked of squeue: sacct needs a data base that some clusters lack."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    for _ in range(PATIENCE):
        asked = subprocess.run(command, capture_output=True, text=True)
        if not asked.returncode:
            return set(asked.stdout.split())
        time.sleep(POLL)
    raise RuntimeError(f"squeue: {asked.stderr.strip()}. Jobs in the queue go on; the same command waits for them.")


def on_slurm(cells: list[Cell], folder: Path, options) -> Iterator[tuple[Cell, str]]:
    """Submit the cells that no earlier command has in the queue; each as it ends, with what went wrong."""
    there = queued()
    jobs = {cell: cell.note.read_text() for cell in cells if cell.note.is_file()}
    jobs = {cell: SlurmJob(folder, number) for cell, number in jobs.items() if number in there}
    if jobs:
        print(f"{len(jobs)} jobs of an earlier command are still there: waiting for them.")
    if new := [cell for cell in cells if cell not in jobs]:
        executor = SlurmExecutor(folder, max_num_timeout=RESTARTS)
        executor.update_parameters(
            job_name="sweep",
            time=options.minutes,
            cpus_per_task=2,
            ntasks_per_node=1,
            signal_delay_s=WARNING,
            array_parallelism=options.jobs or len(new),
            setup=[f"cd {shlex.quote(str(ROOT))}", "export TQDM_DISABLE=1 OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK"],
            additional_parameters={"requeue": True} | {name.replace("-", "_"): text for name, text in options.sbatch},
        )
        jobs |= zip(new, executor.submit_array(new), strict=True)
        for cell in new:
            cell.note.write_text(jobs[cell].job_id)
    print(f"SLURM: {len(jobs)} jobs; logs in {folder}", flush=True)
    try:
        while jobs:
            time.sleep(POLL)
            there = queued()
            for cell in [cell for cell, job in jobs.items() if job.job_id not in there]:
                job = jobs.pop(cell)
                cell.note.unlink()
                left = os.listdir(cell.result.parent)  # asks the server of a shared folder, as is_file may not
                yield cell, "" if cell.result.name in left else explain(job)
    except KeyboardInterrupt:
        numbers = " ".join(job.job_id for job in jobs.values())
        print(f"The jobs go on, and the same command waits for them; scancel {numbers} ends them.")
        raise


def explain(job: SlurmJob) -> str:
    """Why a job failed: the last lines of its log, where SLURM too says what it has ended a job for."""
    lines = [line.strip() for line in (job.stderr() or "").splitlines() if line.strip()]
    said = " | ".join(lines[-2:]) or "cancelled before it began, or its node failed"
    return f"job {job.job_id}: {said} ({job.paths.stderr})"
