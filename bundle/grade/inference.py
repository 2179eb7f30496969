"""Run a submission's predict.py on the grader's data, with labels in sight and out of sight, and measure its claims."""

from __future__ import annotations

import hashlib
import re
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from bundle.grade import measure
from bundle.grade.checks import FAIL, OPEN, PASS
from bundle.grade.sandbox import Ran

MODELS = 8  # models of one submission whose claims are measured
PRINTING = ("ntu", "bristol")  # briefs whose inference has to print scores
PRINTED = {False: r"(?is)top.{0,3}1\b.*top.{0,3}3\b", True: r"(?i)roc.?auc"}  # by several labels per recording


def infer(grading, root: Path) -> str:
    """Add what inference shows to a `bundle.grade.command` grading; returns the budget it exceeded, "" for none."""
    truth, out = grading.truth, grading.box / "out"
    out.mkdir()
    digests = weights_in(root)
    figures = measure.claimed_figures(grading.claims, truth)
    table = out / "predictions.csv"
    arguments = ["--data", str(truth.folder), "--out", str(table)]
    extra, again, done = blind(grading, root)  # before it has seen a label
    if not done.ended:
        done = grading.predict("", root, [*arguments, *extra])
    if not done.ok:
        why = f"ran out of {done.ended}" if done.ended else f"ended with exit code {done.code}"
        last = (done.log.strip().splitlines() or ["printed nothing"])[-1][:200]
        grading.note(f"{grading.title} runs on the grader's data", "all briefs: inference", FAIL, f"{why}: {last}")
        return done.ended
    grading.note(f"{grading.title} runs on the grader's data", "all briefs: inference", PASS, f"{done.seconds:.0f} s")
    printed = re.search(PRINTED[truth.task.multi_label], done.log)
    state = PASS if printed else FAIL if grading.brief in PRINTING else OPEN
    state = state if truth.labelled else OPEN
    last = (done.log.strip().splitlines() or ["nothing"])[-1][:200]
    grading.note("It prints its scores", "NTU, Code; Bristol, 3", state, last)
    try:
        values, there = measure.read_table(table, truth)
    except ValueError as error:
        grading.note("It writes one prediction per recording", "all briefs: inference", FAIL, str(error))
        return ""
    scores, per_class, note = measure.score(values, there, truth)
    full = note.startswith("0 of")
    grading.note("It writes one prediction per recording", "all briefs: inference", PASS if full else FAIL, note)
    grading.found |= {"scores": scores, "per_class": per_class}
    again(values)
    shown = re.findall(r"(?m)^(\S+) \(", done.log) + re.findall(r'"(?:model|weights)": "([^"]+)"', done.log)
    measured: dict[str, dict] = {Path(name).stem: scores for name in shown}
    for number, model in enumerate(list(dict.fromkeys(row["model"] for row in figures if not row["subset"]))[:MODELS]):
        if model not in measured and model in digests and grading.left > 0:
            found = scores_of(grading, root, digests[model][0], out / f"other{number}.csv", extra)
            if found:
                measured[model] = found
    none = (None, None)
    rows = [measure.compare(row, measured.get(row["model"]), digests.get(row["model"], none)[1]) for row in figures]
    grading.found["figures"] = rows
    states = [row["state"] for row in rows]
    wrong = [f"{row['file']}: {row['name']} {row['note']}" for row in rows if row["state"] == FAIL]
    words = f"{states.count(PASS)} of {len(rows)} hold, {states.count(OPEN)} cannot be compared"
    state = FAIL if wrong else PASS if PASS in states else OPEN
    grading.note("Claimed figures come out again", "claimed against measured", state, "; ".join(wrong[:3]) or words)
    return ""


def scores_of(grading, root: Path, weights: Path, table: Path, extra: list[str]) -> dict | None:
    """Scores with other weights of the submission; None when that does not work."""
    arguments = ["--data", str(grading.truth.folder), "--out", str(table), "--weights", str(weights), *extra]
    if not grading.predict(f"with {weights.name}", root, arguments).ok:
        return None
    try:
        return measure.score(*measure.read_table(table, grading.truth), grading.truth)[0]
    except ValueError:
        return None


def blind(grading, root: Path) -> tuple[list[str], Callable, Ran]:
    """Predict some recordings as copies without names and labels: the same sound must give the same answer later.

    It comes first, with the data folder hidden, so that there is nothing to look up and nothing to remember. Returns
    the options that predict.py takes beside the known ones, a function that adds the rubric's row once the
    probabilities with everything in sight, (recordings, classes), are there, and what came of the run.
    """
    truth = grading.truth
    folder, table = grading.box.with_name("blind"), grading.box / "out" / "blind.csv"
    places = measure.write_blind(truth, folder)
    items = [replace(truth.items[place], name=f"recording {number:03}.wav") for number, place in enumerate(places)]
    needed = (folder, Path(__file__), Path(sys.executable))
    hidden = [] if any(path.is_relative_to(truth.folder) for path in needed) else [truth.folder]
    arguments = ["--data", str(folder), "--out", str(table)]
    named = grading.lead
    for lead, extra in ((named, ["--json"]), (named, []), ([], [])):  # a plain script knows neither --json nor --task
        grading.lead = lead
        done = grading.predict("on nameless copies", root, [*arguments, *extra], hidden)
        if done.code != 2 or "unrecognized arguments" not in done.log:
            break

    def again(seen: np.ndarray) -> None:
        asked, source = "Same predictions with names and labels out of sight", "fair testing"
        try:
            if not done.ok:
                raise ValueError("it does not take a folder of audio files without labels")
            values, there = measure.read_table(table, replace(truth, items=items))
            if not there.all():
                raise ValueError(f"{int((~there).sum())} of {len(there)} copies got no prediction")
            grading.note(asked, source, *measure.blind_agreement(seen[np.array(places)], values))
        except ValueError as error:
            grading.note(asked, source, OPEN, str(error))

    return extra, again, done


def weights_in(root: Path) -> dict[str, tuple[Path, str]]:
    """Descriptions of handed-in weights by model name: path, digest of the weights file beside it."""
    found = {}
    for path in sorted(root.glob("weights/*/*.json")):
        beside = [path.with_suffix(end) for end in (".pt", ".npz") if path.with_suffix(end).is_file()]
        if beside and stat.S_ISREG(beside[0].lstat().st_mode):
            found.setdefault(path.stem, (path, hashlib.sha256(beside[0].read_bytes()).hexdigest()))
    return found
