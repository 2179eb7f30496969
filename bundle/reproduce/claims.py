"""What reported results claim, figure by figure, judged by the predictions that are saved beside them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from bundle.results import (
    BEGIN,
    CLIPS,
    DIFFERENCE,
    END,
    FINAL,
    Run,
    Study,
    load,
    read,
    readme_table,
    studies_page,
)  # fmt: skip
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
    """One figure of a results file.

    Attributes
    ----------
    figure : str
    reported, recomputed, measured : float or str, optional
        In the file; from the predictions beside it; by executing the notebook again.
    difference, tolerance : float, optional
        `measured` - `reported` (of a curve: where it is largest for its tolerance), and how large it may be.
    tolerance_from : str
        What the tolerance is derived from.
    evidence, repeated : str
        Verdicts, "pass", "fail" or "not checkable"; `repeated` is "" where nothing was executed.
    note : str
    """

    figure: str
    reported: float | str | None = None
    recomputed: float | str | None = None
    measured: float | str | None = None
    difference: float | None = None
    tolerance: float | None = None
    tolerance_from: str = ""
    evidence: str = OPEN
    repeated: str = ""
    note: str = ""

    @property
    def state(self) -> str:
        """Fails where either verdict does, and holds where one holds and none fails."""
        return next((state for state in (FAIL, PASS) if state in (self.evidence, self.repeated)), OPEN)


def check(path: Path, root: Path) -> tuple[dict, list[Claim]]:
    """Read a results, study or tuning file and judge all its figures; {} and one failed claim when it is broken.

    `root` is the bundle, where the data are.
    """
    kinds = {"study": _check_study, "tuning": _check_tuning}
    try:
        content = load(path)
        return content, list(kinds.get(path.stem.split("_")[0], _check_notebook)(path, content, root))
    except BROKEN as error:
        why = f"cannot be read as results ({type(error).__name__}: {error}). Get the file again, or make it again."
        return {}, [Claim(path.name, evidence=FAIL, note=why)]


def _check_notebook(path: Path, content: dict, root: Path) -> Iterator[Claim]:
    run = Run(path, content)
    if path.stem != run.notebook or not path.parent.name.startswith(f"{run.task.name}-{run.data}"):
        raise ValueError(f"it is of {run.task.name}-{run.data}/{run.notebook}")
    known, digest = dataset(run.task.name, content["parameters"]["DATA"], run.chosen, root), content["data_digest"]
    if isinstance(known, str):
        yield Claim("data digest", digest[:12], note=known)
    else:
        yield Claim("data digest", digest[:12], known.digest[:12], evidence=PASS if digest == known.digest else FAIL)
    found, why = {}, "its predictions are not saved"
    if path.stem.startswith("01"):  # counts of clips, no predictions
        why = known if isinstance(known, str) else why
        for name, pack in {} if isinstance(known, str) else known.splits.items():
            found[f"{name}_clips"] = dict.fromkeys(("value", "low", "high", "n"), len(pack))
    elif run.predictions:
        yield _same_clips(run.predictions, known if isinstance(known, str) else known.test)
        found = recompute(run)
    else:
        yield _missing(path, "python -m bundle run --mode train --keep")
    for key, reported in content["metrics"].items():
        final = key.startswith(FINAL) and bool(run.predictions)
        yield _judge(key, reported, found.get(key, "the final epoch's predictions are not saved" if final else why))
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
    known: data.Dataset | str = f"where the data '{study.data}' are is not recorded"
    if study.data == "demo":
        known = dataset(study.task.name, "demo", "", root)
    if not isinstance(known, str):
        known = pooled(study.task, "demo", root)[0] if content["folds"] else known.test
    yield _same_clips(study.predictions, known)
    balanced = any("macro_f1" in row["metrics"] for row in content["rows"].values())
    again = score_rows(study.predictions, study.task, content["baseline"], balanced)
    for name, row in content["rows"].items():
        found = again[name]["metrics"] | {"difference": again[name].get("difference", "the baseline has none")}
        reported = row["metrics"] | ({"difference": row["difference"]} if "difference" in row else {})
        for key in dict.fromkeys([*reported, *again[name]["metrics"]]):
            yield _judge(f"{name}: {key}", reported.get(key, {}), found.get(key, "its predictions are not saved"))
    yield Claim("validation scores, curves, minutes", note="validation predictions are not kept; sweep trains again")


def _check_tuning(path: Path, found: dict, root: Path) -> Iterator[Claim]:
    scores = [trial["score"] for trial in found["trials"]]
    for name, value in {"best_score": max(scores), "default_score": scores[0], "budget": len(scores)}.items():
        yield _judge(name, {"value": found[name]}, {"value": value})
    best = found["trials"][int(np.argmax(scores))]["settings"]
    yield Claim("best settings", str(found["best"]), str(best), evidence=PASS if found["best"] == best else FAIL)
    yield Claim("scores of the trials", note="each is a training; TRIALS above 0 searches again")


def check_readme(folder: Path, tasks: list[str]) -> list[Claim]:
    """Whether the tables in the bundle's README.md and in report/results/README.md are those of the results."""
    path, beside = folder.parent.parent / "README.md", folder / "README.md"
    if not path.is_file():
        return [Claim(path.name, note=f"there is none in {path.parent}")]
    try:
        results = read(folder)
        shown, made = path.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0], readme_table(results)
        told = studies_page(results).splitlines() if results.studies else []
        known = beside.read_text(encoding="utf-8").splitlines() if told else []
    except BROKEN as error:
        why = f"its tables cannot be compared with the results ({type(error).__name__}: {error})"
        return [Claim(path.name, evidence=FAIL, note=why)]
    rows = [
        {" ".join(line[2:].split(" | ")[:3]): line for line in text.splitlines() if line.startswith("| ")}
        for text in (shown, made)
    ]
    claims = []
    for key in dict.fromkeys([*rows[0], *rows[1]]):
        if key.split(" ")[0] in tasks:
            before, after = (one.get(key, "no such row") for one in rows)
            note = "" if before == after else f"README.md: {before}; the results: {after}"
            claims.append(Claim(key, evidence=FAIL if note else PASS, note=note))
    if told:
        lacks = [line for line in told if line not in known]
        note = f"it lacks: {lacks[0]}" if lacks else ""
        claims.append(Claim("report/results/README.md", evidence=FAIL if lacks else PASS, note=note))
    return claims


@cache
def dataset(task: str, name: str, classes: str, root: Path) -> data.Dataset | str:
    """The data of a run, or why they are not here."""
    if name != "demo" and not Path(name).expanduser().is_dir():
        return f"the data are not here ({name})"
    try:
        return data.load(TASKS[task], name, root, classes)
    except (ImportError, OSError, ValueError) as error:
        return f"the data cannot be loaded: {error}"


def _missing(path: Path, command: str) -> Claim:
    saved = path.with_suffix(".npz").name
    why = f"{saved} is missing beside {path.name}; write both again: {command}"
    return Claim("predictions", evidence=FAIL, note=why)


def _same_clips(stored: dict, pack) -> Claim:
    """Whether predictions are of the data's test clips; `pack` may be the reason why that cannot be told."""
    if isinstance(pack, str):
        return Claim("clips of the predictions", note=pack)
    orders = [np.argsort(names, kind="stable") for names in (stored["names"], pack.names)]
    other = [
        name
        for name in CLIPS
        if len(stored[name]) != len(pack) or not np.array_equal(stored[name][orders[0]], getattr(pack, name)[orders[1]])
    ]
    note = f"{', '.join(other)}: not those of the test split" if other else ""
    return Claim(
        "clips of the predictions", len(stored["names"]), len(pack), evidence=FAIL if other else PASS, note=note
    )


def _judge(figure: str, reported: dict, found: dict | str) -> Claim:
    if isinstance(found, str):
        return Claim(figure, reported.get("value"), note=found)
    off = [
        f"{key}: reported {reported.get(key)}, the predictions give {value}"
        for key, value in found.items()
        if not _same(reported.get(key), value)
    ]
    return Claim(figure, reported.get("value"), found["value"], evidence=FAIL if off else PASS, note="; ".join(off))


def _same(reported: object, found: float | None) -> bool:
    if found is None or not isinstance(reported, int | float):
        return found is reported
    return abs(reported - found) <= EXACT
