"""Train what a study compares, over seeds or folds, and write one table with intervals. Finished trainings are kept.

With --notebook instead of a study: execute a notebook in train mode with every combination of parameters.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bundle.results import update_readme
from bundle.study import cluster, grid
from bundle.study.folds import deal
from bundle.study.studies import STUDIES, Row, Study
from bundle.study.summary import in_words, summarise, write
from demo import end_with_parent
from helpers.data import Dataset, load, name_of
from helpers.files import replacing
from helpers.inference import predict_pack
from helpers.models import build, config_for, count_parameters
from helpers.tasks import TASKS, Task
from helpers.training import Settings, with_tuned
from helpers.training import fit as fit_model
from helpers.tuning import best
from helpers.weights import environment

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Training:
    """One training of a study: all that decides it, beside the samples themselves."""

    task: str
    data: str
    config: dict
    settings: Settings
    share: float
    apart: bool
    fold: int
    folds: int

    def path(self, out: Path, digest: str) -> Path:
        """Where its result is kept; named after all that decides it, so that two studies share equal trainings."""
        text = json.dumps(asdict(self) | {"data": digest}, sort_keys=True)
        return out / f"{self.task}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"


def add_arguments(verbs) -> None:
    """Declare `python -m bundle sweep`."""
    questions = "\n".join(f"  {name:14}{study.question}" for name, study in STUDIES.items())
    parser = verbs.add_parser(
        "sweep",
        help="run a study: many trainings, one table",
        description=f"{__doc__}\n\nstudies:\n{questions}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", nargs="?", choices=list(STUDIES))
    parser.add_argument("--notebook", help="such as 03: its five published rows, or what --grid says")
    parser.add_argument("--grid", nargs="+", metavar="NAME=V1,V2", help="parameters: LENGTH=512,256 EPOCHS=30")
    parser.add_argument("--task", action="append", choices=list(TASKS), help="may be repeated (default: the study's)")
    parser.add_argument("--data", default="demo", help="'demo' or a folder; with a folder, one task")
    parser.add_argument("--row", action="append", help="only this row, beside the baseline; may be repeated")
    parser.add_argument("--seeds", type=int, help="trainings of each row (default: the study's; of a grid 5)")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "sweep", help="finished trainings (%(default)s)")
    parser.add_argument("--jobs", type=int, help="trainings at a time (default: one per core; on a cluster all)")
    cluster.add_arguments(parser)
    parser.add_argument("--keep", action="store_true", help="write the table into report/results")
    parser.set_defaults(call=command)


def command(options: argparse.Namespace) -> int:
    """Run a study; 0 when all its trainings succeeded, 1 when one failed, 2 when the command line makes no sense."""
    problem = cluster.problem(options)
    if problem or bool(options.study) == bool(options.notebook) or (options.grid and options.study):
        print(problem or f"Name a study ({', '.join(STUDIES)}), or --notebook with --grid.", file=sys.stderr)
        return 2
    if options.notebook:
        return grid.command(options)
    study = STUDIES[options.study]
    tasks = options.task or list(study.tasks)
    unknown = set(options.row or ()) - set(study.rows)
    if unknown or (options.data != "demo" and len(tasks) != 1):
        print(
            f"No such row: {', '.join(sorted(unknown))}; there are {', '.join(study.rows)}."
            if unknown
            else "--data FOLDER holds one task's data: name it with --task.",
            file=sys.stderr,
        )
        return 2
    rows = {name: row for name, row in study.rows.items() if not options.row or name in {study.baseline, *options.row}}
    data = options.data if options.data == "demo" else str(Path(options.data).expanduser().resolve())
    failed = []
    for task in tasks:
        found, errors = train_all(study, rows, task, data, options)
        failed += errors
        if not errors:
            summary, predictions = summarise(options.study, study, rows, task, data, found)
            print(in_words(summary))
            folder = ROOT / "report" / "results" if options.keep else options.out / "results"
            print(write(folder / f"{task}-{summary['data']}", options.study, summary, predictions))
    if options.keep:
        update_readme()
    for error in failed:
        print(f"FAILED {error}")
    return 1 if failed else 0


def train_all(
    study: Study, rows: dict[str, Row], task: str, data: str, options: argparse.Namespace
) -> tuple[dict[str, list[list[Path]]], list[str]]:
    """Train what is not there yet, here or on a cluster; paths by row, seed and fold, and what went wrong."""
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[list[Path]]] = {}
    todo: dict[Path, tuple[str, Training]] = {}
    digests: dict[bool, list[str]] = {}
    for name, row in rows.items():
        # Render and pack before the workers need it
        parts = datasets(task, data, study.folds, row.apart) if row.apart not in digests else []
        digests.setdefault(row.apart, [part.digest for part in parts])
        found[name] = []
        for seed in range(options.seeds or study.seeds):
            config, settings = resolve(row, TASKS[task], data, seed)
            found[name].append([])
            for fold, digest in enumerate(digests[row.apart]):
                one = Training(task, data, config, settings, row.share, row.apart, fold, study.folds)
                found[name][-1].append(path := one.path(out, digest))
                if not path.is_file():
                    todo[path] = (f"{task} {name}, seed {seed}" + f", fold {fold + 1}" * bool(study.folds), one)
    if options.executor == "slurm":
        calls = [
            cluster.Call(title, path, train_in_job, (one, path, options.cpus)) for path, (title, one) in todo.items()
        ]
        return found, cluster.run(calls, out / "slurm", options)
    errors, jobs = [], options.jobs or os.cpu_count() or 1
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with (
        ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker, (threads,)) as pool,
        tqdm(total=len(todo), desc=f"sweep {task}", unit="training", disable=None) as progress,
    ):
        waiting = {pool.submit(train_one, one, path): title for path, (title, one) in todo.items()}
        for future in as_completed(waiting):
            progress.update()
            try:
                progress.write(f"{waiting[future]:60}{future.result()}")
            except Exception as error:  # the others go on; the command ends with it
                errors.append(f"{waiting[future]}: {type(error).__name__}: {error}")
    return found, errors


def _start_worker(threads: int) -> None:
    end_with_parent()
    _start(threads)


def _start(threads: int) -> None:
    """Begin to train: this share of the cores, and no bars of its own."""
    os.environ["TQDM_DISABLE"] = "1"
    import torch

    torch.set_num_threads(threads)


def train_in_job(training: Training, path: Path, cpus: int) -> None:
    """`train_one` as a job of its own."""
    _start(cpus)
    print(train_one(training, path))


def resolve(row: Row, task: Task, data: str, seed: int) -> tuple[dict, Settings]:
    """A row's network and settings: the committed best ones of its kind, then what the row says."""
    kind = {"RawCNN": "raw_cnn", "MelCNN": "mel_cnn"}.get(row.kind)  # the deeper ones are not tuned
    found = best(kind, task, name_of(data), [ROOT])["settings"] if kind else {}
    config = config_for(task, row.kind, len(task.classes))
    config, settings = with_tuned(config, Settings(batch=task.batch, seed=seed), found)
    return config | row.options, replace(settings, **row.settings)


def datasets(task: str, data: str, folds: int, apart: bool) -> list[Dataset]:
    """The data with their given split, or all folds."""
    return deal(TASKS[task], data, ROOT, folds, apart) if folds else [load(TASKS[task], data, ROOT)]


def train_one(training: Training, path: Path) -> str:
    """Train, predict the test split with the best and the final epoch's weights, and keep that; a line on it."""
    dataset = datasets(training.task, training.data, training.folds, training.apart)[training.fold]
    task, train, settings = dataset.task, dataset.train, training.settings
    if training.share < 1:
        order = np.random.default_rng([settings.seed, 1]).permutation(len(train))
        train = train.select(np.sort(order[: round(training.share * len(train))]))
    model = build(training.config, settings.seed)
    fit = fit_model(model, train, dataset.valid, task, settings, path.with_suffix(""))
    arrays = {"final": predict_pack(model, dataset.test, task)}
    model.load_state_dict(fit.best)
    arrays["best"] = predict_pack(model, dataset.test, task)
    arrays["valid"] = predict_pack(model, dataset.valid, task)
    for name in ("names", "groups", "targets"):
        arrays |= {name: getattr(dataset.test, name), f"valid_{name}": getattr(dataset.valid, name)}
    info = {
        "config": training.config,
        "settings": asdict(settings),
        "precision": fit.precision,
        "parameters": count_parameters(model),
        "clips": {"train": len(train), "valid": len(dataset.valid), "test": len(dataset.test)},
        "train_counts": np.bincount(train.targets, minlength=len(dataset.classes))
        if train.targets.ndim == 1
        else train.targets.sum(axis=0),
        "best_epoch": fit.best_epoch,
        "curves": fit.curves,
        "minutes": fit.seconds / 60,
        "environment": environment(),
    }
    info["valid_score"] = fit.curves["epoch_valid_score"][fit.best_epoch - 1]
    with replacing(path) as temporary:
        np.savez_compressed(temporary, info=np.array(json.dumps(info, default=np.ndarray.tolist)), **arrays)
    return f"validation {task.headline} {info['valid_score']:.3f}, {info['minutes']:.1f} min"
