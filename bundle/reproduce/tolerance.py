"""How far a figure may lie off when its notebook is executed again, and whether it does.

The seed is the same, so only the machine differs: cores, threads, precision, versions. What that may change is bounded
by what another seed changes, and never as wide as the effect that is claimed.
"""

from __future__ import annotations

import json
import os
import re
from math import hypot
from pathlib import Path

from bundle.reproduce.claims import CALIBRATION, DIFFERENCE, FAIL, FINAL, LOSS, PASS, Claim, curves_by_model, models_of
from helpers.tasks import TASKS

LOSS_SHARE, LOSS_STEP = 0.05, 0.05  # how far a point of the training loss may lie off, whichever is more
JUDGED, DRAWN = "epoch_train_loss", ("epoch_train_loss", "epoch_valid_loss")
SIDES = ("reported", "measured")
SPREADS = ("networks", "first_layer", "deeper")  # studies that say how far seeds lie apart, the first that can


def tolerances(results: dict, studies: list[dict]) -> dict[str, dict]:
    """How far each metric of a notebook may lie off when it is trained again with the same seed, elsewhere.

    Twice the deviation over seeds where a study of the same task and data has trained the model, else half of the
    interval; of two models with a clear difference at most half of that difference, so that it stays clear.

    Parameters
    ----------
    results : dict
        A notebook's results file.
    studies : list of dict
        Study files; others than those of this task and data are passed over.

    Returns
    -------
    dict
        By metric: {"tolerance", "tolerance_from"}, the second in words.
    """
    models, found = sorted(results["weights_digest"], key=len, reverse=True), {}
    headline, about = TASKS[results["task"]].headline, (results["task"], results["data"], "")
    ours = {
        study["study"]: study
        for study in studies
        if (study["task"], study["data"], results["parameters"]["CLASSES"]) == about
    }

    def spread(model: str, score: str) -> tuple[float, str] | None:
        """Twice the deviation of a model's score over seeds, from the first study that has one."""
        layer = re.fullmatch(r"raw_cnn_(\d+)_(\d+)", model)
        rows = [model, *(["/".join(layer.groups())] if layer else []), *["raw_cnn"] * (model == "raw_cnn_256_256")]
        for name in SPREADS:
            for row in rows:
                one = ours.get(name, {}).get("rows", {}).get(row, {}).get("metrics", {}).get(score, {})
                if one.get("deviation") is not None:
                    return 2 * one["deviation"], f"2 × deviation over {one['seeds']} seeds, study_{name} {row}"
        return None

    for name, metric in results["metrics"].items():
        model = next((model for model in models if name.startswith(f"{model}_")), models[0] if models else "")
        score = name.removeprefix(FINAL).removeprefix(f"{model}_")
        value = (metric["high"] - metric["low"]) / 2, "half of the interval"
        if name.startswith(DIFFERENCE):
            both = [spread(model, headline) for model in models_of(name)]
            if all(both):
                value = hypot(both[0][0], both[1][0]), "2 × deviation over seeds, of both models together"
        else:
            value = spread(model, score) or value
        found[name] = value
    for name, metric in results["metrics"].items():
        if name.startswith(DIFFERENCE) and (metric["low"] > 0 or metric["high"] < 0):
            limit = abs(metric["value"]) / 2, f"half of the {name}"
            for other in (name, *(f"{model}_{headline}" for model in models_of(name))):
                if other in found:
                    found[other] = min(found[other], limit)
    for name in found:  # an error of calibration has no interval; it moves as the score does
        if name.endswith(f"_{CALIBRATION}"):
            found[name] = found.get(name.removesuffix(CALIBRATION) + headline, found[name])
    return {name: {"tolerance": float(value), "tolerance_from": source} for name, (value, source) in found.items()}


def state_tolerances(folder: Path) -> None:
    """Write "tolerance" and "tolerance_from" into every metric of the results in `folder`/<task>-<data>/."""
    studies = read_studies(folder)
    for path in sorted(folder.glob("*/[0-9][0-9]_*.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        for name, stated in tolerances(results, studies).items():
            results["metrics"][name] |= stated
        temporary = path.with_name(f".{path.stem}.{os.getpid()}.json")
        temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)


def read_studies(folder: Path) -> list[dict]:
    """All studies in `folder`/<task>-<data>/."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*/study_*.json"))]


def compare(claims: list[Claim], reported: dict, measured: dict, studies: list[dict]) -> tuple[list[dict], bool]:
    """Judge a notebook that was executed again; completes `claims`, those of the training loss too.

    Parameters
    ----------
    claims : list of Claim
        Of `reported`, from `claims.check`.
    reported, measured : dict
        Two results files of the same notebook.
    studies : list of dict
        As for `tolerances`. Of a tolerance that stands in `reported` and the derived one the smaller counts.

    Returns
    -------
    curves : list of dict
        To draw: "model", "name", whether it is "judged", and the points "reported" and "measured".
    identical : bool
        Whether every metric and every point of every curve is the same to the last bit.
    """
    derived = tolerances(reported, studies)
    for claim in (claim for claim in claims if claim.figure in reported["metrics"]):
        metric, again = reported["metrics"][claim.figure], measured["metrics"].get(claim.figure)
        claim.tolerance, claim.tolerance_from = derived[claim.figure].values()
        if metric.get("tolerance", claim.tolerance) < claim.tolerance:
            claim.tolerance, claim.tolerance_from = metric["tolerance"], metric.get("tolerance_from", "as stated")
        if again is None:
            claim.repeated, claim.note = FAIL, f"{claim.note} executed again, the notebook does not give it".strip()
            continue
        claim.measured, claim.difference = again["value"], again["value"] - metric["value"]
        claim.repeated = PASS if abs(claim.difference) <= claim.tolerance + 1e-12 else FAIL
    before, after = curves_by_model(reported), curves_by_model(measured)
    curves = []
    for model in dict.fromkeys([*before, *after]):
        lines = [one.get(model, {}) for one in (before, after)]
        judged = _judge_loss(f"{model}{LOSS}", *(one.get(JUDGED, []) for one in lines))
        claims[:] = [claim for claim in claims if claim.figure != judged.figure] + [judged]
        for name in DRAWN:
            pair = [one.get(name, []) for one in lines]
            curves.append(
                {"model": model, "name": name, "judged": name == JUDGED, **dict(zip(SIDES, pair, strict=True))}
            )
    values = [{name: metric["value"] for name, metric in one["metrics"].items()} for one in (reported, measured)]
    return curves, before == after and all(values[1].get(name) == value for name, value in values[0].items())


def _judge_loss(figure: str, reported: list[float], measured: list[float]) -> Claim:
    """Compare two loss curves epoch by epoch; the claim shows the epoch that lies furthest off for its tolerance."""
    if not reported or len(reported) != len(measured):
        return Claim(figure, repeated=FAIL, note=f"reported {len(reported)} epochs, measured {len(measured)}")
    allowed = [max(LOSS_STEP, LOSS_SHARE * abs(value)) for value in reported]
    gaps = [after - before for before, after in zip(reported, measured, strict=True)]
    worst = max(range(len(gaps)), key=lambda epoch: abs(gaps[epoch]) / allowed[epoch])
    within = all(abs(gap) <= limit for gap, limit in zip(gaps, allowed, strict=True))
    source = f"{LOSS_SHARE:.0%} of each point, at least {LOSS_STEP}"
    return Claim(
        figure, reported[worst], None, measured[worst], gaps[worst], allowed[worst], source,
        repeated=PASS if within else FAIL,
        note=f"epoch {worst + 1} of {len(gaps)}, where they lie furthest apart"
        if any(gaps) else f"the same to the last bit in all {len(gaps)} epochs",
    )  # fmt: skip
