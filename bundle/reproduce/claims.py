"""What reported results claim, figure by figure, judged by the predictions that are saved beside them."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from bundle.results import BEGIN, END, read, readme_table, studies_page
from bundle.study.folds import pooled
from bundle.study.summary import score_rows
from helpers import data, metrics
from helpers.tasks import TASKS

PASS, FAIL, OPEN = "pass", "fail", "not checkable"
EXACT = 1e-6  # between a figure and the same figure from saved predictions
CLIPS = ("names", "groups", "targets")
DIFFERENCE, CALIBRATION, FINAL, LOSS = "difference: ", "calibration_error", "final_epoch_", ": training loss"
MODELS = {"raw audio": "raw_cnn_256_256", "log": "mel_cnn", "no log": "mel_cnn_nolog"}  # as differences call them
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


@cache
def dataset(task: str, name: str, classes: str, root: Path) -> data.Dataset | str:
    """The data of a run, or why they are not here."""
    if name != "demo" and not Path(name).expanduser().is_dir():
        return f"the data are not here ({name})"
    try:
        return data.load(TASKS[task], name, root, classes)
    except (ImportError, OSError, ValueError) as error:
        return f"the data cannot be loaded: {error}"


def check(path: Path, root: Path) -> tuple[dict, list[Claim]]:
    """Read a results, study or tuning file and judge all its figures; {} and one failed claim when it is broken.

    `root` is the bundle, where the data are.
    """
    kinds = {"study": _check_study, "tuning": _check_tuning}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content, list(kinds.get(path.stem.split("_")[0], _check_notebook)(path, content, root))
    except BROKEN as error:
        why = f"cannot be read as results ({type(error).__name__}: {error}). Get the file again, or make it again."
        return {}, [Claim(path.name, evidence=FAIL, note=why)]


def _check_notebook(path: Path, results: dict, root: Path) -> Iterator[Claim]:
    task, given = TASKS[results["task"]], results["parameters"]
    if path.stem != results["notebook"] or not path.parent.name.startswith(f"{task.name}-{results['data']}"):
        raise ValueError(f"it is of {task.name}-{results['data']}/{results['notebook']}")
    known, arrays = dataset(task.name, given["DATA"], given["CLASSES"], root), {}
    why = "its predictions are not saved"
    if isinstance(known, str):
        yield Claim("data digest", results["data_digest"][:12], note=known)
    else:
        verdict = PASS if results["data_digest"] == known.digest else FAIL
        yield Claim("data digest", results["data_digest"][:12], known.digest[:12], evidence=verdict)
    if path.stem.startswith("01"):
        found = {} if isinstance(known, str) else {f"{name}_clips": len(pack) for name, pack in known.splits.items()}
        found = {name: {"value": n, "low": n, "high": n, "n": n} for name, n in found.items()}
        why = known if isinstance(known, str) else why
    elif (saved := path.with_suffix(".npz")).is_file():
        arrays = _read_arrays(saved)
        yield _same_clips(arrays, known if isinstance(known, str) else known.test)
        found = recompute(arrays)
    else:
        why = f"{saved.name} is missing beside {path.name}; write both again: python -m bundle run --mode train --keep"
        yield Claim("predictions", evidence=FAIL, note=why)
        found = {}
    for name, reported in results["metrics"].items():
        if name.startswith(DIFFERENCE) and set(pair := models_of(name)) <= set(arrays):
            first, second = (arrays[model] for model in pair)
            clips = arrays["targets"], arrays["groups"]
            found[name] = metrics.paired_difference(task.headline, first, second, *clips)
        reason = "the final epoch's predictions are not saved" if name.startswith(FINAL) and arrays else why
        yield _judge(name, reported, found.get(name, reason))
    for model in curves_by_model(results):
        yield Claim(f"{model}{LOSS}", note="only training again gives it")


def recompute(arrays: dict[str, np.ndarray]) -> dict[str, dict]:
    """Every score of the models whose predictions are among `arrays`, by its name in a results file."""
    models, found = [name for name in arrays if name not in CLIPS], {}
    for model in models:
        scores = metrics.scores(arrays[model], arrays["targets"], arrays["groups"])
        found |= {f"{model}_{name}": score for name, score in scores.items()} | (scores if len(models) == 1 else {})
        error = metrics.calibration(arrays[model], arrays["targets"])[1]
        found[f"{model}_{CALIBRATION}"] = dict.fromkeys(("value", "low", "high"), error) | {"n": len(arrays["targets"])}
    return found


def models_of(name: str) -> tuple[str, str]:
    """The two models of "difference: B - A", (A, B)."""
    label = name.removeprefix(DIFFERENCE)
    if label == "batch norm and dropout":
        return "mel_cnn_plain", "mel_cnn"
    second, _, first = label.partition(" - ")
    return MODELS.get(first, first), MODELS.get(second, second)


def curves_by_model(results: dict) -> dict[str, dict]:
    """Curves of training by model; in the results of a single model they stand without its name."""
    curves = results["curves"]
    return {next(iter(results["weights_digest"]), ""): curves} if "epoch" in curves else curves


def _check_study(path: Path, study: dict, root: Path) -> Iterator[Claim]:
    task, rows = TASKS[study["task"]], study["rows"]
    if path.stem != f"study_{study['study']}" or path.parent.name != f"{task.name}-{study['data']}":
        raise ValueError(f"it is of {task.name}-{study['data']}, study {study['study']}")
    if not (saved := path.with_suffix(".npz")).is_file():
        why = f"{saved.name} is missing beside {path.name}; python -m bundle sweep {study['study']} --keep writes both"
        yield Claim("predictions", evidence=FAIL, note=why)
        return
    arrays = _read_arrays(saved)
    known: data.Dataset | str = f"where the data '{study['data']}' are is not recorded"
    if study["data"] == "demo":
        known = dataset(task.name, "demo", "", root)
    if not isinstance(known, str):
        known = pooled(task, "demo", root)[0] if study["folds"] else known.test
    yield _same_clips(arrays, known)
    stacks = {row: arrays[f"row {row}"] for row in rows}
    balanced = any("macro_f1" in row["metrics"] for row in rows.values())
    again = score_rows(stacks, {name: arrays[name] for name in CLIPS}, task, study["baseline"], balanced)
    for row, content in rows.items():
        found = again[row]["metrics"] | {"difference": again[row].get("difference", "the baseline has none")}
        reported = content["metrics"] | ({"difference": content["difference"]} if "difference" in content else {})
        for name in dict.fromkeys([*reported, *again[row]["metrics"]]):
            yield _judge(f"{row}: {name}", reported.get(name, {}), found.get(name, "its predictions are not saved"))
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
        shown, made = path.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0], readme_table(read(folder))
        told = studies_page(read(folder)).splitlines()
        known = beside.read_text(encoding="utf-8").splitlines() if told else []
    except (*BROKEN, StopIteration) as error:
        why = f"its tables cannot be compared with the results ({type(error).__name__}: {error})"
        return [Claim(path.name, evidence=FAIL, note=why)]
    ours = tuple(f"| {task} " for task in tasks)
    rows = [
        {" ".join(line[2:].split(" | ")[:3]): line for line in text.splitlines() if line.startswith(ours)}
        for text in (shown, made)
    ]
    claims = []
    for key in dict.fromkeys([*rows[0], *rows[1]]):
        before, after = (one.get(key, "no such row") for one in rows)
        note = "" if before == after else f"README.md: {before}; the results: {after}"
        claims.append(Claim(key, evidence=FAIL if note else PASS, note=note))
    if told:
        lacks = [line for line in told if line not in known]
        note = f"it lacks: {lacks[0]}" if lacks else ""
        claims.append(Claim("report/results/README.md", evidence=FAIL if lacks else PASS, note=note))
    return claims


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _same_clips(arrays: dict, pack) -> Claim:
    """Whether the predictions are of the data's test clips."""
    if isinstance(pack, str):
        return Claim("clips of the predictions", note=pack)
    orders = [np.argsort(names, kind="stable") for names in (arrays["names"], pack.names)]
    other = [
        name
        for name in CLIPS
        if len(arrays[name]) != len(pack) or not np.array_equal(arrays[name][orders[0]], getattr(pack, name)[orders[1]])
    ]
    note = f"{', '.join(other)}: not those of the test split" if other else ""
    return Claim(
        "clips of the predictions", len(arrays["names"]), len(pack), evidence=FAIL if other else PASS, note=note
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
