"""How far a figure may lie off when its notebook is executed again, and whether it does.

The seed is the same, so only the machine differs: cores, threads, precision, versions. What that may change is bounded
by what another seed changes, and never as wide as the effect that is claimed.
"""

from __future__ import annotations

import json
import re
from math import hypot

from bundle.reproduce.claims import CALIBRATION, FAIL, LOSS, PASS, Claim
from bundle.results import DIFFERENCE, Results, Run, Study
from helpers.files import replacing

LOSS_SHARE, LOSS_STEP = 0.05, 0.05  # how far a point of the training loss may lie off, whichever is more
JUDGED, DRAWN = "epoch_train_loss", ("epoch_train_loss", "epoch_valid_loss")
SIDES = ("reported", "measured")
SPREADS = ("networks", "first_layer", "deeper")  # studies that say how far seeds lie apart, the first that can


def tolerances(run: Run, studies: dict[str, Study]) -> dict[str, dict]:
    """How far each metric of a notebook may lie off when it is trained again with the same seed, elsewhere.

    Twice the deviation over seeds where a study of the same task and data has trained the model, else half of the
    interval; of two models with a clear difference at most half of that difference, so that it stays clear.

    Parameters
    ----------
    run : Run
    studies : dict of str to Study
        From `Results.studies_of`.

    Returns
    -------
    dict
        By metric: {"tolerance", "tolerance_from"}, the second in words.
    """
    found, metrics, headline = {}, run.content["metrics"], run.task.headline

    def spread(model: str, score: str) -> tuple[float, str] | None:
        """Twice the deviation of a model's score over seeds, from the first study that has one."""
        layer = re.fullmatch(r"raw_cnn_(\d+)_(\d+)", model)
        rows = [model, *(["/".join(layer.groups())] if layer else []), *["raw_cnn"] * (model == "raw_cnn_256_256")]
        for study in (studies[name] for name in SPREADS if name in studies):
            for row in (study.rows[name] for name in rows if name in study.rows):
                one = row.score(score)
                if one and one.deviation is not None:
                    return 2 * one.deviation, f"2 × deviation over {one.seeds} seeds, study_{study.name} {row.name}"
        return None

    for key, metric in metrics.items():
        models, kind = run.about(key)
        spreads = [spread(model, headline if kind == DIFFERENCE else kind) for model in models]
        if not spreads or None in spreads:
            found[key] = (metric["high"] - metric["low"]) / 2, "half of the interval"
        elif kind == DIFFERENCE:
            found[key] = hypot(*(value for value, _ in spreads)), "2 × deviation over seeds, of both models together"
        else:
            found[key] = spreads[0]
    for key, metric in metrics.items():
        models, kind = run.about(key)
        if kind == DIFFERENCE and (metric["low"] > 0 or metric["high"] < 0):
            limit = abs(metric["value"]) / 2, f"half of the {key}"
            for other in (key, *(f"{model}_{headline}" for model in models)):
                if other in found:
                    found[other] = min(found[other], limit)
    for key in found:  # an error of calibration has no interval; it moves as the score does
        if run.about(key)[1] == CALIBRATION:
            found[key] = found.get(key.removesuffix(CALIBRATION) + headline, found[key])
    return {key: {"tolerance": float(value), "tolerance_from": source} for key, (value, source) in found.items()}


def state_tolerances(results: Results) -> None:
    """Write the tolerance of every metric into tolerances.json beside the results; these are not touched."""
    stated = {
        f"{place}/{run.notebook}": tolerances(run, results.studies_of(run))
        for place, runs in results.runs.items()
        for run in runs.values()
    }
    with replacing(results.folder / "tolerances.json") as temporary:
        temporary.write_text(json.dumps(stated, indent=1) + "\n", encoding="utf-8")


def compare(claims: list[Claim], run: Run, measured: Run, allowed: dict[str, dict]) -> tuple[list[dict], bool]:
    """Judge a notebook that was executed again; completes `claims`, those of the training loss too.

    Parameters
    ----------
    claims : list of Claim
        Of `run`, from `claims.check`.
    run, measured : Run
        What is reported, and the same notebook executed again.
    allowed : dict
        From `tolerances`.

    Returns
    -------
    curves : list of dict
        To draw: "model", "name", whether it is "judged", and the points "reported" and "measured".
    identical : bool
        Whether every metric and every point of every curve is the same to the last bit.
    """
    before, after = run.content["metrics"], measured.content["metrics"]
    for claim in (claim for claim in claims if claim.figure in before):
        claim.tolerance, claim.tolerance_from = allowed[claim.figure].values()
        if claim.figure not in after:
            claim.repeated, claim.note = FAIL, f"{claim.note} executed again, the notebook does not give it".strip()
            continue
        claim.measured = after[claim.figure]["value"]
        claim.difference = claim.measured - before[claim.figure]["value"]
        claim.repeated = PASS if abs(claim.difference) <= claim.tolerance + 1e-12 else FAIL
    lines, curves = (run.curves(), measured.curves()), []
    for model in dict.fromkeys([*lines[0], *lines[1]]):
        pair = [one.get(model, {}) for one in lines]
        judged = _judge_loss(f"{model}{LOSS}", *(one.get(JUDGED, []) for one in pair))
        claims[:] = [claim for claim in claims if claim.figure != judged.figure] + [judged]
        for name in DRAWN:
            points = dict(zip(SIDES, (one.get(name, []) for one in pair), strict=True))
            curves.append({"model": model, "name": name, "judged": name == JUDGED} | points)
    same = all(key in after and after[key]["value"] == metric["value"] for key, metric in before.items())
    return curves, same and lines[0] == lines[1]


def loss_tolerance(value: float) -> float:
    """How far a point of the training loss may lie off."""
    return max(LOSS_STEP, LOSS_SHARE * abs(value))


def _judge_loss(figure: str, reported: list[float], measured: list[float]) -> Claim:
    """Compare two loss curves epoch by epoch; the claim shows the epoch that lies furthest off for its tolerance."""
    if not reported or len(reported) != len(measured):
        return Claim(figure, repeated=FAIL, note=f"reported {len(reported)} epochs, measured {len(measured)}")
    allowed = list(map(loss_tolerance, reported))
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
