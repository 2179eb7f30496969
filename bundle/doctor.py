"""Look at the machine, the installation and a folder of data, and say what is wrong and how to mend it."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundle.install import requirements, wrong_python
from bundle.published import COUNTS, FAULTS
from helpers import data
from helpers.audio import BadAudio, import_torchaudio, refuse_foreign
from helpers.data.listing import check_groups
from helpers.tasks import TASKS, Task

ROOT = Path(__file__).resolve().parent.parent
LITTLE_DISK = 10e9  # bytes
REQUIRED = ("requirements.txt", "requirements-inference.txt")  # what lacks in another file is a warning


@dataclass(frozen=True)
class Check:
    """One thing looked at; `state` is "ok", "warning" or "problem", `clips` are names of recordings with reasons."""

    state: str
    name: str
    found: str
    mend: str = ""
    clips: Sequence[tuple[str, str]] = ()

    def __str__(self) -> str:
        lines = [f"{self.state:8} {self.name}: {self.found}", *(f"{name}: {why}" for name, why in self.clips)]
        lines += [f"mend: {self.mend}"] * bool(self.state != "ok" and self.mend)
        # Names of files may hold anything, also what a terminal obeys
        return "\n         ".join(line.encode("unicode_escape").decode() for line in lines)


def add_arguments(verbs) -> None:
    """Declare `python -m bundle doctor`."""
    parser = verbs.add_parser("doctor", help="check the machine, the installation and the data", description=__doc__)
    parser.add_argument("--task", choices=list(TASKS), help="what the data are for")
    parser.add_argument(
        "--data", type=Path, help="folder of data; recordings are counted and known by their first bytes, not decoded"
    )
    parser.set_defaults(call=command)


def command(options: argparse.Namespace) -> int:
    """Print all findings; 0 when there is no problem (warnings are none), 1 when there is, 2 for half a data set."""
    if (options.task is None) != (options.data is None):
        print("--task and --data belong together: doctor --task nsynth --data FOLDER.", file=sys.stderr)
        return 2
    states = Counter()
    for check in (*environment(), *(examine(TASKS[options.task], options.data) if options.data else ())):
        states[check.state] += 1
        print(check)
    print(f"{states['problem']} problems, {states['warning']} warnings")
    return 1 if states["problem"] else 0


def environment() -> Iterator[Check]:
    """Python, packages, cores, GPUs, disk, and the programs that are needed for one thing only."""
    from bundle.report.command import PACKAGES

    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"
    yield Check("problem" if wrong_python() else "ok", "python", found, f"The bundle {wrong_python()}.")
    yield from map(packages, sorted(ROOT.glob("requirements*.txt")))
    yield torchaudio()
    yield Check("ok", "cores", str(os.cpu_count()))
    yield from gpus()
    free = shutil.disk_usage(ROOT).free
    mend = "Free some; cache/ and runs/ can be made again. NSynth unpacked is 40 GB."
    yield Check("warning" if free < LITTLE_DISK else "ok", "disk", f"{free / 1e9:.1f} GB free in {ROOT}", mend)
    mend = f"For the reports (Debian): apt install {PACKAGES}."
    yield Check("ok" if shutil.which("latexmk") else "warning", "LaTeX", shutil.which("latexmk") or "missing", mend)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    mend = "For the video (Debian): apt install chromium; or set CHROMIUM to the path of another."
    yield Check("ok" if chromium else "warning", "Chromium", chromium or "missing", mend)
    yield Check("ok", "SLURM", shutil.which("sbatch") or "not on this machine; only jobs for a cluster need it")


def packages(path: Path) -> Check:
    """Compare a requirements file with what this Python has."""
    state, differ = "ok", []
    for name, pinned in (line.split("==") for line in requirements(path)):
        try:
            version = importlib.metadata.version(name).split("+")[0]  # +cpu or +cu130 says how it was built
        except importlib.metadata.PackageNotFoundError:
            version = "missing"
        if version != pinned:
            differ.append(f"{name} {version} (pinned {pinned})")
            worst = version == "missing" and path.name in REQUIRED
            state = "problem" if worst or state == "problem" else "warning"
    mend = "python bundle/install.py" if path.name in REQUIRED else f"python -m pip install -r {path.name}"
    return Check(state, path.name, ", ".join(differ) or "all as pinned", mend)


def torchaudio() -> Check:
    """Whether torchaudio fits torch: another build's compiled part does not load."""
    mend = "Install both of one release and one build (both +cpu, or both of one CUDA)."
    try:
        found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "torchaudio"))
        import_torchaudio()
    except (ImportError, OSError) as error:
        return Check("problem", "torchaudio", f"cannot be imported ({error})", mend)
    if getattr(sys.modules.get("torchaudio._extension"), "__file__", None) is None:
        found += ": its compiled part was built for another torch and is left out; the mel filters used here need none"
        return Check("warning", "torchaudio", found, f"None needed here. For the rest of torchaudio: {mend}")
    return Check("ok", "torchaudio", found)


def gpus() -> Iterator[Check]:
    """What torch sees, or that it does not see what is there."""
    import torch

    for index in range(torch.cuda.device_count()):
        part = torch.cuda.get_device_properties(index)
        yield Check("ok", "GPU", f"{part.name}, {part.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}")
    if not torch.cuda.device_count():
        driver = shutil.which("nvidia-smi")
        found = f"there is a driver, but torch {torch.__version__} sees none" if driver else "none, and none is needed"
        mend = "Install a torch built for CUDA no newer than the driver's (nvidia-smi names it)."
        yield Check("warning" if driver else "ok", "GPU", found, mend)


def examine(task: Task, folder: Path) -> Iterator[Check]:
    """Compare what a folder lists, in any layout that `data.read` knows, with what was published; decodes nothing."""
    try:
        listing = data.read(task, folder)
    except (OSError, ValueError) as error:
        yield Check("problem", "layout", str(error))
        return
    yield Check("ok", "layout", listing.layout)
    published, part = COUNTS.get(listing.layout, {}), folder.resolve().name
    clips, known = Counter(dict.fromkeys(published, 0)), []
    left = [(problem.name, problem.reason) for problem in listing.problems]
    for split, items in listing.splits.items():
        for item in items:
            homes = (item.name.split("/")[0], part, split)  # a part may be given alone
            clips[next((home for home in homes if home in published), split)] += 1
            if fault := next((why for name, why in FAULTS.items() if name in item.name), ""):
                known.append((item.name, fault))
                continue
            try:
                refuse_foreign(item.file)
            except BadAudio as error:
                left.append((item.name, str(error)))
    for split, count in clips.items():
        words = f"{count:,} clips" + (f" of {published[split]:,} published" if split in published else "")
        mend = "Not all that was published: figures differ from others'."
        yield Check("ok" if published.get(split, count) == count else "warning", split, words, mend)
    mend = "Give figures with and without those that hold sound."
    yield Check("warning" if known else "ok", "known", f"{len(known):,} at fault as published", mend, known)
    yield from (Check("warning", "note", note, "Figures are to be read with it in mind.") for note in listing.notes)
    try:
        groups = {split: [item.group for item in items] for split, items in listing.splits.items()}
        check_groups(groups, listing.may_share)
    except ValueError as error:
        yield Check("problem", "groups", str(error))
    mend = "Get them again (python -m bundle download), correct the labels, or take them out."
    yield Check("problem" if left else "ok", "recordings", f"{len(left):,} cannot be used", mend, left)
