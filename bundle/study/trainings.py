"""Trainings as cells: each kept with its predictions in a file named after all that decides it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from bundle.results import CLIPS, network
from bundle.study.cells import ROOT, Cell
from bundle.study.folds import deal
from bundle.study.studies import Row
from helpers.data import Dataset, load, name_of
from helpers.files import replacing
from helpers.inference import predict_pack
from helpers.models import build, config_for, count_parameters
from helpers.tasks import TASKS, Task
from helpers.training import Settings, fit, forget, with_tuned
from helpers.tuning import best
from helpers.weights import environment

EPOCHS = 20  # of networks with batch normalisation, as in notebook 04; with 12 they are far from done


def cells_of(row: Row, title: str, task: str, data: str, seed: int, folds: int, out: Path) -> list[Cell]:
    """The trainings of a row with one seed, by fold. Two studies share equal ones."""
    config, settings = resolve(row, TASKS[task], data, seed)
    given = {"task": task, "data": data, "config": config, "share": row.share, "apart": row.apart, "folds": folds}
    cells = []
    for fold, dataset in enumerate(datasets(task, data, folds, row.apart)):
        decides = given | {"settings": asdict(settings), "fold": fold, "data": dataset.digest}
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
        name, path = f"{task} {title}, seed {seed}" + f", fold {fold + 1}" * bool(folds), out / f"{task}-{digest}.npz"
        cells.append(Cell(name, path, partial(train, path, settings=settings, fold=fold, **given)))
    return cells


def resolve(row: Row, task: Task, data: str, seed: int) -> tuple[dict, Settings]:
    """A row's network and settings: the committed best ones of its kind, then what the row says."""
    known = network(row.network)
    tuned = best(known.search, task, name_of(data), [ROOT])["settings"] if known.search else {}
    config = config_for(task, known.kind, len(task.classes))
    config, settings = with_tuned(config, Settings(EPOCHS, task.batch), tuned)
    config, settings = with_tuned(config | known.options, settings, row.changes)
    return config, replace(settings, seed=seed)


@cache
def datasets(task: str, data: str, folds: int, apart: bool) -> list[Dataset]:
    """The data with their given split, or all folds; rendered and packed when they are asked for first."""
    return deal(TASKS[task], data, ROOT, folds, apart) if folds else [load(TASKS[task], data, ROOT)]


def train(
    path: Path, task: str, data: str, config: dict, settings: Settings, share: float, apart: bool, fold: int, folds: int
) -> None:
    """Train, predict the test split with the best and the final epoch's weights, and keep that in `path`."""
    dataset = datasets(task, data, folds, apart)[fold]
    clips, test, valid = dataset.train, dataset.test, dataset.valid
    if share < 1:
        order = np.random.default_rng([settings.seed, 1]).permutation(len(clips))
        clips = clips.select(np.sort(order[: round(share * len(clips))]))
    model = build(config, settings.seed)
    done = fit(model, clips, valid, dataset.task, settings, path.with_suffix(""))
    arrays = {"final": predict_pack(model, test, dataset.task)}
    model.load_state_dict(done.best)
    arrays |= {name: predict_pack(model, pack, dataset.task) for name, pack in (("best", test), ("valid", valid))}
    for name in CLIPS:
        arrays |= {name: getattr(test, name), f"valid_{name}": getattr(valid, name)}
    labels = np.eye(len(dataset.classes), dtype=int)[clips.targets] if clips.targets.ndim == 1 else clips.targets
    info = {
        "data_digest": dataset.digest,
        "config": config,
        "settings": asdict(settings),
        "precision": done.precision,
        "parameters": count_parameters(model),
        "clips": {"train": len(clips), "valid": len(valid), "test": len(test)},
        "train_counts": labels.sum(axis=0),
        "curves": done.curves,
        "minutes": done.seconds / 60,
        "environment": environment(),
    }
    with replacing(path) as temporary:
        np.savez_compressed(temporary, info=np.array(json.dumps(info, default=np.ndarray.tolist)), **arrays)
    forget(path.with_suffix(""))
