"""Results files in, facts out: every number and word a document may quote, as plain text by its key.

A document asks for them with `\\fact{nsynth.mel_cnn.score}`; comparisons are named by where their interval lies.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from helpers.tasks import TASKS

SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "−": r"$-$", "×": r"$\times$", "–": "--", "\u00a0": "~",
}  # fmt: skip
METRICS = {"top1": "top-1 accuracy", "top3": "top-3 accuracy", "roc_auc": "macro ROC-AUC", "pr_auc": "macro PR-AUC"}
BRIEF = {"top1": "top-1", "top3": "top-3", "roc_auc": "ROC-AUC", "pr_auc": "PR-AUC"}
NAMES = {"nsynth": "notes", "magnatagatune": "tags"}  # of tasks, in prose and tables
SECOND = {"top1": "top3", "roc_auc": "pr_auc"}
MODELS = {
    "svm": "SVM on pooled features",
    "raw_cnn_256_256": "CNN on samples, 256/256",
    "sample_cnn": "SampleCNN on samples",
    "mel_cnn_nolog": "mel CNN, no logarithm",
    "mel_cnn_plain": "mel CNN, no batch norm or dropout",
    "mel_cnn": "mel CNN",
}
SHORT = {  # for axes and narrow tables
    "svm": "SVM",
    "raw_cnn_256_256": "CNN, samples",
    "sample_cnn": "SampleCNN",
    "mel_cnn_nolog": "mel, no log",
    "mel_cnn_plain": "mel, plain",
    "mel_cnn": "mel CNN",
}
STAFF = {"256/256": (0.78, 0.02)}  # macro ROC-AUC the course's staff reached, five runs, final epoch
ROWS = {"raw_cnn": "raw_cnn_256_256"}  # a study's row that is called otherwise elsewhere
RAW = (".figures", ".folder", ".best")


@dataclass
class Results:
    """All results files of a folder, by the task they are of.

    Attributes
    ----------
    folder : Path
        With a folder <task>-<data> for each.
    notebooks : dict
        By task, then by notebook ("05_evaluation"): the file's content. A task is absent when it was not evaluated.
    studies : dict
        By key ("nsynth.study.networks"): the file's content.
    """

    folder: Path
    notebooks: dict[str, dict[str, dict]] = field(default_factory=dict)
    studies: dict[str, dict] = field(default_factory=dict)

    def folder_of(self, task: str) -> Path:
        """The folder that the task's results are taken from."""
        return self.folder / f"{task}-{self.notebooks[task]['05_evaluation']['data']}"


def read(folder: Path) -> Results:
    """Read a results folder; the data set of a task that is not the rendered one goes before the rendered one.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is nothing, a file is broken, or it cannot be told which of a task's data sets is meant.
    """
    results = Results(folder)
    for task in TASKS:
        there = sorted(path.parent for path in folder.glob(f"{task}-*/05_evaluation.json"))
        chosen = [path for path in there if path.name != f"{task}-demo"] or there
        if len(chosen) > 1:
            names = ", ".join(path.name for path in chosen)
            raise ValueError(f"{folder}: results of {names}, expected one data set for {task}. Move the others away.")
        for one in chosen:
            results.notebooks[task] = {path.stem: load(path) for path in sorted(one.glob("[0-9]*.json"))}
            results.notebooks[task] |= {path.stem: load(path) for path in sorted(one.glob("tuning_*.json"))}
    if not results.notebooks:
        raise FileNotFoundError(
            f"{folder}: no results, expected <task>-<data>/05_evaluation.json. Make them: python -m bundle run --keep."
        )
    main = {results.folder_of(task): task for task in results.notebooks}
    for path in sorted(folder.glob("*/study_*.json")):
        results.studies[f"{main.get(path.parent, path.parent.name)}.study.{path.stem.removeprefix('study_')}"] = load(
            path
        )
    return results


def load(path: Path) -> dict:
    """A JSON file's content; a ValueError that names the file when it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not a results file ({error}). Get it again, or make it again.") from error


def tex(text: str) -> str:
    """Plain text as LaTeX."""
    return "".join(SIGNS.get(sign, sign) for sign in text).replace(r" \%", r"\,\%")


def as_tex(found: dict[str, str]) -> str:
    """All facts as LaTeX. Keys and paths stay as they are: they are built into other names."""
    lines = []
    for key, value in found.items():
        raw = key.endswith(RAW)
        text = value if raw else tex(value)
        if ".example." in key and key.endswith(".name"):
            for sign in ("-", "/", r"\_"):
                text = text.replace(sign, sign + r"\allowbreak{}")
        lines.append(f"\\setfact{{{key}}}{{{text}}}")
    return "\n".join(["% Written by python -m bundle report from the results files: do not edit", *lines, ""])


def facts(results: Results) -> dict[str, str]:
    """Everything a document may quote, as plain text by key."""
    from bundle.report.keys import every  # it names things with this module

    return dict(every(results))


def signed(value: float) -> str:
    """With its sign: "+0.067", "−0.054"."""
    return f"{value:+.3f}".replace("-", "−")


def title(row: str) -> str:
    """A study's row as it is called in prose."""
    return MODELS.get(ROWS.get(row, row), row.replace("_", " "))


def listed(names: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
