"""Equal tuning for every model: as many trials each, on the validation split, in a study that can be interrupted."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from helpers.tasks import Task

WAIT = 1.0  # seconds between two looks at the trials of others
STARTUP = 5  # trials before the sampler learns from them: the defaults, then random ones


class Range(NamedTuple):
    """One dimension of a search: its default, its ends, and whether it is searched on a logarithmic scale."""

    default: float
    low: float
    high: float
    log: bool = True


# What is tuned, by kind of model; a network's names are fields of `training.Settings` or options of the network
SPACES: dict[str, dict[str, Range]] = {
    "svm": {"cost": Range(10, 0.1, 1000), "gamma": Range(1e-3, 1e-5, 3e-2)},
    "raw_cnn": {
        "learning_rate": Range(2e-3, 3e-4, 3e-2),
        "weight_decay": Range(1e-2, 1e-4, 1e-1),
        "dropout": Range(0.0, 0.0, 0.6, log=False),
    },
    "mel_cnn": {
        "learning_rate": Range(5e-3, 3e-4, 3e-2),
        "weight_decay": Range(1e-2, 1e-4, 1e-1),
        "dropout": Range(0.3, 0.0, 0.6, log=False),
    },
}
MEND = "Get the file again (git checkout, or the release), or search anew (MODE='train', TRIALS above 0)."


def search(
    kind: str, objective: Callable[[dict[str, float]], float], trials: int, seed: int, folder: Path, **about
) -> dict:
    """Find settings by the tree-structured Parzen estimator (Bergstra et al. 2011); the first trial is the defaults.

    Every trial is written to `folder`/tuning_KIND.log when it ends. The same call continues there and proposes what
    it would have proposed without the interruption, since each proposal depends only on the seed and the scores of the
    trials before it; a trial that was running is run again.

    Several processes, also on several machines with the same file system, may make the same call at the same time. They
    share the trials out among themselves: the budget is kept exactly, a trial whose process died is run again by
    another one, and all return the same. What is proposed then depends on which trials have ended.

    Parameters
    ----------
    kind : str
        A key of `SPACES`.
    objective : callable
        Takes settings, returns the validation score, the higher the better. A score that is not finite counts as 0:
        training diverged. It is all that the search sees of the data.
    trials : int
        Budget: how many settings are tried, the defaults among them.
    seed : int
    folder : Path
        Made when missing.
    **about
        JSON, such as task, data, data_digest, classes and metric. It stands in the result, and only a study about
        the same is continued.

    Returns
    -------
    dict
        "model", "budget", "seed", what `about` says, "default" and "best" settings with "default_score" and
        "best_score", "spread" of the scores (deviation, low, high), and "trials", each with settings, score, seconds.
        The same is written to `folder`/tuning_KIND.json.

    Raises
    ------
    ValueError
        If there is no such kind, the budget is below 1, or the study cannot be read.
    """
    if kind not in SPACES:
        raise ValueError(f"tuning: found the model {kind!r}, expected one of {', '.join(SPACES)}.")
    if trials < 1:
        raise ValueError(f"TRIALS: found {trials}, expected at least 1; `best` gives settings without a search.")
    folder.mkdir(parents=True, exist_ok=True)
    study, lock = _study(kind, seed, folder / f"tuning_{kind}.log", about)
    while len(done := _completed(study)) < trials:
        with lock:
            claimed = _claim(study, kind, trials, seed, folder)
        if claimed:
            _try(study, *claimed, objective)
        else:
            time.sleep(WAIT)  # others are at the last trials, which fall to us should they die
    with lock:
        Path(lock.lock_file).unlink(missing_ok=True)
    rows = [
        {"settings": trial.params, "score": trial.value, "seconds": trial.user_attrs["seconds"]}
        for trial in done[:trials]
    ]
    scores = np.array([row["score"] for row in rows])
    result = {
        **{"model": kind, "budget": trials, "seed": seed},
        **about,
        **{"default": rows[0]["settings"], "best": rows[int(scores.argmax())]["settings"]},
        **{"default_score": float(scores[0]), "best_score": float(scores.max())},
        "spread": {"deviation": float(scores.std()), "low": float(scores.min()), "high": float(scores.max())},
        "trials": rows,
    }
    temporary = folder / f".tuning_{kind}.{os.getpid()}.json"
    temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, folder / f"tuning_{kind}.json")
    return result


def best(kind: str, task: Task, data: str, roots: Sequence[Path]) -> dict:
    """The settings to use without a search: found on these data, else on the demo data, else the defaults.

    Parameters
    ----------
    kind : str
        A key of `SPACES`.
    task : Task
    data : str
        `Dataset.name`.
    roots : sequence of Path
        Folders with `results/tuning_KIND.json` (a run's OUT) or `report/results/<task>-<data>/tuning_KIND.json` (the
        bundle); the first that has one wins.

    Returns
    -------
    dict
        "settings"; "source", in words; "record", what `search` returned, None for the defaults.

    Raises
    ------
    ValueError
        If a file is damaged, or there is no such kind.
    """
    if kind not in SPACES:
        raise ValueError(f"tuning: found the model {kind!r}, expected one of {', '.join(SPACES)}.")
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
    settings = {name: span.default for name, span in SPACES[kind].items()}
    return {"settings": settings, "source": f"the defaults; there is no search on '{data}' or the demo", "record": None}


def _study(kind: str, seed: int, path: Path, about: dict):
    """Open or make the study of this search in the journal at `path`; the study, and the lock of who writes there."""
    import optuna  # only who searches waits for it
    from filelock import FileLock
    from optuna.storages import JournalStorage, journal

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    identity = json.dumps([kind, seed, SPACES[kind], about], sort_keys=True)
    name = f"{kind}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    # Not Optuna's own lock: it is a file that a killed process leaves behind, and nobody can tell whether that lives
    lock = FileLock(path.with_suffix(".lock"))
    try:
        with lock:
            if path.is_file() and not (text := path.read_bytes()).endswith(b"\n"):  # killed while writing its last line
                os.truncate(path, text.rfind(b"\n") + 1)
            storage = JournalStorage(journal.JournalFileBackend(str(path), lock_obj=lock))
            study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
            study.get_trials(deepcopy=False)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: not the journal of a study ({type(error).__name__}: {error}). Delete it to search anew."
        ) from error
    return study, lock


def _completed(study) -> list:
    """The study's finished trials, in order."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]


def _claim(study, kind: str, trials: int, seed: int, folder: Path):
    """Propose the next setting: the trial, and the lock that shows it is alive; None when enough are under way."""
    from filelock import FileLock, Timeout
    from optuna import distributions, samplers, trial

    counted = len(_completed(study))
    for other in study.get_trials(deepcopy=False, states=(trial.TrialState.RUNNING,)):
        mark = FileLock(folder / f".{study.study_name}.{other.number}.lock")
        try:
            with mark.acquire(timeout=0):  # its process is gone
                study.tell(other.number, state=trial.TrialState.FAIL)
                Path(mark.lock_file).unlink(missing_ok=True)
        except Timeout:
            counted += 1
    if counted >= trials:
        return None
    space = {
        name: distributions.FloatDistribution(span.low, span.high, log=span.log) for name, span in SPACES[kind].items()
    }
    # A sampler of its own for every trial: what it proposes does not depend on what this process drew before
    draw = int(np.random.SeedSequence([seed, counted]).generate_state(1)[0])
    study.sampler = samplers.TPESampler(n_startup_trials=STARTUP, seed=draw, constant_liar=False)
    if not counted and not study.get_trials(deepcopy=False, states=(trial.TrialState.WAITING,)):
        study.enqueue_trial({name: span.default for name, span in SPACES[kind].items()})
    asked = study.ask(space)
    mark = FileLock(folder / f".{study.study_name}.{asked.number}.lock")
    mark.acquire()
    return asked, mark


def _try(study, trial, mark, objective: Callable[[dict[str, float]], float]) -> None:
    """Score a setting, and write it down; then it needs no mark of life any more."""
    try:
        started = time.perf_counter()
        score = float(objective(dict(trial.params)))
        trial.set_user_attr("seconds", round(time.perf_counter() - started, 2))
        study.tell(trial, score if math.isfinite(score) else 0.0)
    finally:
        Path(mark.lock_file).unlink(missing_ok=True)
        mark.release()


def _read(path: Path, kind: str) -> dict:
    """What a search wrote, checked as far as it is used."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["model"] != kind:
            raise ValueError(f"it is of the model {record['model']!r}")
        for name in ("task", "data", "budget", "seed", "spread", "default", "default_score", "best_score"):
            record[name]
        for settings in (record["best"], *(row["settings"] for row in record["trials"])):
            if set(settings) != set(SPACES[kind]) or not np.isfinite(list(settings.values())).all():
                raise ValueError(f"found the settings {settings}, expected {', '.join(SPACES[kind])}")
        [float(row["score"]) for row in record["trials"]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: not the result of a search ({type(error).__name__}: {error}). {MEND}") from error
    return record
