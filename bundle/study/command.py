"""Train what a study compares, over seeds or folds, and write one table with intervals. Finished trainings are kept.

With a network's name and --grid: train it with every combination of its options and settings.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
from pathlib import Path

from bundle.results import Study, load, study_table
from bundle.run.command import literal
from bundle.run.keep import kept, refuse_other
from bundle.study import studies
from bundle.study.cells import ROOT, run
from bundle.study.summary import summarise, write
from bundle.study.trainings import cells_of, resolve
from helpers.models import build
from helpers.tasks import TASKS


def add_arguments(verbs) -> None:
    """Declare `python -m bundle sweep`."""
    questions = "\n".join(f"  {name:14}{study.question}" for name, study in studies.STUDIES.items())
    parser = verbs.add_parser(
        "sweep",
        help="run a study: many trainings, one table",
        description=f"{__doc__}\n\nstudies:\n{questions}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", choices=[*studies.STUDIES, *studies.NETWORKS], help="a study or a network")
    parser.add_argument(
        "--grid", nargs="+", type=pair, metavar="NAME=V1,V2", help="of a network: length=512,256 epochs=30"
    )
    parser.add_argument("--task", action="append", choices=list(TASKS), help="may be repeated (default: the study's)")
    parser.add_argument("--data", default="demo", help="'demo' or a folder; with a folder, one task")
    parser.add_argument("--seeds", type=positive, help="trainings of each row (default: the study's; of a grid 3)")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "sweep", help="what is finished (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="write the table into report/results")
    parser.add_argument("--executor", choices=("local", "slurm"), default="local", help="where (%(default)s)")
    parser.add_argument("--jobs", type=positive, help="trainings at a time (default: one per core; on a cluster all)")
    parser.add_argument("--minutes", type=int, default=60, help="time limit of a SLURM job (%(default)s)")
    parser.add_argument(
        "--sbatch", nargs="+", type=pair, default=[], metavar="NAME=VALUE",
        help="more options of sbatch, such as cpus-per-task=4 mem=16G partition=gpu gres=gpu:1 account=NAME",
    )  # fmt: skip
    parser.set_defaults(call=command, refuse=parser.error)


def positive(text: str) -> int:
    """An argument that counts something."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of at least 1.")
    return int(text)


def pair(text: str) -> tuple[str, str]:
    """An argument NAME=VALUE."""
    name, _, value = text.partition("=")
    if not name or not value:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected NAME=VALUE.")
    return name, value


def grid(network: str, given: list[tuple[str, str]]) -> studies.Study:
    """The study of all combinations of NAME, "VALUE,VALUE"."""
    names, values = [name for name, _ in given], [[literal(one) for one in text.split(",")] for _, text in given]
    rows = [dict(zip(names, row, strict=True)) for row in itertools.product(*values)]
    titled = {",".join(f"{name}={value}" for name, value in row.items()): studies.Row(network, row) for row in rows}
    return studies.Study(f"{network} with {len(rows)} choice(s) of {', '.join(names)}.", titled, next(iter(titled)))


def command(options: argparse.Namespace) -> int:
    """Run a study or a grid; 0 when all its cells succeeded, 1 when one failed, 2 for a wrong command line."""
    name, out = options.study, options.out.resolve()
    if bool(options.grid) != (name in studies.NETWORKS):
        options.refuse("--grid goes with a network, and a network with --grid; a study has its own rows.")
    study = grid(name, options.grid) if options.grid else studies.STUDIES[name]
    tasks = options.task or study.tasks
    if options.data != "demo" and len(tasks) != 1:
        options.refuse("--data FOLDER holds one task's data: name it with --task.")
    if options.sbatch and options.executor != "slurm":
        options.refuse("--sbatch goes with --executor slurm.")
    if options.executor == "slurm" and not shutil.which("sbatch"):
        options.refuse("--executor slurm: sbatch is not on the PATH. Run this on a login node of the cluster.")
    data = options.data if options.data == "demo" else str(Path(options.data).expanduser().resolve())
    try:
        for row in study.rows.values():
            build(resolve(row, TASKS[tasks[0]], data, 0)[0])
    except ValueError as error:
        options.refuse(str(error))
    failed, made = [], []
    for task in tasks:
        cells = {
            title: [
                cells_of(row, title, task, data, seed, study.folds, out) for seed in range(options.seeds or study.seeds)
            ]
            for title, row in study.rows.items()
        }
        wanted = [cell for seeds in cells.values() for folds in seeds for cell in folds]
        if errors := run(wanted, out / "slurm", options):
            failed += errors
            continue
        files = {title: [[cell.result for cell in folds] for folds in seeds] for title, seeds in cells.items()}
        summary, predictions = summarise(name, study, task, data, files)
        path = write(out / "results" / f"{task}-{summary['data']}", name, summary, predictions)
        made.append(path)
        print(f"\n{study_table(Study(path, summary))}\n\n{path}")
    if options.keep and made:
        with kept() as staged:
            for path in made:
                target = staged / "report" / "results" / path.parent.name
                target.mkdir(parents=True, exist_ok=True)
                refuse_other(target / path.name, load(path))
                for one in (path, path.with_suffix(".npz")):
                    shutil.copy2(one, target)
    for error in failed:
        print(f"FAILED {error}")
    return 1 if failed else 0
