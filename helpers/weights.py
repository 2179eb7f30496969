"""Store models and get them back unchanged. Every file is checked against its digest; nothing is ever unpickled.

A model is three files: NAME.pt (a CPU state dict; NAME.skops for an SVM), NAME.json, and NAME.md, its card.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from helpers import models
from helpers.files import replacing
from helpers.tasks import Task

SCHEMA = 1
# What a stored SVM may consist of beside what skops trusts by itself
TRUSTED = ("numpy.dtype", "sklearn.multiclass._ConstantPredictor", "sklearn.preprocessing._label.LabelBinarizer")


def save(folder: Path, name: str, model, info: dict) -> str:
    """Write a model with its description and card, each under its name only when complete.

    Parameters
    ----------
    folder : Path
        `weights/<task>-<data>`; made when missing.
    name : str
        Such as "mel_cnn".
    model : nn.Module or sklearn estimator
    info : dict
        JSON: at least "task", "classes" (logit order), "data", "data_digest", "seed", "scores", and "config" for a
        network.

    Returns
    -------
    sha256 : str
        Digest of the weights file.
    """
    suffix = ".pt" if isinstance(model, nn.Module) else ".skops"
    with (  # each takes its place when all are complete
        replacing(folder / f"{name}.md") as described,
        replacing(folder / f"{name}.json") as beside,
        replacing(folder / f"{name}{suffix}") as temporary,
    ):
        if suffix == ".pt":
            state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
            with temporary.open("wb") as file:  # given a name, torch would write it into the archive
                torch.save(state, file)
        else:
            from skops import io  # only who trains or uses an SVM needs it

            io.dump(model, temporary, compression=zipfile.ZIP_LZMA)  # an SVM repeats its support vectors
        digest = file_digest(temporary)
        info = {"schema": SCHEMA, "file": name + suffix, "sha256": digest, "bytes": temporary.stat().st_size} | info
        beside.write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
        described.write_text(card(name, info), encoding="utf-8")
    return digest


def load(folder: Path, name: str, task: Task, classes: Sequence[str] | None = None):
    """Rebuild a model from its files, in evaluation mode on the CPU.

    Never trains and never downloads: a missing or altered file is an error.

    Parameters
    ----------
    folder : Path
    name : str
    task : Task
        What the weights must be for.
    classes : sequence of str, optional
        What the weights' classes must be, in this order.

    Returns
    -------
    model : nn.Module or sklearn estimator
    info : dict
        What `save` was given, with "sha256" and "bytes".

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file was altered, is of another task or other classes, or holds what is not weights.
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
    if file_digest(path) != info["sha256"]:
        raise ValueError(f"{path}: digest {file_digest(path)[:12]}…, expected {info['sha256'][:12]}…. {MEND}")
    if path.suffix == ".skops":
        return _load_skops(path), info
    model = models.build(info["config"])
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # whatever a stranger's file raises, it is not our weights
        reason = f"{type(error).__name__} {error}".splitlines()[0]
        raise ValueError(f"{path}: not the weights of {info['config']['kind']} ({reason}). {MEND}") from error
    return model.eval(), info


NEEDED = {"file": str, "sha256": str, "task": str, "classes": list, "data": str}  # in every description
MEND = "Get the file again (git checkout, or the release), or train with MODE='train'."


def read_info(folder: Path, name: str) -> dict:
    """The description beside a model's weights.

    Raises
    ------
    FileNotFoundError, ValueError
        If it is missing, or lacks what a description must say.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        there = ", ".join(sorted(other.stem for other in folder.glob("*.json"))) or "none"
        raise FileNotFoundError(f"{path}: no such weights (there: {there}). {MEND}")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key, kind in NEEDED.items() if not isinstance(info.get(key), kind)]
        if not missing and info["file"].endswith(".pt") and not isinstance(info.get("config"), dict):
            missing = ["config"]
        if missing:
            raise ValueError(f"lacks {', '.join(missing)}")
        if not all(isinstance(name, str) for name in info["classes"]):
            raise ValueError("names classes that are no text")
        if Path(info["file"]).name != info["file"] or Path(info["file"]).suffix not in (".pt", ".skops"):
            raise ValueError(f"names the file {info['file']!r}")
        if info.get("config", {}).get("classes", len(info["classes"])) != len(info["classes"]):
            raise ValueError(f"names {len(info['classes'])} classes, its network has {info['config']['classes']}")
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a description of weights ({error}). {MEND}") from error
    return info


def find(name: str, task: Task, data: str, roots: Sequence[Path]) -> Path:
    """The folder that holds weights `name`: trained on `data` when there are such, else on the rendered demo data.

    `data` is `Dataset.name`; of `roots`, folders called "weights", the first that has the file wins.

    Raises
    ------
    FileNotFoundError
        If there are none.
    """
    for part in dict.fromkeys((data, "demo")):
        for root in roots:
            if (root / f"{task.name}-{part}" / f"{name}.json").is_file():
                return root / f"{task.name}-{part}"
    tried = " or ".join(str(root / f"{task.name}-{data}") for root in roots)
    raise FileNotFoundError(f"no weights '{name}' in {tried}. {MEND}")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def environment() -> dict:
    """Versions, cores and threads, as they stand beside every figure."""
    import numpy
    import sklearn

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "scikit-learn": sklearn.__version__,
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _load_skops(path: Path):
    from skops import io

    try:
        unknown = [name for name in io.get_untrusted_types(file=path) if name not in TRUSTED]
        if unknown:
            raise ValueError(f"it asks for {', '.join(unknown)}")
        return io.load(path, trusted=list(TRUSTED))
    except (ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: refused ({error}), expected an SVM of scikit-learn. {MEND}") from error


CARD = """# {name} ({task}-{data})

**What it is.** {summary} {parameters:,} trained parameters, {bytes:,} bytes. {rate} Hz mono audio to {count} classes: \
{labels}.

**Use.** Teaching, and a baseline to beat. Not for decisions about people, not for sounds of another kind.

**Data.** {data}, digest `{data_digest:.16}`; groups lie in one split. {rendered}

**Front end.** {front_end}.

**Training.** {training} Seed {seed}, {minutes:.1f} minutes on {hardware}.

**Score on the test split.** 95 % intervals, bootstrap over groups where they are known.

| metric | value | interval | n | chance |
|---|---|---|---|---|
{score_rows}
| class | {per_class_metric} | test clips |
|---|---|---|
{class_rows}
**Known failures.** The lowest rows above. Silence and noise get a class as well: look at the probability.

**Licence.** The weights as the bundle; the data have their own.

**Digest.** SHA-256 of `{file}`: `{sha256}`
"""
SCORE_ROW = "| {} | {value:.3f} | {low:.3f} – {high:.3f} | {n} | {chance:.3f} |\n"
CLASS_ROW = "| {} | {:.2f} | {} |\n"
UNSAID = {"summary": "", "parameters": 0, "bytes": 0, "rate": "?", "data_digest": "?", "front_end": "", "training": "",
          "seed": None, "minutes": 0, "hardware": "?", "per_class_metric": "score"}  # fmt: skip


def card(name: str, info: dict) -> str:
    """The model card: what it is, for what, from what, how good, and where it fails."""
    scores, classes = info.get("scores", {}), info.get("per_class", {})
    rendered = "They are rendered, not recorded: the scores say nothing about real recordings."
    told = (
        UNSAID
        | info
        | {
            "name": name,
            "count": len(info["classes"]),
            "labels": ", ".join(info["classes"]),
            "rendered": rendered if info["data"] == "demo" else "",
            "front_end": info.get("front_end") or "none: the network reads samples",
            "score_rows": "".join(SCORE_ROW.format(metric, **score) for metric, score in scores.items()),
            "class_rows": "".join(CLASS_ROW.format(label, *row) for label, row in classes.items()),
        }
    )
    return CARD.format(**told)
