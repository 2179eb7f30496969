"""Run a stranger's program in bounds: time, memory, disk, processes, no network, nothing writable but one folder.

Linux gives most of this without privileges, through namespaces (what `unshare --net --mount --pid` does); where it does
not, the program still runs under the limits, and `Ran.guards` says what was in force. Standard library and psutil only:
this file is also the small launcher that sets the limits inside the new process before the stranger's program starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bundle.grade.launch import GUARDS

GIB = 1 << 30
LOG_BYTES = 16_000  # of the end of the output that is kept
POLL_SECONDS = 0.2
LAUNCHER = Path(__file__).with_name("launch.py")
# What a program prints when it meets a limit
WORDS = {
    "memory": ("MemoryError", "can't allocate memory", "Cannot allocate memory", "bad_alloc", "Unable to allocate"),
    "disk": ("File too large", "No space left on device"),
    "processes": ("Resource temporarily unavailable", "can't start new thread"),
}


@dataclass(frozen=True)
class Budget:
    """What a program may use: seconds, bytes of memory (per process and together), bytes written, processes."""

    seconds: float = 600
    memory: int = 4 * GIB
    disk: int = 2 * GIB
    processes: int = 256


@dataclass
class Ran:
    """What came of it.

    Attributes
    ----------
    code : int
        Exit code; 128 + n when signal n ended it.
    ended : str
        "" when it ended by itself, else the budget it exceeded: "time", "memory", "disk", "processes".
    seconds : float
    peak : int
        Most memory seen at once, all its processes together, in bytes.
    log : str
        End of what it printed.
    guards : dict of str to bool
        Which of GUARDS were in force.
    """

    code: int
    ended: str
    seconds: float
    peak: int
    log: str
    guards: dict[str, bool] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Ended by itself, with exit code 0."""
        return self.code == 0 and not self.ended


def run(command: list[str], box: Path, cwd: Path, budget: Budget, threads: int = 1, hidden: Sequence[Path] = ()) -> Ran:
    """Run `command` in `cwd`; it may write under `box` alone, and all its processes are gone afterwards.

    Parameters
    ----------
    command : list of str
    box : Path
        Existing folder; home/ and tmp/ are made in it. The output goes to a file beside it.
    cwd : Path
    budget : Budget
    threads : int
        For the numerical libraries.
    hidden : sequence of Path
        Folders that the program finds empty, where the system allows.
    """
    for name in ("home", "tmp"):
        if (box / name).is_symlink() or (box / name).is_file():  # an earlier program's doing
            (box / name).unlink()
        (box / name).mkdir(exist_ok=True)
    owner = stranger(box)
    if owner != os.getuid():
        for path in (box, *box.iterdir()):
            os.chown(path, owner, owner, follow_symlinks=False)
    base = 0 if owner != os.getuid() else _own_threads()  # the limit counts all processes of a user
    spec = {"box": str(box), "command": command, "owner": owner, "processes": base + 2 * budget.processes}
    spec |= {"memory": int(budget.memory), "disk": int(budget.disk), "hidden": [str(path) for path in hidden]}
    log, (read_end, write_end) = box.with_name(f"{box.name}.log"), os.pipe()
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), json.dumps(spec | {"report": write_end})]
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            launcher, cwd=cwd, env=_environment(box, threads), stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True, pass_fds=(write_end,),
        )  # fmt: skip
    os.close(write_end)
    try:
        ended, peak = _watch(process, box, log, started, budget)
    finally:
        os.set_blocking(read_end, False)  # the launcher wrote before the program started, or never will
        told = b""
        with contextlib.suppress(BlockingIOError):
            told = os.read(read_end, 4096)
        os.close(read_end)
        guards = dict.fromkeys(GUARDS, False) | (json.loads(told) if told else {})
        _end(process, guards["own process space"])
    with log.open("rb") as file:
        printed = log.stat().st_size
        file.seek(max(0, printed - LOG_BYTES))
        text = file.read().decode(errors="replace")
    log.unlink()
    code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    if not ended and code:
        if code == 128 + signal.SIGXFSZ or printed >= budget.disk:
            ended = "disk"
        ended = ended or next((kind for kind, words in WORDS.items() if any(word in text for word in words)), "")
    return Ran(code, ended, time.monotonic() - started, peak, text, guards)


def stranger(box: Path) -> int:
    """User id that a program in `box` runs under: another one for each box when we are root, else our own."""
    return 1 << 30 | box.stat().st_ino & 0xFFFFFFF if os.getuid() == 0 else os.getuid()


def remove(folder: Path) -> None:
    """Delete a folder whatever permissions a stranger set in it; links are not followed."""

    def mend(function, path, _):
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(path), 0o700)
            os.chmod(path, 0o700, follow_symlinks=False) if os.path.isdir(path) and not os.path.islink(path) else None
            shutil.rmtree(path, ignore_errors=True) if function is os.scandir else function(path)

    for _ in range(50):  # a program that was just killed may still be writing
        shutil.rmtree(folder, onerror=mend)
        if not folder.exists():
            return
        time.sleep(0.1)


def used(folder: Path) -> int:
    """Bytes on disk under a folder; what vanishes meanwhile counts nothing."""
    total, folders = 0, [folder]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    total += 4096 + 512 * entry.stat(follow_symlinks=False).st_blocks
    return total


def _environment(box: Path, threads: int) -> dict[str, str]:
    """No token, no home, no path of the grader's reaches the program."""
    single = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(box / "home"), "TMPDIR": str(box / "tmp"),
        "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0",
        "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1", "MPLBACKEND": "agg", **dict.fromkeys(single, str(threads)),
    }  # fmt: skip


def _own_threads() -> int:
    import psutil

    found = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found += process.num_threads() if process.uids().real == os.getuid() else 0
    return found


def _watch(process: subprocess.Popen, box: Path, log: Path, started: float, budget: Budget) -> tuple[str, int]:
    """Wait for the end; returns the budget that was exceeded, if any, and the peak of memory."""
    import psutil

    peak, top = 0, psutil.Process(process.pid)
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)
            return "", peak
        memory, family = 0, []
        with contextlib.suppress(psutil.Error):
            family = top.children(recursive=True)
        for member in family:
            with contextlib.suppress(psutil.Error):
                found = member.memory_info()
                memory += found.rss - found.shared
        if len(family) > budget.processes:
            return "processes", peak
        if memory > budget.memory:  # pages that processes share after a fork were counted for each of them
            memory = _proportional(family, memory)
        peak = max(peak, memory)
        if memory > budget.memory:
            return "memory", peak
        if used(box) + log.stat().st_size > budget.disk:
            return "disk", peak
        if time.monotonic() - started > budget.seconds:
            return "time", peak


def _proportional(family: list, otherwise: int) -> int:
    """Memory of several processes, shared pages divided among them; slower to ask for."""
    import psutil

    total = 0
    for member in family:
        try:
            total += member.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
        except psutil.Error:
            return otherwise
    return total


def _end(process: subprocess.Popen, apart: bool) -> None:
    """Kill the program with all it started: a process space ends at once with its launcher, else each is looked for."""
    import psutil

    if apart:
        process.kill()
    with contextlib.suppress(psutil.Error):
        for member in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                member.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
