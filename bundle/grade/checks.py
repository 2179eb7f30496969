"""What any brief asks of a submission's files, each check with its evidence. They run where a stranger's file can do
no harm: see `bundle.grade.sandbox`.

A check takes a `Submission` and returns (state, evidence); the state is PASS, FAIL or OPEN, not checkable.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from bundle.grade.pickles import PICKLES, WEIGHTS, judge
from bundle.grade.submission import Submission

PASS, FAIL, OPEN = "pass", "fail", "not checkable"
AUDIO = (".wav", ".mp3", ".flac", ".ogg", ".opus", ".aif", ".aiff", ".m4a", ".wma", ".au")
DATA = (".npy", ".tfrecord", ".parquet", ".feather", ".arrow", ".lmdb", ".mat", ".mdb")
DATA_NAMES = ("examples.json", "annotations_final.csv", "train_labels.pkl", "val_labels.pkl")
ARRAYS_BYTES = 5 << 20  # an .npz may hold predictions; a larger one holds data
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
CACHES = {"__pycache__", ".ipynb_checkpoints", ".git", ".cache", "cache", ".pytest_cache", ".ruff_cache", ".venv",
          "venv", "site-packages", "wandb", "node_modules", ".idea", ".vscode"}  # fmt: skip
PACKAGES = {
    "scikit-learn": "sklearn",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "opencv-python": "cv2",
    "pysoundfile": "soundfile",
}
Answer = tuple[str, str]


def some(names: list[str], count: int = 4) -> str:
    """The first few of a list of names."""
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


def pickles_are_plain(sub: Submission) -> Answer:
    """No pickle and no weights file asks for code; nothing is unpickled to find out."""
    suspects = [name for name in sub.files if _may_hold_a_pickle(sub.root / name)]
    judged = {name: judge(sub.root / name) for name in suspects}
    for state in (FAIL, OPEN):
        if found := [f"{name}: {reason}" for name, (got, reason) in judged.items() if got == state]:
            return state, "; ".join(found[:4]) + (f"; {len(found) - 4} more" if len(found) > 4 else "")
    return PASS, f"none of the {len(suspects)} weights and pickles asks for more than tensors"


def _may_hold_a_pickle(path: Path) -> bool:
    if path.suffix.lower() in (*PICKLES, *WEIGHTS, ".npy"):
        return True
    with path.open("rb") as file:
        start = file.read(2)
    return start[:1] == b"\x80" and start[1:] in (b"\2", b"\3", b"\4", b"\5")


def weights_load(sub: Submission) -> Answer:
    """Every weights file loads without unpickling."""
    names, good, problems, unknown = sub.having(*WEIGHTS), [], [], []
    for name in names:
        path = sub.root / name
        if judge(path)[0] == FAIL:
            problems.append(f"{name}: not loaded, see above")
            continue
        try:
            if name.endswith((".pt", ".pth", ".ckpt", ".bin")):
                _load(path)
            else:
                unknown.append(name)
                continue
            good.append(name)
        except TimeoutError:  # the rule's time is over, which is nobody's fault
            raise
        except Exception as error:  # a stranger's file raises what it likes
            problems.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}")
    if problems:
        return FAIL, "; ".join(problems[:4])
    if unknown or not names:
        return OPEN, f"no loader here for {some(unknown)}" if unknown else "no weights in the zip"
    return PASS, f"{len(good)} loaded as plain tensors: {some(good)}"


def _load(path: Path) -> None:
    """A state dict, or a TorchScript archive, which holds no Python objects."""
    import zipfile

    import torch

    entries = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
    if any(entry.endswith("/constants.pkl") for entry in entries):
        torch.jit.load(path, map_location="cpu")
    else:
        torch.load(path, map_location="cpu", weights_only=True)


def no_data(sub: Submission) -> Answer:
    """No recordings, feature arrays or label files."""
    found = [name for name in sub.files if name.lower().endswith((*AUDIO, *DATA)) or Path(name).name in DATA_NAMES]
    found += [name for name in sub.having(".npz", ".csv") if (sub.root / name).stat().st_size > ARRAYS_BYTES]
    if found:
        return FAIL, f"{len(found)} files of data: {some(found)}"
    if packed := sub.having(*ARCHIVES):
        return FAIL, f"archives inside the zip, not opened: {some(packed)}"
    return PASS, f"none among {len(sub.files)} files"


def no_caches(sub: Submission) -> Answer:
    """No caches, checkpoints of editors, or version control."""
    found = [name for name in sub.files if CACHES & set(Path(name).parts[:-1]) or name.endswith((".pyc", ".pyo"))]
    return (FAIL, f"{len(found)} files: {some(found)}") if found else (PASS, f"none among {len(sub.files)} files")


def no_test_data(sub: Submission) -> Answer:
    """No recording of the grader's test data, no list of their labels, none of them in a list for training."""
    digests, names = set(sub.known.get("files", [])) | set(sub.known.get("samples", [])), sub.known.get("names", {})
    copies = [name for name in sub.having(*AUDIO, ".npy") if _digests(sub, name) & digests]
    if copies:
        return FAIL, f"{len(copies)} recordings of the grader's test data: {some(copies)}"
    if not names:
        return OPEN, "the test data have no names to look for"
    enough, notes = max(5, len(names) // 20), []
    for name in sub.having(".csv", ".tsv", ".txt", ".json", ".jsonl", ".py", ".ipynb", ".md", ".toml", ".yaml", ".yml"):
        found, labelled = _named(sub.text(name), names)
        if found >= enough and labelled >= 0.99 * found:
            return FAIL, f"{name}: holds the labels of {labelled} of {len(names)} test recordings"
        if found >= enough and "train" in name.lower():
            return FAIL, f"{name}: lists {found} of {len(names)} test recordings for training"
        notes += [f"{name} names {found}"] if found >= enough else []
    return PASS, f"no copy and no answers of {len(names)} test recordings" + "".join(f"; {note}" for note in notes)


def _digests(sub: Submission, name: str) -> set[str]:
    """Of a file's bytes, and of its samples at the task's rate."""
    from helpers import audio

    content = hashlib.sha256((sub.root / name).read_bytes()).hexdigest()
    try:
        wave = audio.decode(sub.root / name, sub.known["rate"])[0]
    except (audio.BadAudio, KeyError):
        return {content}
    return {content, samples_digest(wave)}


def samples_digest(wave) -> str:
    """SHA-256 of a waveform rounded to 8 bits, so that another container or sample format does not hide a copy."""
    import numpy as np

    return hashlib.sha256(np.rint(np.clip(wave, -1, 1) * 127).astype(np.int8).tobytes()).hexdigest()


def _named(text: str, names: dict[str, list[str]]) -> tuple[int, int]:
    """How many of the recordings a text names, and for how many their labels follow before the next one."""
    found: dict[str, bool] = {}
    places = [
        (match.end(), stem)
        for match in re.finditer(r"[^\s,;:\"'\\/|=(){}\[\]]+", text)
        if (stem := re.sub(r"\.(wav|mp3|flac|ogg|npy)$", "", match[0])) in names
    ]
    ends = [place for place, _ in places[1:]] + [len(text)]
    for (start, stem), end in zip(places, ends, strict=False):
        words = text[start : min(end, start + 2000)]
        labels = names[stem]
        there = bool(labels) and all(re.search(rf"(?<!\w){re.escape(label)}(?!\w)", words) for label in labels)
        found[stem] = found.get(stem, False) or there
    return len(found), sum(found.values())


def scripts_are_python(sub: Submission) -> Answer:
    """Every script and notebook parses."""
    good, bad = sub.trees
    if bad:
        return FAIL, "; ".join(f"{name}: {reason}" for name, reason in list(bad.items())[:4])
    return (PASS, f"all {len(good)} scripts and notebooks") if good else (FAIL, "no script and no notebook")


def notebooks_are_ready(sub: Submission) -> Answer:
    """Valid notebooks with a parameters cell, without the output of an error."""
    import nbformat

    problems, names = [], sub.having(".ipynb")
    for name in names:
        try:
            notebook = nbformat.reads(sub.text(name), as_version=4)
            nbformat.validate(notebook)
        except Exception as error:  # nbformat raises what a stranger's JSON provokes
            problems.append(f"{name}: not a notebook ({type(error).__name__}: {str(error)[:60]})")
            continue
        if not any("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells):
            problems.append(f"{name}: no cell tagged 'parameters'")
        for number, cell in enumerate(notebook.cells):
            failed = [output for output in cell.get("outputs", []) if output.output_type == "error"]
            problems += [f"{name}: cell {number} ended with {failed[0].get('ename')}"] if failed else []
    if problems:
        return FAIL, "; ".join(problems[:4]) + (f"; {len(problems) - 4} more" if len(problems) > 4 else "")
    return (PASS, some(names)) if names else (OPEN, "no notebook in the zip")


def requirements(sub: Submission) -> list[str]:
    """Lines of requirements.txt, whatever its case, without comments."""
    found = sub.matching(r"requirements\.txt")
    lines = found[0].read_text("utf-8", errors="replace").splitlines() if found else []
    return [line for line in (line.split("#")[0].strip() for line in lines) if line]


def requirements_pinned(sub: Submission) -> Answer:
    """There is a requirements.txt, and every line names one version."""
    if not (lines := requirements(sub)):
        return FAIL, "no requirements.txt, or an empty one"
    loose = [line for line in lines if not re.search(r"==|===|@ |^-r |^--", line)]
    return (FAIL, f"without a version: {some(loose)}") if loose else (PASS, f"{len(lines)} lines, all pinned")


def requirements_needed(sub: Submission) -> Answer:
    """Nothing is required that predict.py does not import."""
    if "predict.py" not in sub.files or not (lines := requirements(sub)):
        return FAIL, "no predict.py or no requirements.txt"
    used = sub.imports("predict.py")
    names = [re.split(r"[=<>!~\[ ;@]", line)[0].lower() for line in lines if not line.startswith("-")]
    extra = [name for name in names if PACKAGES.get(name, name.replace("-", "_")) not in used]
    return (FAIL, f"not imported by predict.py: {some(extra)}") if extra else (PASS, f"all {len(names)} are imported")


def claims(sub: Submission) -> list[dict]:
    """The results files of the report, report/results/*/*.json, those that can be read."""
    found = []
    for name in sub.having(".json"):
        if re.search(r"(^|/)results/", name):
            try:
                content = json.loads(sub.text(name))
            except (ValueError, RecursionError):
                continue
            if isinstance(content, dict) and isinstance(content.get("metrics"), dict):
                found.append(content | {"file": name})
    return found
