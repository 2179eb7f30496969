"""Store models and get them back unchanged. Every file is checked against its digest; nothing is ever unpickled.

A model is three files: NAME.pt (a CPU state dict; of an SVM NAME.npz, plain arrays), NAME.json, and NAME.md, its card.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from helpers import features, models
from helpers.files import finish, together
from helpers.tasks import Task

NEEDED = {"file": str, "sha256": str, "task": str, "classes": list, "data": str}  # in every description
MEND = "Get the file again (git checkout, or the release), or train with MODE='train'."


def save(folder: Path, name: str, model, info: dict) -> None:
    """Write a model with its description and card: all three, or none of them.

    Parameters
    ----------
    folder : Path
        `weights/<task>-<data>`; made when missing.
    name : str
        Such as "mel_cnn".
    model : nn.Module or models.KernelMachine
    info : dict
        JSON: at least "task", "classes" (logit order) and "data", and "config" for a network.
    """
    suffix = ".pt" if isinstance(model, nn.Module) else ".npz"
    with together(folder) as staged:
        path = staged / f"{name}{suffix}"
        with path.open("wb") as file:  # given a name, torch would write it into the archive
            if suffix == ".pt":
                torch.save({key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}, file)
            else:
                np.savez_compressed(file, **model.arrays)
        stored = {"schema": 1, "file": path.name, "sha256": file_digest(path)}
        info = stored | {"bytes": path.stat().st_size} | info
        path.with_suffix(".json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(card(name, info), encoding="utf-8")


def load(folder: Path, name: str, task: Task, classes: Sequence[str] | None = None):
    """Rebuild a model and its description, in evaluation mode on the CPU; never trains and never downloads.

    `classes`, where given, are what the weights' must be, in this order.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing or was altered, is of another task or other classes, or holds what is not weights.
    """
    info = read_info(folder, name)
    path = folder / info["file"]
    if info["task"] != task.name:
        raise ValueError(f"{path}: weights of task '{info['task']}', expected '{task.name}'. Choose the other TASK.")
    if classes is not None and tuple(info["classes"]) != tuple(classes):
        raise ValueError(
            f"{path}: weights for the classes {', '.join(info['classes'])}; expected {', '.join(classes)}, in this "
            "order. Train on these data (MODE='train'), or choose CLASSES."
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the weights are missing, only their description is there. {MEND}")
    if (found := file_digest(path)) != info["sha256"]:
        raise ValueError(f"{path}: digest {found[:12]}…, expected {info['sha256'][:12]}…. {MEND}")
    try:
        if path.suffix == ".npz":
            return _load_arrays(path, info, task), info
        if info["config"]["classes"] != len(info["classes"]):
            raise ValueError(f"{len(info['classes'])} classes for a network of {info['config']['classes']}")
        model = models.build(info["config"])
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # whatever a stranger's file raises, it is not our weights
        reason = f"{type(error).__name__} {error}".splitlines()[0]
        raise ValueError(f"{path}: refused ({reason}), expected what {name}.json describes. {MEND}") from error
    return model.eval(), info


def _load_arrays(path: Path, info: dict, task: Task) -> models.KernelMachine:
    with np.load(path, allow_pickle=False) as stored:
        machine = models.KernelMachine(**stored)
    wanted = features.pooled(np.zeros((1, task.window_samples), np.float32), task).shape[1], len(info["classes"])
    if (found := (len(machine.mean), len(machine.bias))) != wanted:
        raise ValueError(f"(features, classes) {found}, expected {wanted}")
    return machine


def read_info(folder: Path, name: str) -> dict:
    """The description beside a model's weights; FileNotFoundError or ValueError where none can be used."""
    finish(folder)
    path = folder / f"{name}.json"
    if not path.is_file():
        there = ", ".join(sorted(other.stem for other in folder.glob("*.json"))) or "none"
        raise FileNotFoundError(f"{path}: no such weights (there: {there}). {MEND}")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        if missing := [key for key, kind in NEEDED.items() if not isinstance(info.get(key), kind)]:
            raise ValueError(f"lacks {', '.join(missing)}")
        if not all(isinstance(label, str) for label in info["classes"]):
            raise ValueError("names classes that are no text")
        if info["file"].endswith(".pt") and not isinstance(info.get("config"), dict):
            raise ValueError("lacks config")
        if Path(info["file"]).name != info["file"] or Path(info["file"]).suffix not in (".pt", ".npz"):
            raise ValueError(f"names the file {info['file']!r}")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not a description of weights ({error}). {MEND}") from error
    return info


def find(name: str, task: Task, data: str, roots: Sequence[Path]) -> Path:
    """The folder that holds weights `name`: trained on `data` when there are such, else on the rendered demo data.

    `data` is `Dataset.name`; of `roots`, folders called "weights", the first that has the file wins. FileNotFoundError
    if none has.
    """
    for part in dict.fromkeys((data, "demo")):
        for folder in (root / f"{task.name}-{part}" for root in roots):
            finish(folder)
            if (folder / f"{name}.json").is_file():
                return folder
    tried = " or ".join(str(root / f"{task.name}-{data}") for root in roots)
    raise FileNotFoundError(f"no weights '{name}' in {tried}. {MEND}")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def environment() -> dict:
    """Versions, cores and threads, as they stand beside every figure."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "scikit-learn")},
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


CARD = """# {{ name }} ({{ task }}-{{ data }})

**What it is.** {{ summary }} {{ "{:,}".format(parameters or 0) }} trained parameters, {{ "{:,}".format(bytes or 0) }} \
bytes. {{ rate }} Hz mono audio to {{ classes | length }} classes: {{ classes | join(", ") }}.

**Use.** Teaching, and a baseline to beat. Not for decisions about people, not for sounds of another kind.

**Data.** {{ data }}, digest `{{ "%.16s" | format(data_digest) }}`; groups lie in one split. \
{{ "They are rendered, not recorded: the scores say nothing about real recordings." if data == "demo" }}

**Front end.** {{ front_end or "none: the network reads samples" }}.

**Training.** {{ training }} Seed {{ seed }}, {{ "%.1f" | format(minutes or 0) }} minutes on {{ hardware }}.

**Score on the test split.** 95 % intervals, bootstrap over groups where they are known.

| metric | value | interval | n | chance |
|---|---|---|---|---|
{% for metric, one in (scores or {}).items() %}
| {{ metric }} | {{ "%.3f | %.3f – %.3f | %d | %.3f" | format(one.value, one.low, one.high, one.n, one.chance) }} |
{% endfor %}

| class | {{ per_class_metric }} | test clips |
|---|---|---|
{% for label, row in (per_class or {}).items() %}
| {{ label }} | {{ "%.2f | %d" | format(*row) }} |
{% endfor %}

**Known failures.** The lowest rows above. Silence and noise get a class as well: look at the probability.

**Licence.** The weights as the bundle; the data have their own.

**Digest.** SHA-256 of `{{ file }}`: `{{ sha256 }}`
"""


def card(name: str, info: dict) -> str:
    """The model card: what it is, for what, from what, how good, and where it fails."""
    import jinja2  # only who trains writes cards

    return jinja2.Template(CARD, trim_blocks=True, keep_trailing_newline=True).render(info, name=name)
