"""Train what a study compares, over seeds or folds, and write one table with intervals. Finished trainings are kept.

With --notebook instead of a study: execute a notebook in train mode with every combination of parameters.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from bundle.results import RESULTS, Study, study_table, update_readme
from bundle.run.command import NOTEBOOKS
from bundle.study import grid
from bundle.study.cells import ROOT, run
from bundle.study.studies import STUDIES
from bundle.study.summary import summarise, write
from bundle.study.trainings import corrected
from helpers.tasks import TASKS

CORRECTED = "corrected afterwards"  # row of the baseline


def add_arguments(verbs) -> None:
    """Declare `python -m bundle sweep`."""
    questions = "\n".join(f"  {name:14}{study.question}" for name, study in STUDIES.items())
    parser = verbs.add_parser(
        "sweep",
        help="run a study: many trainings, one table",
        description=f"{__doc__}\n\nstudies:\n{questions}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("study", nargs="?", choices=list(STUDIES))
    kind.add_argument("--notebook", type=notebook, help="such as 03: its five published rows, or what --grid says")
    parser.add_argument(
        "--grid", nargs="+", type=pair, default=[], metavar="NAME=V1,V2", help="LENGTH=512,256 EPOCHS=30"
    )
    parser.add_argument("--task", action="append", choices=list(TASKS), help="may be repeated (default: the study's)")
    parser.add_argument("--data", default="demo", help="'demo' or a folder; with a folder, one task")
    parser.add_argument("--seeds", type=int, help="trainings of each row (default: the study's; of a grid 5)")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "sweep", help="what is finished (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="write the table of a study into report/results")
    parser.add_argument("--executor", choices=("local", "slurm"), default="local", help="where (%(default)s)")
    parser.add_argument("--jobs", type=int, help="trainings at a time (default: one per core; on a cluster all)")
    parser.add_argument("--minutes", type=float, default=60, help="time limit of one notebook or job (%(default)s)")
    parser.add_argument("--cpus", type=int, default=2, help="cores of a SLURM job (%(default)s)")
    parser.add_argument(
        "--sbatch", nargs="+", type=pair, default=[], metavar="NAME=VALUE",
        help="more options of sbatch, such as partition=gpu gres=gpu:1 mem=16G account=NAME",
    )  # fmt: skip
    parser.set_defaults(call=command)


def notebook(text: str) -> str:
    """The notebook whose name starts so."""
    names = [name for name in NOTEBOOKS[1:] if name.startswith(text)]
    if len(names) != 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected one of {', '.join(NOTEBOOKS[1:])}.")
    return names[0]


def pair(text: str) -> tuple[str, str]:
    """An argument NAME=VALUE."""
    name, _, value = text.partition("=")
    if not name or not value:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected NAME=VALUE.")
    return name, value


def command(options: argparse.Namespace) -> int:
    """Run a study or a grid; 0 when all its cells succeeded, 1 when one failed, 2 for a wrong command line."""
    name = options.study or options.notebook
    study = STUDIES.get(options.study) or grid.study_of(options.notebook, options.grid)
    tasks = options.task or list(study.tasks)
    if found := problems(options, study, tasks):
        print("\n".join(found), file=sys.stderr)
        return 2
    data = options.data if options.data == "demo" else str(Path(options.data).expanduser().resolve())
    options.out = options.out.resolve()
    failed = []
    for task in tasks:
        rows = {
            title: [
                row.cells(title, task, data, seed, study.folds, options) for seed in range(options.seeds or study.seeds)
            ]
            for title, row in study.rows.items()
        }
        wanted = [cell for seeds in rows.values() for folds in seeds for cell in folds]
        if errors := run(wanted, options.out / "slurm", options):
            failed += errors
            continue
        found = {}
        for title, row in study.rows.items():
            found |= row.read(title, rows[title], study.scored)
        if study.balanced:
            found[CORRECTED] = corrected(found[study.baseline], rows[study.baseline])
        summary, predictions = summarise(name, study, task, data, found)
        folder = RESULTS if options.keep else options.out / "results"
        path = write(folder / f"{task}-{summary['data']}", name, summary, predictions)
        print(f"\n{study_table(Study(path, summary))}\n\n{path}")
    if options.keep:
        update_readme()
    for error in failed:
        print(f"FAILED {error}")
    return 1 if failed else 0


def problems(options: argparse.Namespace, study, tasks: list[str]) -> list[str]:
    """What is wrong with the command line."""
    if options.data != "demo" and len(tasks) != 1:
        return ["--data FOLDER holds one task's data: name it with --task."]
    if options.executor == "slurm" and not shutil.which("sbatch"):
        return ["--executor slurm: sbatch is not on the PATH. Run this on a login node of the cluster."]
    if options.study:
        return ["--grid goes with --notebook; a study has its own rows."] if options.grid else []
    if options.keep:
        return ["--keep is for studies; that of the published rows is first_layer."]
    return grid.problems(study)
