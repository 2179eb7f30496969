"""Measure a stranger's predictions against the labels our own reader finds, and compare with what the report claims."""

from __future__ import annotations

import csv
import hashlib
import math
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from bundle.grade.checks import FAIL, OPEN, PASS, samples_digest
from helpers import audio, data, metrics
from helpers.data.listing import Item, Problem
from helpers.data.pack import to_targets
from helpers.tasks import Task

LEAST = 0.005  # a claimed figure may always differ by so much
FIGURE = re.compile(r"(?:(?P<model>.+)_)?(?P<score>top1|top3|roc_auc|pr_auc|calibration_error)")
BLIND_CLIPS, BLIND_STEP, BLIND_SHARE = 24, 0.05, 0.9
CSV_BYTES, CLAIMS = 500 << 20, 500  # of a table; figures that are compared


@dataclass(frozen=True)
class Truth:
    """The grader's test recordings; their labels are in `items`."""

    task: Task
    classes: tuple[str, ...]
    folder: Path
    items: list[Item]
    labelled: bool
    left: list[Problem]  # recordings of the folder that nobody is asked for

    def fingerprint(self) -> str:
        """SHA-256 of names, labels and file sizes: equal for equal test data."""
        digest = hashlib.sha256(self.task.name.encode())
        for item in self.items:
            digest.update(f"{item.name}\0{item.labels}\0{item.path.stat().st_size}\n".encode())
        return digest.hexdigest()

    def known(self, with_audio: bool) -> dict:
        """What `checks.no_test_data` looks for; digests of the recordings only where there is audio to compare."""
        stems = {Path(item.name).name.split(".")[0]: list(item.labels) for item in self.items}
        found = {"rate": self.task.rate, "files": [], "samples": []}
        found["names"] = {stem: labels for stem, labels in stems.items() if len(stem) > 5 and not stem.isdigit()}
        for item in self.items if with_audio else ():
            if item.row is None:
                found["files"].append(hashlib.sha256(item.path.read_bytes()).hexdigest())
            try:
                found["samples"].append(samples_digest(audio.decode(item.path, self.task.rate, item.row)[0]))
            except audio.BadAudio:
                continue
        return found


def read_truth(task: Task, folder: Path) -> Truth:
    """The recordings that predict.py has to score; raises what `helpers.data.read` raises when there are none."""
    listing = data.read_any(task, folder, task.classes)
    items, left = [], list(listing.problems)
    for item in listing.scored():
        try:
            audio.refuse_foreign(item.file)
            items.append(item)
        except audio.BadAudio as error:
            left.append(Problem(item.name, str(error)))
    labelled = any(item.labels for item in items)
    return Truth(
        task,
        listing.classes,
        folder,
        [item for item in items if item.labels or task.multi_label or not labelled],
        labelled,
        left,
    )


def read_table(path: Path, truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a predictions.csv, (items, classes), and which items it has, (items,) bool.

    Raises
    ------
    ValueError
        If it is missing, not a plain file, too large, or not a table with a column "file" and one per class.
    """
    path = path.parent.resolve() / path.name
    try:
        status = path.lstat()
    except OSError:
        raise ValueError(f"{path.name}: was not written, expected a table of the predictions. See the log.") from None
    if not stat.S_ISREG(status.st_mode) or status.st_size > CSV_BYTES:
        raise ValueError(f"{path.name}: no plain file of at most {CSV_BYTES:,} bytes. Write a table with csv.")
    classes, values = truth.classes, {}
    wanted = {item.name for item in truth.items} | {Path(item.name).stem for item in truth.items}
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), newline="", encoding="utf-8", errors="replace") as file:
            table = csv.DictReader(file)
            columns = table.fieldnames or []
            have = set(classes) & set(columns)
            if "file" not in columns or len(have) < 2:
                raise ValueError(
                    f"{path.name}: columns {', '.join(columns)[:200]}, expected file, prediction and one per class "
                    f"({', '.join(classes)[:100]}). Write the probabilities."
                )
            for row in table:
                name = row["file"] or ""
                stem = Path(name).stem
                if name in wanted or stem in wanted:  # nothing else is kept, however long the table
                    found = [_number(row[label]) if label in have else 0.0 for label in classes]
                    values[name] = values[stem] = found
    except csv.Error as error:
        raise ValueError(f"{path.name}: {error}, expected a table. Write it with csv.") from error
    rows = [values.get(item.name, values.get(Path(item.name).stem)) for item in truth.items]
    there = np.array([row is not None for row in rows], dtype=bool)
    return np.array([row or [0.0] * len(classes) for row in rows], dtype=np.float64).reshape(-1, len(classes)), there


def _number(text: str | None) -> float:
    try:
        value = float(text or "nan")
    except ValueError:
        value = math.nan
    return value if math.isfinite(value) else 0.0


def score(values: np.ndarray, there: np.ndarray, truth: Truth) -> tuple[dict, list[dict], str]:
    """Scores, table per class, and a note; recordings without a prediction count as wrong, if we can read them."""
    kept = there.copy()
    for index in np.flatnonzero(~there):
        try:
            audio.decode(truth.items[index].path, truth.task.rate, truth.items[index].row)
            kept[index] = True
        except audio.BadAudio:
            continue
    note = f"{int((kept & ~there).sum())} of {int(kept.sum())} recordings without a prediction"
    if not truth.labelled or not kept.any():
        return {}, [], note
    items, values = [item for item, keep in zip(truth.items, kept, strict=True) if keep], values[kept]
    classes, many = truth.classes, truth.task.multi_label
    targets = to_targets([[label for label in item.labels if label in classes] for item in items], classes, many)
    found = metrics.scores(values, targets, [item.group for item in items])
    error = metrics.calibration(values, targets)[1]
    found["calibration_error"] = {"value": error, "low": error, "high": error, "n": len(items)}
    table = []
    if many:
        areas, precisions = metrics.per_tag(values, targets)
        for column, label in enumerate(classes):
            shown = [None if math.isnan(x) else float(x) for x in (areas[column], precisions[column])]
            table.append(
                {"class": label, "clips": int(targets[:, column].sum()), "ROC-AUC": shown[0], "PR-AUC": shown[1]}
            )
    else:
        chosen, hits = values.argmax(axis=1), [metrics.top_k(values, targets, k) for k in (1, 3)]
        for column, label in enumerate(classes):
            mine = targets == column
            shares = [float(hit[mine].mean()) if mine.any() else None for hit in hits]
            row = {"class": label, "clips": int(mine.sum()), "predicted": int((chosen == column).sum())}
            table.append(row | {"top-1": shares[0], "top-3": shares[1]})
    return found, table, note


def claimed_figures(claims: list[dict], truth: Truth) -> list[dict]:
    """Every figure of the results files for this task: file, name, model, score, claimed value, interval, n, digest."""
    found = []
    for content in claims:
        if content.get("task") != truth.task.name:
            continue
        digests = content.get("weights_digest")
        digests = digests if isinstance(digests, dict) else {}
        for name, claim in content["metrics"].items():
            match = FIGURE.fullmatch(str(name))
            if not match or not isinstance(claim, dict):
                continue
            model = match["model"] or (next(iter(digests)) if len(digests) == 1 else None)
            parameters = content.get("parameters")
            subset = str(parameters.get("CLASSES") or "")[:80] if isinstance(parameters, dict) else ""
            row = {"file": content["file"], "name": name, "model": model, "score": match["score"], "subset": subset}
            row |= {key: _finite(claim.get(key)) for key in ("value", "low", "high", "n")}
            found.append(row | {"data": str(content.get("data"))[:80], "digest": digests.get(model)})
    return found[:CLAIMS]


def _finite(value) -> float | None:
    """A number of a stranger's JSON, or None."""
    try:
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
    except OverflowError:
        return None


def compare(figure: dict, measured: dict | None, digest: str | None) -> dict:
    """A claimed figure with what was measured, the tolerance, and the verdict.

    The tolerance is the claimed interval, at least LEAST to each side, and on neither side wider than the interval
    measured here: a report cannot make room for itself by claiming to be vague.
    """
    row = figure | {"measured": None, "least": None, "most": None, "state": OPEN}
    if None in (figure["value"], figure["low"], figure["high"], figure["n"]):
        return row | {"state": FAIL, "note": "the claim is not a number with an interval"}
    if figure["subset"]:
        return row | {"note": f"claimed for the classes {figure['subset']} alone"}
    if figure["digest"] and digest and figure["digest"] != digest:
        return row | {"state": FAIL, "note": "claimed for other weights than those handed in"}
    found = (measured or {}).get(figure["score"])
    if found is None:
        return row | {"note": "the model could not be run on these data" if measured is None else "no such score here"}
    row["measured"] = found["value"]
    if found["n"] != figure["n"]:
        return row | {"note": f"claimed on {figure['n']:g} recordings, measured on {found['n']}: not the same test set"}
    width = found["high"] - found["low"]
    row["least"] = figure["value"] - max(LEAST, min(figure["value"] - figure["low"], width))
    row["most"] = figure["value"] + max(LEAST, min(figure["high"] - figure["value"], width))
    held = row["least"] <= found["value"] <= row["most"]
    return row | {"state": PASS if held else FAIL, "note": "" if held else "outside the tolerance"}


def write_blind(truth: Truth, folder: Path) -> list[int]:
    """Write some of the recordings without names or labels, spread over the test set; returns their places in it."""
    folder.mkdir()
    count = len(truth.items)
    places = sorted({int(place) for place in np.linspace(0, count - 1, min(BLIND_CLIPS, count))})
    written = []
    for place in places:
        item = truth.items[place]
        try:
            wave, _ = audio.decode(item.path, truth.task.rate, item.row)
        except audio.BadAudio:
            continue
        soundfile.write(folder / f"recording {len(written):03}.wav", wave, truth.task.rate, subtype="FLOAT")
        written.append(place)
    return written


def blind_agreement(seen: np.ndarray, blind: np.ndarray) -> tuple[str, str]:
    """Whether predictions stay the same when names and labels are out of sight; both (clips, classes)."""
    same = np.abs(seen - blind).max(axis=1) <= BLIND_STEP
    words = f"{int(same.sum())} of {len(same)} recordings keep their probabilities (± {BLIND_STEP}) as nameless copies"
    return (PASS if same.mean() >= BLIND_SHARE else FAIL), words
