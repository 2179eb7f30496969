"""Equal tuning for every model: as many trials each, on the validation split, in a study that can be interrupted."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from helpers.files import replacing
from helpers.models import NETWORKS
from helpers.tasks import Task

STARTUP = 5  # trials before the sampler learns from them: the defaults, then random ones
SPACES = {network.search: network.space for network in NETWORKS.values() if network.space}


def search(
    kind: str, objective: Callable[[dict[str, float]], float], trials: int, seed: int, folder: Path, **about
) -> dict:
    """Find settings by the tree-structured Parzen estimator (Bergstra et al. 2011); the first trial is the defaults.

    Every trial is written to `folder`/tuning_KIND.log when it ends. The same call continues there and proposes what
    it would have proposed without the interruption, since each proposal depends only on the seed and the scores of the
    trials before it; a trial that was running is run again.

    Parameters
    ----------
    kind : str
        A key of `SPACES`.
    objective : callable
        From settings to the validation score, all that the search sees of the data; not finite counts as 0.
    trials : int
        Budget: how many settings are tried, the defaults among them.
    **about
        Stands in the result, such as task, data, data_digest, classes; only a study about the same is continued.

    Returns
    -------
    dict
        "model", "budget", "seed", what `about` says, "default" and "best" settings with "default_score" and
        "best_score", "spread" of the scores, and "trials"; the same is written to `folder`/tuning_KIND.json.
    """
    from optuna.samplers import TPESampler  # only who searches waits for it
    from optuna.trial import TrialState

    defaults = _defaults(kind)
    folder.mkdir(parents=True, exist_ok=True)
    study = _study(kind, seed, folder / f"tuning_{kind}.log", about)

    def attempt(trial) -> float:
        spans = SPACES[kind].items()
        settings = {name: trial.suggest_float(name, span.low, span.high, log=span.log) for name, span in spans}
        started = time.perf_counter()
        score = float(objective(settings))
        trial.set_user_attr("seconds", round(time.perf_counter() - started, 2))
        return score if math.isfinite(score) else 0.0

    while len(done := study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < trials:
        # A sampler of its own for every trial: what it proposes depends neither on what this process drew before nor on
        # trials that were killed, which the journal holds as running
        draw = int(np.random.SeedSequence([seed, len(done)]).generate_state(1)[0])
        study.sampler = TPESampler(n_startup_trials=STARTUP, seed=draw, constant_liar=False)
        if not (done or study.get_trials(deepcopy=False, states=(TrialState.WAITING,))):
            study.enqueue_trial(defaults)
        study.optimize(attempt, n_trials=1)
    rows = [{"settings": one.params, "score": one.value, "seconds": one.user_attrs["seconds"]} for one in done[:trials]]
    scores = np.array([row["score"] for row in rows])
    result = {"model": kind, "budget": trials, "seed": seed} | about | {
        "default": rows[0]["settings"], "best": rows[int(scores.argmax())]["settings"],
        "default_score": float(scores[0]), "best_score": float(scores.max()),
        "spread": {"deviation": float(scores.std()), "low": float(scores.min()), "high": float(scores.max())},
        "trials": rows,
    }  # fmt: skip
    with replacing(folder / f"tuning_{kind}.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def best(kind: str, task: Task, data: str, roots: Sequence[Path]) -> dict:
    """The settings to use without a search: found on these data, else on the demo data, else the defaults.

    `roots` are folders with `results/tuning_KIND.json` (a run's OUT) or `report/results/<task>-<data>/tuning_KIND.json`
    (the bundle); the first that has one about `data`, a `Dataset.name`, wins. Returns "settings"; "source", in words;
    "record", what `search` returned, None for the defaults.
    """
    defaults = _defaults(kind)
    for name in dict.fromkeys((data, "demo")):
        for root in roots:
            for folder in (root / "results", root / "report" / "results" / f"{task.name}-{name}"):
                path = folder / f"tuning_{kind}.json"
                record = _read(path, kind) if path.is_file() else {}
                if (record.get("task"), record.get("data")) != (task.name, name):
                    continue  # a run's folder may hold a search on other data
                source = f"the best of {record['budget']} trials on {task.name}-{name} (seed {record['seed']})"
                source += "" if name == data else f"; there is no search on '{data}'"
                return {"settings": record["best"], "source": source, "record": record}
    return {"settings": defaults, "source": f"the defaults; there is no search on '{data}' or the demo", "record": None}


def _defaults(kind: str) -> dict[str, float]:
    """The settings that every search begins with."""
    return {name: span.default for name, span in SPACES[kind].items()}


def _study(kind: str, seed: int, path: Path, about: dict):
    """Open or make the study of this search in the journal at `path`."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    identity = json.dumps([kind, seed, SPACES[kind], about], sort_keys=True)
    name = f"{kind}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    if path.is_file() and not (text := path.read_bytes()).endswith(b"\n"):  # killed while writing its last line
        os.truncate(path, text.rfind(b"\n") + 1)
    try:
        storage = JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))
        return optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: not the journal of a study ({type(error).__name__}: {error}). Delete it to search anew."
        ) from error


def _read(path: Path, kind: str) -> dict:
    """What a search wrote, checked as far as it is used."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["model"] != kind or set(record["best"]) != set(SPACES[kind]):
            raise ValueError(f"it is of {record['model']} with {', '.join(record['best'])}")
        if not all(map(math.isfinite, record["best"].values())):
            raise ValueError(f"its best settings are {record['best']}")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path}: not the result of a search for {kind} ({type(error).__name__}: {error}). "
            "Get the file again (git checkout, or the release), or search anew (MODE='train', TRIALS above 0)."
        ) from error
    return record
