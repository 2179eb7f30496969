"""How far a figure may lie off when its notebook is executed again, and whether it does.

The seed is the same, so only the machine differs: cores, threads, precision, versions. What that may change is bounded
by what another seed changes, and never as wide as the effect that is claimed.
"""

from __future__ import annotations

import json
from math import hypot

import numpy as np

from bundle.reproduce.claims import CALIBRATION, LOSS, Claim, Source
from bundle.results import DIFFERENCE, Results, Run, Study
from helpers.files import replacing

LOSS_SHARE, LOSS_STEP = 0.05, 0.05  # how far a point of the training loss may lie off, whichever is more
SPREADS = ("networks", "first_layer", "deeper")  # studies that say how far seeds lie apart, the first that can


def tolerances(run: Run, studies: dict[str, Study]) -> dict[str, dict]:
    """How far each metric of a notebook may lie off when it is trained again with the same seed, elsewhere.

    Twice the deviation over seeds where a study of the same task and data has trained the model, else half of the
    interval; of two models with a clear difference at most half of that difference, so that it stays clear. `studies`
    are `Results.studies_of` the run. Returns {"tolerance", "tolerance_from"} by metric, the second in words.
    """
    found, metrics, headline = {}, run.content["metrics"], run.task.headline

    def spread(model: str, score: str) -> tuple[float, str] | None:
        """Twice the deviation of a model's score over seeds, from the first study that has one."""
        names = {model, model.removeprefix("raw_cnn_").replace("_", "/"), model.removesuffix("_256_256")}
        for study in (studies[name] for name in SPREADS if name in studies):
            for row in (row for name, row in study.rows.items() if name in names):
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


def compare(source: Source, measured: Run, allowed: dict[str, dict]) -> None:
    """Judge a notebook that was executed again, its training losses too; `allowed` are its `tolerances`."""
    run = Run(source.path, source.content)
    before, after, lines = run.content["metrics"], measured.content["metrics"], (run.curves(), measured.curves())
    for claim in (claim for claim in source.claims if claim.figure in before):
        value, (claim.tolerance, origin) = before[claim.figure]["value"], allowed[claim.figure].values()
        if claim.figure not in after:
            claim.judge(False, "executed again, the notebook does not give it")
            continue
        claim.measured = after[claim.figure]["value"]
        _within(claim, abs(claim.measured - value) <= claim.tolerance + 1e-12, origin)
    for model in dict.fromkeys([*lines[0], *lines[1]]):
        pair = tuple(one.get(model, {}).get("epoch_train_loss", []) for one in lines)
        judged = _judge_loss(f"{model}{LOSS}", *pair)
        source.claims = [claim for claim in source.claims if claim.figure != judged.figure] + [judged]
        source.curves[model] = pair
    same = all(key in after and after[key]["value"] == metric["value"] for key, metric in before.items())
    source.identical = same and lines[0] == lines[1]


def _judge_loss(figure: str, reported: list[float], measured: list[float]) -> Claim:
    """Compare two loss curves epoch by epoch; the claim shows the epoch that lies furthest off for its tolerance."""
    if not reported or len(reported) != len(measured):
        return Claim(figure).judge(False, f"reported {len(reported)} epochs, executed again {len(measured)}")
    allowed = np.maximum(LOSS_STEP, LOSS_SHARE * np.abs(reported))
    off = np.abs(np.subtract(measured, reported)) / allowed
    worst = int(off.argmax())
    claim = Claim(figure, reported[worst], None, measured[worst], float(allowed[worst]))
    where = (
        f"epoch {worst + 1} of {len(off)}, where they lie furthest apart" if off.any() else "the same to the last bit"
    )
    return _within(claim, off[worst] <= 1, f"{LOSS_SHARE:.0%} of each point, at least {LOSS_STEP}; {where}")


def _within(claim: Claim, holds: bool, origin: str) -> Claim:
    """Judge what was measured, and say where the tolerance comes from."""
    words = f"reported {claim.reported:.4f}, executed again {claim.measured:.4f}, tolerance {claim.tolerance:.4f} "
    return claim.judge(bool(holds), f"{words}({origin})" if not holds else f"tolerance: {origin}")
