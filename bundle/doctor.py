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
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from bundle.doctor_data import Check, examine
from bundle.install import OLDEST_TORCH, WRITTEN_WITH, requirements

ROOT = Path(__file__).resolve().parent.parent
SHOWN = 5  # recordings named per finding on the screen; --json names all
LITTLE_MEMORY, LITTLE_DISK, NO_DISK = 4e9, 10e9, 1e9  # bytes
REQUIRED = ("requirements.txt", "requirements-inference.txt")  # what lacks in another file is a warning
# Interrupted packs, renderings, downloads and weights: all are written under a name that begins with a dot
LEFTOVERS = ("cache/.*", "data/.*", "data/*/.*", "data/*/archives/*.part", "weights/*/.*")


def add_arguments(verbs) -> None:
    """Declare `python -m bundle doctor`."""
    from helpers.tasks import TASKS

    parser = verbs.add_parser("doctor", help="check the machine, the installation and the data", description=__doc__)
    parser.add_argument("--task", choices=list(TASKS), help="what the data are for")
    parser.add_argument("--data", type=Path, help="folder of data to look at, every recording once")
    parser.add_argument("--json", action="store_true", help="print JSON, with the names of all recordings concerned")
    parser.set_defaults(call=command)


def command(options: argparse.Namespace) -> int:
    """Print all findings; 0 when there is no problem (warnings are none), 1 when there is, 2 for half a data set."""
    from helpers.tasks import TASKS

    if (options.task is None) != (options.data is None):
        print("--task and --data belong together: doctor --task nsynth --data FOLDER.", file=sys.stderr)
        return 2
    parts = {"environment": list(environment())}
    if options.data:
        parts[f"data {options.task} in {options.data}"] = examine(TASKS[options.task], options.data)
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
    lines = [f"  {check.state:8} {check.name}: {check.found}"]
    for clip in check.clips[:SHOWN]:  # a name may hold a line break
        lines.append("           " + "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in clip))
    if len(check.clips) > SHOWN:
        lines.append(f"           … and {len(check.clips) - SHOWN:,} more (--json names all)")
    return "\n".join(lines + [f"           mend: {check.mend}"] * bool(check.mend and check.state != "ok"))


def environment(root: Path = ROOT) -> Iterator[Check]:
    """Python, packages, machine, disk, programs, weights and leftovers of a bundle in `root`."""
    yield _python()
    for path in sorted(root.glob("requirements*.txt")):
        yield packages(path)
    yield torchaudio()
    yield from machine()
    yield from disks(root)
    yield from programs()
    yield stored_weights(root)
    yield leftovers(root)


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"
    old = sys.version_info < (3, 11)
    return Check("python", "problem" if old else "ok", found, "Python 3.11 or newer; then python bundle/install.py.")


def packages(path: Path, installed: dict[str, str] | None = None) -> Check:
    """Compare a requirements file with `installed` (name to version; by default, what this Python has)."""
    if installed is None:
        installed = {part.metadata["Name"].lower(): part.version for part in importlib.metadata.distributions()}
    installed = {name.lower().replace("_", "-"): version for name, version in installed.items()}
    wanted = dict(line.split("==") for line in requirements(path))
    have = {name: installed.get(name.lower().replace("_", "-")) for name in wanted}
    absent = [name for name, version in have.items() if version is None]
    # +cpu or +cu130 behind the version says how it was built, not what it is
    other = [name for name, version in have.items() if version and version.split("+")[0] != wanted[name]]
    words = [f"{len(wanted) - len(absent) - len(other)} of {len(wanted)} as pinned"]
    words += [f"{name} is missing ({wanted[name]})" for name in absent]
    words += [f"{name} {have[name]} (pinned {wanted[name]})" for name in other]
    old = "torch" in other and tuple(int(part) for part in have["torch"].split(".")[:2]) < OLDEST_TORCH
    state = "warning" if absent or other else "ok"
    if old or (absent and path.name in REQUIRED):
        state = "problem"
    mend = "python bundle/install.py" if path.name == "requirements.txt" else f"python -m pip install -r {path.name}"
    if set(other) & set(WRITTEN_WITH):
        mend += "; a stored SVM is read by the versions that wrote it"
    return Check(path.name, state, ", ".join(words), mend)


def torchaudio() -> Check:
    """Whether torchaudio fits torch: another build's compiled part does not load."""
    from helpers.audio import import_torchaudio

    found = ", ".join(f"{name} {_version(name)}" for name in ("torch", "torchaudio"))
    mend = "Install both of one release and one build (both +cpu, or both of one CUDA)."
    try:
        import_torchaudio()
    except (ImportError, OSError) as error:
        return Check("torchaudio", "problem", f"{found}: cannot be imported ({error})", mend)
    if getattr(sys.modules.get("torchaudio._extension"), "__file__", None) is None:
        found += ": its compiled part was built for another torch and is left out; the mel filters used here need none"
        return Check("torchaudio", "warning", found, f"None needed here. For the rest of torchaudio: {mend}")
    return Check("torchaudio", "ok", found)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def machine() -> Iterator[Check]:
    """Cores, memory, GPU and bf16."""
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Check("cores", "ok", f"{usable} of {os.cpu_count()}, {torch.get_num_threads()} threads for torch")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")  # of a container
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
    state = "warning" if total < LITTLE_MEMORY else "ok"
    yield Check("memory", state, f"{total / 1e9:.1f} GB", "Run one notebook at a time: python -m bundle run --jobs 1.")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            part = torch.cuda.get_device_properties(index)
            bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
            found = f"{part.name}, {part.total_memory / 1e9:.0f} GB, {bf16}, CUDA {torch.version.cuda}"
            yield Check("GPU", "ok", found)
    elif shutil.which("nvidia-smi"):
        mend = "Install a torch built for CUDA no newer than the driver's (nvidia-smi names it)."
        yield Check("GPU", "warning", f"there is a driver, but torch {torch.__version__} sees no GPU", mend)
    else:
        yield Check("GPU", "ok", "none; nothing here needs one")
    able = getattr(torch.cpu, "get_capabilities", dict)()
    units = [name for name in ("avx512_bf16", "amx_bf16", "bf16") if able.get(name)]
    yield Check("bf16 on the CPU", "ok", ", ".join(units) or "not in hardware: slower than float32 there")


def disks(root: Path) -> Iterator[Check]:
    """Room and rights where files are written."""
    for name, path in (("bundle", root), ("temporary files", Path(tempfile.gettempdir())), ("home", Path.home())):
        free = shutil.disk_usage(path).free if path.is_dir() else 0
        found = f"{path}, {free / 1e9:.1f} GB free"
        if not os.access(path, os.W_OK):
            yield Check(name, "warning", f"{found}, not writable", "Write elsewhere with --out, or as its owner.")
            continue
        state = "problem" if free < NO_DISK else "warning" if free < LITTLE_DISK else "ok"
        yield Check(name, state, found, "Free some; cache/ and runs/ can be made again. NSynth unpacked is 40 GB.")


def programs() -> Iterator[Check]:
    """LaTeX, ffmpeg, SLURM and git, each needed for one thing only."""
    latex = [name for name in ("latexmk", "kpsewhich") if not shutil.which(name)]
    if not latex:
        done = subprocess.run(["kpsewhich", "IEEEtran.cls"], capture_output=True, text=True)
        latex = [] if done.stdout.strip() else ["IEEEtran.cls"]
    mend = "For the reports' PDF: TeX Live with latexmk and IEEEtran (Debian: latexmk texlive-publishers)."
    found = f"{', '.join(latex)} missing" if latex else "latexmk and IEEEtran.cls"
    yield Check("LaTeX", "warning" if latex else "ok", found, mend)
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        ffmpeg = get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        ffmpeg = shutil.which("ffmpeg")
    mend = "For the video only: pip install imageio-ffmpeg, or the system's ffmpeg."
    yield Check("ffmpeg", "ok" if ffmpeg else "warning", ffmpeg or "missing", mend)
    slurm = [name for name in ("sbatch", "sinfo") if shutil.which(name)]
    yield Check("SLURM", "ok", ", ".join(slurm) or "not on this machine; only jobs for a cluster need it")
    git = shutil.which("git")
    yield Check("git", "ok" if git else "warning", git or "missing", "Install git: results name the commit.")


def stored_weights(root: Path) -> Check:
    """Whether every stored model is there and has the digest in its description."""
    from helpers.weights import file_digest, read_info

    wrong, good = [], 0
    for path in sorted((root / "weights").glob("*/*.json")):
        try:
            info = read_info(path.parent, path.stem)
            if file_digest(path.parent / info["file"]) != info["sha256"]:
                raise ValueError(f"{path.parent / info['file']}: differs from the digest in {path.name}")
            good += 1
        except (OSError, ValueError) as error:
            wrong.append(str(error))
    found = f"{good} models have their digests" + f", {len(wrong)} not" * bool(wrong)
    mend = "Get the files again (git checkout weights), or train anew: python -m bundle run --mode train --keep."
    return Check("weights", "problem" if wrong else "ok" if good else "warning", found, mend, tuple(wrong))


def leftovers(root: Path) -> Check:
    """What interrupted runs left behind, with its size."""
    paths = sorted(path for pattern in LEFTOVERS for path in root.glob(pattern) if path.name != ".lock")
    sizes = []
    for path in paths:
        files = path.rglob("*") if path.is_dir() else [path]
        sizes.append(sum(file.stat().st_size for file in files if file.is_file()))
    found = f"{len(paths)} left by interrupted runs, {sum(sizes) / 1e9:.2f} GB" if paths else "none"
    words = tuple(f"{path.relative_to(root)}: {size / 1e6:.1f} MB" for path, size in zip(paths, sizes, strict=True))
    mend = "Remove them when no run is under way; an unfinished download goes on from its .part."
    return Check("leftovers", "warning" if paths else "ok", found, mend, words)
