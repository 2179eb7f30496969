"""Trainings as cells: each kept with its predictions in a file named after all that decides it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from bundle.results import CLIPS, network
from bundle.study.cells import ROOT, Cell, digest_of
from bundle.study.folds import deal
from bundle.study.summary import Found, adjust, mean_of, stacked, tuned_thresholds
from helpers.data import Dataset, load, name_of
from helpers.files import replacing
from helpers.inference import predict_pack
from helpers.models import build, config_for, count_parameters
from helpers.tasks import TASKS, Task
from helpers.training import EPOCH_CURVES, Settings, fit, with_tuned
from helpers.tuning import best
from helpers.weights import environment

EPOCHS = 20  # of networks with batch normalisation, as in notebook 04; with 12 they are far from done


@dataclass(frozen=True)
class Row:
    """One way to train: a network, and what differs from its usual options and settings."""

    network: str = "mel_cnn"  # as `results.network` knows it
    options: dict = field(default_factory=dict)  # of the network
    settings: dict = field(default_factory=dict)  # of `training.Settings`; EPOCHS unless they say
    share: float = 1.0  # of the training clips that are used
    apart: bool = True  # in folds: keep groups apart

    def cells(self, title: str, task: str, data: str, seed: int, folds: int, options) -> list[Cell]:
        """The cells of one seed, by fold. Two studies share equal trainings."""
        found, (config, settings) = [], resolve(self, TASKS[task], data, seed)
        for fold, dataset in enumerate(datasets(task, data, folds, self.apart)):
            one = Training(task, data, config, settings, self.share, self.apart, fold, folds)
            path = options.out / f"{task}-{digest_of(asdict(one) | {'data': dataset.digest})}.npz"
            name = f"{task} {title}, seed {seed}" + f", fold {fold + 1}" * bool(folds)
            found.append(Cell(name, path, train, (one, path)))
        return found

    def read(self, title: str, seeds: list[list[Cell]], scored: str) -> dict[str, Found]:
        """What the cells have left; of the "best epoch" or the "final epoch"."""
        paths = [[cell.result for cell in folds] for folds in seeds]
        infos = [info_of(path) for folds in paths for path in folds]
        found = Found(*stacked(paths, scored.split()[0]), describe(infos), infos[0]["environment"])
        return {title: found._replace(content=found.content | {"share": self.share})}


@dataclass(frozen=True)
class Training:
    """One training: all that decides it, beside the samples themselves."""

    task: str
    data: str
    config: dict
    settings: Settings
    share: float
    apart: bool
    fold: int
    folds: int


def resolve(row: Row, task: Task, data: str, seed: int) -> tuple[dict, Settings]:
    """A row's network and settings: the committed best ones of its kind, then what the row says."""
    known = network(row.network)
    found = best(known.search, task, name_of(data), [ROOT])["settings"] if known.search else {}
    config = config_for(task, known.kind, len(task.classes))
    config, settings = with_tuned(config, Settings(EPOCHS, task.batch, seed=seed), found)
    return config | known.options | row.options, replace(settings, **row.settings)


@cache
def datasets(task: str, data: str, folds: int, apart: bool) -> list[Dataset]:
    """The data with their given split, or all folds; rendered and packed when they are asked for first."""
    return deal(TASKS[task], data, ROOT, folds, apart) if folds else [load(TASKS[task], data, ROOT)]


def train(training: Training, path: Path) -> None:
    """Train, predict the test split with the best and the final epoch's weights, and keep that."""
    dataset = datasets(training.task, training.data, training.folds, training.apart)[training.fold]
    task, clips, settings = dataset.task, dataset.train, training.settings
    if training.share < 1:
        order = np.random.default_rng([settings.seed, 1]).permutation(len(clips))
        clips = clips.select(np.sort(order[: round(training.share * len(clips))]))
    model = build(training.config, settings.seed)
    done = fit(model, clips, dataset.valid, task, settings, path.with_suffix(""))
    arrays = {"final": predict_pack(model, dataset.test, task)}
    model.load_state_dict(done.best)
    arrays |= {"best": predict_pack(model, dataset.test, task), "valid": predict_pack(model, dataset.valid, task)}
    for name in CLIPS:
        arrays |= {name: getattr(dataset.test, name), f"valid_{name}": getattr(dataset.valid, name)}
    info = {
        "config": training.config,
        "settings": asdict(settings),
        "precision": done.precision,
        "parameters": count_parameters(model),
        "clips": {"train": len(clips), "valid": len(dataset.valid), "test": len(dataset.test)},
        "train_counts": np.bincount(clips.targets, minlength=len(dataset.classes))
        if clips.targets.ndim == 1
        else clips.targets.sum(axis=0),
        "best_epoch": done.best_epoch,
        "curves": done.curves,
        "minutes": done.seconds / 60,
        "environment": environment(),
        "valid_score": done.curves["epoch_valid_score"][done.best_epoch - 1],
    }
    with replacing(path) as temporary:
        np.savez_compressed(temporary, info=np.array(json.dumps(info, default=np.ndarray.tolist)), **arrays)


def info_of(path: Path) -> dict:
    """What a training says of itself."""
    with np.load(path, allow_pickle=False) as stored:
        return json.loads(str(stored["info"]))


def describe(infos: list[dict]) -> dict:
    """What is the same in all trainings of a row, and the means of what is not."""
    curves = {curve: [info["curves"][curve] for info in infos] for curve in EPOCH_CURVES}
    return {
        "config": infos[0]["config"],
        "settings": {key: value for key, value in infos[0]["settings"].items() if key != "seed"},
        "precision": infos[0]["precision"],
        "parameters": infos[0]["parameters"],
        "train_clips": [info["clips"]["train"] for info in infos],
        "minutes": float(np.mean([info["minutes"] for info in infos])),
        "valid": mean_of([info["valid_score"] for info in infos]),
        "best_epochs": [info["best_epoch"] for info in infos],
        "curves": {name: np.mean(values, axis=0).tolist() for name, values in curves.items()},
        "curves_deviation": {name: np.std(values, axis=0, ddof=1).tolist() for name, values in curves.items()}
        if len(infos) > 1
        else None,
    }


def corrected(row: Found, seeds: list[list[Cell]]) -> Found:
    """A row with every tag's threshold moved to 0.5, or with the training split's priors taken out, afterwards.

    Thresholds are tuned on the validation split, priors counted on the training split.
    """
    stack = []
    for values, (cell,) in zip(row.stack.astype(np.float32), seeds, strict=True):
        stored = np.load(cell.result, allow_pickle=False)
        if stored["targets"].ndim == 2:
            thresholds = tuned_thresholds(stored["valid"].astype(np.float32), stored["valid_targets"])
            stack.append(np.where(values >= thresholds, 0.5 + values / 2, values / 2))  # order within a tag stays
        else:
            stack.append(adjust(values, np.array(info_of(cell.result)["train_counts"])))
    return row._replace(stack=np.stack(stack).astype(np.float16))
