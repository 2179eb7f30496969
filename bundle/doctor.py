"""Look at the machine, the installation and a data set, and say what is wrong and how to mend it."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bundle.install import OLDEST_TORCH, WRITTEN_WITH, requirements
from bundle.published import COUNTS, Counts
from helpers import data
from helpers.audio import import_torchaudio
from helpers.data.listing import Listing
from helpers.data.pack import open_packs
from helpers.tasks import TASKS, Task

ROOT = Path(__file__).resolve().parent.parent
SHOWN = 5  # recordings named per finding on the screen; --json names all
LITTLE_DISK, NO_DISK = 10e9, 1e9  # bytes
REQUIRED = ("requirements.txt", "requirements-inference.txt")  # what lacks in another file is a warning


@dataclass(frozen=True)
class Check:
    """One thing looked at: `state` is "ok", "warning" or "problem"; `clips` names the recordings concerned."""

    name: str
    state: str
    found: str
    mend: str = ""
    clips: tuple[str, ...] = ()


def add_arguments(verbs) -> None:
    """Declare `python -m bundle doctor`."""
    parser = verbs.add_parser("doctor", help="check the machine, the installation and the data", description=__doc__)
    parser.add_argument("--task", choices=list(TASKS), help="what the data are for")
    parser.add_argument("--data", type=Path, help="folder of data, read as a run reads it: decoded once, into cache/")
    parser.add_argument("--json", action="store_true", help="print JSON, with the names of all recordings concerned")
    parser.set_defaults(call=command)


def command(options: argparse.Namespace) -> int:
    """Print all findings; 0 when there is no problem (warnings are none), 1 when there is, 2 for half a data set."""
    if (options.task is None) != (options.data is None):
        print("--task and --data belong together: doctor --task nsynth --data FOLDER.", file=sys.stderr)
        return 2
    parts = {"environment": list(environment())}
    if options.data:
        parts[f"data {options.task} in {options.data}"] = list(examine(TASKS[options.task], options.data))
    states = [check.state for checks in parts.values() for check in checks]
    if options.json:
        content = {part: [asdict(check) for check in checks] for part, checks in parts.items()}
        counts = {f"{state}s": states.count(state) for state in ("problem", "warning")}
        print(json.dumps({"schema": 1, **counts, "checks": content}, indent=1, ensure_ascii=False))
    else:
        for part, checks in parts.items():
            print(f"{part}\n" + "\n".join(map(in_words, checks)) + "\n")
        print(f"{states.count('problem')} problems, {states.count('warning')} warnings")
    return 1 if "problem" in states else 0


def in_words(check: Check) -> str:
    """A finding in one line, with its mend and the first recordings concerned below it."""
    lines = [f"{check.state:8} {check.name}: {check.found}"]
    lines += ["         " + clip.encode("unicode_escape").decode() for clip in check.clips[:SHOWN]]
    if len(check.clips) > SHOWN:
        lines.append(f"         … and {len(check.clips) - SHOWN:,} more (--json names all)")
    lines += [f"         mend: {check.mend}"] * bool(check.mend and check.state != "ok")
    return "\n".join("  " + line for line in lines)


def environment(root: Path = ROOT) -> Iterator[Check]:
    """Python, packages, torchaudio, cores, GPU, disk and programs of a bundle in `root`."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"
    old = sys.version_info < (3, 11)
    yield Check("python", "problem" if old else "ok", found, "Python 3.11 or newer; then python bundle/install.py.")
    for path in sorted(root.glob("requirements*.txt")):
        yield packages(path)
    yield torchaudio()
    yield from processors()
    yield from disks(root)
    yield from programs()


def packages(path: Path, installed: dict[str, str] | None = None) -> Check:
    """Compare a requirements file with `installed` (name to version; by default, what this Python has)."""
    if installed is None:
        installed = {part.metadata["Name"]: part.version for part in importlib.metadata.distributions()}
    # +cpu or +cu130 behind the version says how it was built, not what it is
    have = {name.lower().replace("_", "-"): version.split("+")[0] for name, version in installed.items()}
    words, mend, state = [], f"python -m pip install -r {path.name}", "ok"
    if path.name == "requirements.txt":
        mend = "python bundle/install.py"
    for name, wanted in (line.split("==") for line in requirements(path)):
        version = have.get(name.lower().replace("_", "-"))
        if version == wanted:
            continue
        words.append(f"{name} {version} (pinned {wanted})" if version else f"{name} is missing ({wanted})")
        old = version and name == "torch" and tuple(map(int, version.split(".")[:2])) < OLDEST_TORCH
        if old or (not version and path.name in REQUIRED):
            state = "problem"
        elif state == "ok":
            state = "warning"
        if version and name in WRITTEN_WITH:
            mend += f"; a stored SVM is read by the {name} that wrote it"
    return Check(path.name, state, ", ".join(words) or "all as pinned", mend)


def torchaudio() -> Check:
    """Whether torchaudio fits torch: another build's compiled part does not load."""
    mend = "Install both of one release and one build (both +cpu, or both of one CUDA)."
    try:
        found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "torchaudio"))
        import_torchaudio()
    except (ImportError, OSError) as error:
        return Check("torchaudio", "problem", f"cannot be imported ({error})", mend)
    if getattr(sys.modules.get("torchaudio._extension"), "__file__", None) is None:
        found += ": its compiled part was built for another torch and is left out; the mel filters used here need none"
        return Check("torchaudio", "warning", found, f"None needed here. For the rest of torchaudio: {mend}")
    return Check("torchaudio", "ok", found)


def processors() -> Iterator[Check]:
    """Cores and GPUs."""
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Check("cores", "ok", f"{usable} of {os.cpu_count()}, {torch.get_num_threads()} threads for torch")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            part = torch.cuda.get_device_properties(index)
            yield Check("GPU", "ok", f"{part.name}, {part.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}")
    elif shutil.which("nvidia-smi"):
        mend = "Install a torch built for CUDA no newer than the driver's (nvidia-smi names it)."
        yield Check("GPU", "warning", f"there is a driver, but torch {torch.__version__} sees no GPU", mend)
    else:
        yield Check("GPU", "ok", "none; nothing here needs one")


def disks(root: Path) -> Iterator[Check]:
    """Room and rights where files are written."""
    for name, path in (("bundle", root), ("temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(path).free
        found = f"{path}, {free / 1e9:.1f} GB free"
        if os.access(path, os.W_OK):
            state = "problem" if free < NO_DISK else "warning" if free < LITTLE_DISK else "ok"
            yield Check(name, state, found, "Free some; cache/ and runs/ can be made again. NSynth unpacked is 40 GB.")
        else:
            yield Check(name, "warning", f"{found}, not writable", "Write elsewhere with --out, or as its owner.")


def programs() -> Iterator[Check]:
    """LaTeX, Chromium and SLURM, each needed for one thing only."""
    wanted = {"latexmk": shutil.which("latexmk"), "IEEEtran.cls": ""}
    if shutil.which("kpsewhich"):
        wanted["IEEEtran.cls"] = subprocess.run(["kpsewhich", "IEEEtran.cls"], capture_output=True, text=True).stdout
    missing = [name for name, found in wanted.items() if not found]
    mend = "For the reports' PDF: TeX Live with latexmk and IEEEtran (Debian: latexmk texlive-publishers)."
    found = f"{', '.join(missing)} missing" if missing else "latexmk and IEEEtran.cls"
    yield Check("LaTeX", "warning" if missing else "ok", found, mend)
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    mend = "For the video only: Debian's chromium, or CHROMIUM set to the path of another."
    yield Check("Chromium", "ok" if found else "warning", found or "missing", mend)
    found = shutil.which("sbatch") or "not on this machine; only jobs for a cluster need it"
    yield Check("SLURM", "ok", found)


def examine(task: Task, folder: Path, root: Path = ROOT) -> Iterator[Check]:
    """Counts of a folder of data against the published ones, and what its reader leaves out.

    Parameters
    ----------
    task : Task
    folder : Path
        In any layout that `helpers.data.read` knows.
    root : Path
        Decoded recordings go to `root`/cache, where a run finds them.
    """
    try:
        listing = data.read(task, folder)
    except (OSError, ValueError) as error:
        yield Check("layout", "problem", str(error))
        return
    published, problems = COUNTS.get(listing.layout, Counts({})), listing.problems
    yield Check("layout", "ok", listing.layout)
    yield from _counts(listing, published, folder)
    try:
        problems = problems + open_packs(listing, task, root / "cache")[1]  # known, whether or not the splits will do
        loaded = data.load(task, str(folder), root)
        problems = loaded.problems
        yield Check("loading", "ok", " ".join([f"digest {loaded.digest[:12]}.", *loaded.notes]))
    except (OSError, ValueError) as error:
        yield Check("loading", "problem", str(error))
    names = [item.name for items in listing.splits.values() for item in items]
    faults = {name: why for name in names for part, why in published.faults.items() if part in name}
    if faults:
        known = tuple(f"{name}: {why}" for name, why in faults.items())
        mend = "Give figures with and without those that hold sound."
        yield Check("known", "warning", f"{len(known):,} at fault as published", mend, known)
    left = tuple(f"{problem.name}: {problem.reason}" for problem in problems if problem.name not in faults)
    mend = "Get them again (published archives: python -m bundle download), correct the labels, or take them out."
    words = f"{len(left):,} left out of {len(names) + len(listing.problems):,}"
    yield Check("recordings", "problem" if left else "ok", words, mend, left)


def _counts(listing: Listing, published: Counts, folder: Path) -> Iterator[Check]:
    """Clips per split or published folder and, when all are there, per class."""
    clips, labels = Counter(dict.fromkeys(published.splits, 0)), Counter()
    for split, items in listing.splits.items():
        for item in items:
            homes = (item.name.split("/")[0], folder.resolve().name, split)  # a part may be given alone
            clips[next((home for home in homes if home in published.splits), split)] += 1
            labels.update(item.labels)
    for home, count in clips.items():
        wanted = published.splits.get(home, count)
        words = f"{count:,} clips" + (f" of {wanted:,} published" if home in published.splits else "")
        mend = "Not all that was published: figures differ from others'."
        yield Check(home, "ok" if count == wanted else "warning", words, mend)
    whole = all(clips[home] == wanted for home, wanted in published.splits.items())
    for name, wanted in published.classes.items() if whole else ():
        if labels[name] != wanted:
            words = f"{labels[name]:,} of {wanted:,} published"
            yield Check(f"class {name}", "problem", words, "Fetch the label file again.")
