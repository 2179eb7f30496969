"""What reported results claim, figure by figure, judged by the predictions that are saved beside them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from bundle.results import CLIPS, DIFFERENCE, FINAL, Run, Study, load, read, readme_table, studies_page, with_table
from bundle.study.folds import pooled
from bundle.study.summary import score_rows
from helpers import data, metrics
from helpers.tasks import TASKS

PASS, FAIL, OPEN = "pass", "fail", "not checkable"
EXACT = 1e-6  # between a figure and the same figure from saved predictions
CALIBRATION, LOSS = "calibration_error", ": training loss"
BROKEN = (OSError, LookupError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass
class Claim:
    """One figure of a results file, and whether it holds."""

    figure: str
    reported: float | str | None = None  # in the file
    recomputed: float | str | None = None  # from the predictions beside it, or from the data
    measured: float | None = None  # by executing the notebook again
    tolerance: float | None = None  # how far it may then lie from what is reported
    verdict: str = OPEN
    note: str = ""

    def judge(self, holds: bool, note: str = "") -> Claim:
        """Pass unless something has failed before; the notes add up."""
        self.verdict = PASS if holds and self.verdict != FAIL else FAIL
        self.note = "; ".join(text for text in (self.note, note) if text)
        return self


@dataclass
class Source:
    """A file with claims: its content, what was judged, and after execution curves and what differed."""

    path: Path
    content: dict
    claims: list[Claim]
    told: str = ""
    identical: bool | None = None  # every metric and every point of every curve, to the last bit
    curves: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)  # training loss, by model

    @property
    def name(self) -> str:
        """Such as "nsynth-demo/04_mel_cnn"; a README by its name."""
        return f"{self.path.parent.name}/{self.path.stem}" if self.path.suffix == ".json" else self.path.name

    def count(self, verdict: str) -> int:
        """Claims with a verdict."""
        return sum(claim.verdict == verdict for claim in self.claims)


def check(path: Path, root: Path) -> Source:
    """Read a results, study or tuning file and judge all its figures; a broken one has no content and fails.

    `root` is the bundle, where the data are.
    """
    kinds = {"study": _check_study, "tuning": _check_tuning}
    try:
        content = load(path)
        return Source(path, content, list(kinds.get(path.stem.split("_")[0], _check_notebook)(path, content, root)))
    except BROKEN as error:
        why = f"cannot be read as results ({type(error).__name__}: {error}). Get the file again, or make it again."
        return Source(path, {}, [Claim(path.name).judge(False, why)])


def _check_notebook(path: Path, content: dict, root: Path) -> Iterator[Claim]:
    run = Run(path, content)
    if path.stem != run.notebook or not path.parent.name.startswith(f"{run.task.name}-{run.data}"):
        raise ValueError(f"it is of {run.task.name}-{run.data}/{run.notebook}")
    known, why = dataset(run.task.name, content["parameters"]["DATA"], run.chosen, root)
    yield _judge("data digest", {"value": content["data_digest"]}, known and {"value": known.digest}, why)
    found = {}
    if path.stem.startswith("01"):  # counts of clips, no predictions
        for name, pack in known.splits.items() if known else ():
            found[f"{name}_clips"] = dict.fromkeys(("value", "low", "high", "n"), len(pack))
    elif run.predictions:
        yield _same_clips(run.predictions, known and known.test, why)
        found, why = recompute(run), "the predictions that give it are not saved"
    else:
        yield _missing(path, "python -m bundle run --mode train --keep")
    for key, reported in content["metrics"].items():
        yield _judge(key, reported, found.get(key), why)
    for model in run.curves():
        yield Claim(f"{model}{LOSS}", note="only training again gives it")


def recompute(run: Run) -> dict[str, dict]:
    """Every figure of a notebook that its predictions give, by its name in the file."""
    found, stored = {}, run.predictions
    clips = stored["targets"], stored["groups"]
    scores = {model: metrics.scores(stored[model], *clips) for model in stored if model not in CLIPS}
    for key in run.content["metrics"]:
        models, kind = run.about(key)
        if key.startswith(FINAL) or not set(models) <= set(scores):
            continue
        if kind == DIFFERENCE:
            first, second = (stored[model] for model in models)
            found[key] = metrics.paired_difference(run.task.headline, first, second, *clips)
        elif kind == CALIBRATION:
            error = metrics.calibration(stored[models[0]], stored["targets"])[1]
            found[key] = dict.fromkeys(("value", "low", "high"), error) | {"n": len(stored["targets"])}
        elif kind in scores[models[0]]:
            found[key] = scores[models[0]][kind]
    return found


def _check_study(path: Path, content: dict, root: Path) -> Iterator[Claim]:
    study = Study(path, content)
    if path.stem != f"study_{study.name}" or path.parent.name != f"{study.task.name}-{study.data}":
        raise ValueError(f"it is of {study.task.name}-{study.data}, study {study.name}")
    if not study.predictions:
        yield _missing(path, f"python -m bundle sweep {study.name} --keep")
        return
    known, why = None, f"where the data '{study.data}' are is not recorded"
    if study.data == "demo":
        known, why = dataset(study.task.name, "demo", "", root)
    if known:
        known = pooled(study.task, "demo", root)[0] if content["folds"] else known.test
    yield _same_clips(study.predictions, known, why)
    balanced = any("macro_f1" in row["metrics"] for row in content["rows"].values())
    again = score_rows(study.predictions, study.task, content["baseline"], balanced)
    for name, row in content["rows"].items():
        reported, found = (one["metrics"] | {"difference": one.get("difference", {})} for one in (row, again[name]))
        for key in dict.fromkeys([*reported, *found]):
            if reported.get(key) or found.get(key):  # the baseline has no difference
                yield _judge(f"{name}: {key}", reported.get(key, {}), found.get(key), "its predictions are not saved")
    yield Claim("validation scores, curves, minutes", note="validation predictions are not kept; sweep trains again")


def _check_tuning(path: Path, found: dict, root: Path) -> Iterator[Claim]:
    trials = found["trials"]
    best = max(trials, key=lambda trial: trial["score"])
    again = {"best_score": best["score"], "best": best["settings"], "default_score": trials[0]["score"]}
    for name, value in (again | {"budget": len(trials)}).items():
        yield _judge(name, {"value": found[name]}, {"value": value})
    yield Claim("scores of the trials", note="each is a training; TRIALS above 0 searches again")


def check_readmes(folder: Path) -> list[Claim]:
    """Whether the tables in the bundle's README.md and in report/results/README.md are those of the results."""
    path = folder.parent.parent / "README.md"
    if not path.is_file():
        return [Claim(path.name, note=f"there is none in {path.parent}")]
    try:
        results, text = read(folder), path.read_text(encoding="utf-8")
        pairs = {"README.md": (text, with_table(text, readme_table(results)))}
        if results.studies:
            pairs["report/results/README.md"] = (folder / "README.md").read_text("utf-8"), studies_page(results)
    except BROKEN as error:
        why = f"its tables cannot be compared with the results ({type(error).__name__}: {error})"
        return [Claim(path.name).judge(False, why)]
    claims = []
    for name, (shown, made) in pairs.items():
        lacks = next((line for line in made.splitlines() if line not in shown.splitlines()), "nothing, has other lines")
        claims.append(Claim(name).judge(shown == made, "" if shown == made else f"it lacks: {lacks}"))
    return claims


@cache
def dataset(task: str, name: str, classes: str, root: Path) -> tuple[data.Dataset | None, str]:
    """The data of a run; None, and why, where they are not here."""
    try:
        return data.load(TASKS[task], name, root, classes), ""
    except (ImportError, OSError, ValueError) as error:
        return None, f"the data cannot be loaded: {error}"


def _missing(path: Path, command: str) -> Claim:
    why = f"{path.stem}.npz is missing beside {path.name}; write both again: {command}"
    return Claim("predictions").judge(False, why)


def _same_clips(stored: dict, pack: data.Pack | None, why: str) -> Claim:
    """Whether predictions are of the data's test clips; None where `why` says that this cannot be told."""
    if pack is None:
        return Claim("clips of the predictions", note=why)
    orders = [np.argsort(names, kind="stable") for names in (stored["names"], pack.names)]
    other = []
    for name in CLIPS:
        found, known = stored[name], getattr(pack, name)
        if len(found) != len(known) or not np.array_equal(found[orders[0]], known[orders[1]]):
            other.append(f"{name}: not those of the test split")
    return Claim("clips of the predictions", len(stored["names"]), len(pack)).judge(not other, "; ".join(other))


def _judge(figure: str, reported: dict, found: dict | None, why: str = "") -> Claim:
    """What is reported, a value and what belongs to it; `found` is None where `why` says that it cannot be."""
    if found is None:
        return Claim(figure, reported.get("value"), note=why)
    off = []
    for key, value in found.items():
        told = reported.get(key)
        numbers = all(isinstance(one, int | float) for one in (told, value))
        if not (abs(told - value) <= EXACT if numbers else told == value):
            off.append(f"{key}: reported {told}, found {value}")
    return Claim(figure, reported.get("value"), found.get("value")).judge(not off, "; ".join(off))
