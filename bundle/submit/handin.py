"""What each brief wants handed in, by name, and those files gathered from the bundle."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bundle.grade.rubric import TASK
from bundle.grade.torchscript import ABOUT
from helpers import inference, weights
from helpers.tasks import get_task

FILE_BYTES = 40 << 20  # a larger file is no code, no report and none of our weights
SKIPPED = re.compile(r"\..*|__pycache__|.*\.(py[co]|egg-info|log)|.*~")  # what machines leave in folders
TEACHING = ("demo", "helpers", "notebooks")


class Handin(NamedTuple):
    """What one brief wants; {id} is filled in wherever it stands."""

    archive: str  # name of the zip
    identity: tuple[str, str]  # pattern of an id, and one in words
    folders: tuple[str, ...]  # of the bundle, taken with all that is in them
    files: dict[str, str]  # name in the zip: file of the bundle
    loose: dict[str, str]  # the same, beside the zip
    weights: str  # "one": the chosen model; "torchscript": it in that form; all "networks"; "all"
    authors: tuple[str, ...]  # what of report/authors.toml is handed in


PLAIN = (b"#", b"torch==", b"numpy==", b"soundfile==")  # what templates/plain_predict.py needs
CODE = {"predict.py": "predict.py"}
ALL = CODE | {"requirements.txt": "requirements.txt", "requirements-demo.txt": "requirements-demo.txt"}
INFERENCE = {"requirements.txt": "requirements-inference.txt", "requirements-training.txt": "requirements.txt"}
HANDINS = {
    "ntu": Handin(
        "{id}_code.zip", (r"[A-Za-z]*\d+", "a student number such as r12345678"), TEACHING,
        CODE | INFERENCE | {"README.txt": "bundle/submit/templates/ntu.txt"},
        {"{id}_report.pdf": "report/slides/slides.pdf"}, "one", ("name", "number", "drive"),
    ),
    "bristol": Handin(
        "{id}.zip", (r"\w[\w.-]*", "a user name such as ab12345"), (*TEACHING, "bundle", "slurm"),
        ALL | {"README.txt": "bundle/submit/templates/bristol.txt", "report.pdf": "report/ieee/ieee.pdf"},
        {}, "networks", ("name", "username", "signed", "date", "statement"),
    ),
    "ucd": Handin(
        "{id}.zip", (r"\w[\w.-]*", "a student number such as 12345678"), (*TEACHING, "bundle"),
        ALL | {"README.txt": "bundle/submit/templates/ucd.txt", "paper.pdf": "report/neurips/neurips.pdf"},
        {"{id}_video.mp4": "report/walkthrough.mp4"}, "all", ("name", "number"),
    ),
    "languages": Handin(
        "group_{id}.zip", (r"\w+", "a group's id such as 1"), TEACHING,
        {"predict.py": "bundle/submit/templates/plain_predict.py", **INFERENCE,
         "README.txt": "bundle/submit/templates/languages.txt", "report.pdf": "report/onepage/onepage.pdf"},
        {}, "torchscript", ("name", "group", "roles"),
    ),
}  # fmt: skip


@dataclass
class Pack:
    """Files of a hand-in: content by name in the zip, paths by name beside it; what is not there, what may not be."""

    archive: str
    task: str
    inside: dict[str, bytes] = field(default_factory=dict)
    loose: dict[str, Path] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def gather(root: Path, brief: str, identity: str, task: str = "", model: Path | None = None) -> Pack:
    """The files of a hand-in.

    Parameters
    ----------
    root : Path
        The bundle; need not be a git checkout.
    brief, identity : str
        A key of HANDINS; the student's, user's or group's id.
    task : str
        "" for the brief's own.
    model : Path, optional
        NAME.json of the model that predicts, under `root`/weights; the mel network trained on the demo if not given.

    Raises
    ------
    ValueError
        If the id or the weights are not what the brief can take.
    """
    handin, task = HANDINS[brief], task or TASK[brief]
    if not re.fullmatch(handin.identity[0], identity, re.ASCII) or len(identity) > 40:
        raise ValueError(f"--id: found {identity!r}, expected {handin.identity[1]}. It names the files.")
    chosen = (model or root / "weights" / f"{task}-demo" / "mel_cnn.json").resolve()
    if chosen.suffix != ".json" or not chosen.is_file() or chosen.parent.parent != (root / "weights").resolve():
        raise ValueError(f"{chosen}: no weights of this bundle, expected weights/<task>-<data>/NAME.json. Train them.")
    about = json.loads(chosen.read_text(encoding="utf-8"))
    if about.get("task") != task:
        raise ValueError(f"{chosen}: weights of task {about.get('task')}, expected {task}. Choose others.")
    pack = Pack(handin.archive.format(id=identity), task)
    for folder in handin.folders:
        found = files_of(root / folder)
        pack.absent += [] if found else [f"{folder}/"]
        for path in found:
            _take(pack, path, path.relative_to(root).as_posix())
    for name, source in handin.files.items():
        _take(pack, root / source, name, source)
    several = handin.weights in ("networks", "all")
    models = sorted((root / "weights").glob(f"{task}-*/*.json")) if several else [chosen]
    for info in models if handin.weights != "torchscript" else ():
        file = json.loads(info.read_text(encoding="utf-8"))["file"]
        if handin.weights != "networks" or file.endswith(".pt"):
            for path in (info, info.with_suffix(".md"), info.with_name(file)):
                _take(pack, path, f"weights/{info.parent.name}/{path.name}")
    if handin.weights == "torchscript":
        pack.inside[f"{chosen.stem}.pt"] = torchscript(chosen, root)
        lines = pack.inside.get("requirements.txt", b"").splitlines(keepends=True)
        pack.inside["requirements.txt"] = b"".join(line for line in lines if line.startswith(PLAIN))
    # The report's figures, and with several models also the predictions that they can be recomputed from
    for path in sorted((root / "report/results").glob(f"{task}-*/*" if several else f"{chosen.parent.name}/*")):
        if path.suffix in (".json", ".npz")[: 1 + several]:
            _take(pack, path, path.relative_to(root).as_posix())
    if several:
        _take(pack, root / "report/results/README.md", "report/results/README.md")
    for name, source in handin.loose.items():
        if (root / source).is_symlink() or not (root / source).is_file():
            pack.absent.append(source)
        else:
            pack.loose[name.format(id=identity)] = root / source
    data = "rendered demo data" if about["data"] == "demo" else f"the data set {about['data']}"
    words = {"id": identity, "task": task, "data": data, "model": chosen.stem, "folder": chosen.parent.name}
    pack.inside["README.txt"] = pack.inside["README.txt"].decode().format(**words).encode()
    return pack


def torchscript(info: Path, root: Path) -> bytes:
    """Saved weights, by their NAME.json, as a TorchScript archive: the same bytes for the same weights.

    A process of its own makes it, for names and their order in the archive depend on what a process did before.

    Raises
    ------
    ValueError
        If they are no network's, or altered.
    """
    program = "import sys; from bundle.submit.handin import export; sys.stdout.buffer.write(export(sys.argv[1]))"
    surroundings = os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": str(root)}
    command = [sys.executable, "-W", "ignore", "-c", program, str(info)]
    done = subprocess.run(command, cwd=root, env=surroundings, capture_output=True)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ValueError(f"{info}: cannot be written as TorchScript ({''.join(last)}). Choose a network's weights.")
    return done.stdout


def export(name: str) -> bytes:
    """What `torchscript` returns, made here; `name` is the path of NAME.json."""
    info = Path(name)
    task = get_task(weights.read_info(info.parent, info.stem)["task"])
    model, about = weights.load(info.parent, info.stem, task)
    if info.with_suffix(".pt").name != about["file"]:
        raise ValueError(f"{about['file']} holds no network")
    told = {"task": task.name, "data": about["data"], "classes": about["classes"], "rate": task.rate}
    told |= {"window": task.window_samples, "multi_label": task.multi_label}
    with tempfile.TemporaryDirectory() as scratch:
        return inference.export(model, Path(scratch) / "model.pt", {ABOUT: json.dumps(told)}).read_bytes()


def files_of(folder: Path) -> list[Path]:
    """All files under a folder, sorted, but for caches and hidden ones; links are named, not followed."""
    found = []
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        folders[:] = [name for name in folders if not SKIPPED.fullmatch(name) and name not in links]
        found += [Path(place) / name for name in (*names, *links) if not SKIPPED.fullmatch(name)]
    return sorted(found)


def _take(pack: Pack, path: Path, name: str, source: str = "") -> None:
    if path.is_symlink():
        pack.refused.append(f"{source or name}: a link, expected a file")
    elif not path.is_file():
        pack.absent.append(source or name)
    elif path.stat().st_size > FILE_BYTES:
        pack.refused.append(f"{source or name}: {path.stat().st_size:,} bytes, expected at most {FILE_BYTES:,}")
    else:
        content = path.read_bytes()
        pack.inside[name] = _without_place(content) if name.startswith("report/") else content


def _without_place(content: bytes) -> bytes:
    """A results file that names the data's folder instead of where on this machine it lies."""
    try:
        place = json.loads(content)["parameters"]["DATA"]
    except (ValueError, KeyError, TypeError):  # a table, or a file of another kind
        return content
    if not isinstance(place, str) or not os.path.isabs(place):
        return content
    return content.replace(json.dumps(place).encode(), json.dumps(Path(place).name).encode())
