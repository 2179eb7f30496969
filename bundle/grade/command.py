"""Grade a stranger's zip: unpack it safely, check the brief's rules, run its inference in a box, measure its figures.

Exit codes: 0 passed, 1 failed, 2 wrong command line or data, 3 broken submission (cannot be unpacked, or has neither
predict.py nor one TorchScript model), 4 budget exceeded. With --all: 0 when every zip got its verdict, whatever it
says; else 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from bundle.grade.grader import grade, loose_files
from bundle.grade.rubric import RULES, TASK
from bundle.grade.sandbox import GIB, Budget
from bundle.grade.verdict import OUTCOMES, summary, write, write_summary


def add_arguments(verbs) -> None:
    """Declare `python -m bundle grade`."""
    parser = verbs.add_parser(
        "grade", help="grade a submission's zip, or a folder of them", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("submission", nargs="?", type=Path, metavar="SUBMISSION.zip")
    parser.add_argument("--brief", required=True, choices=list(RULES))
    parser.add_argument("--data", required=True, type=Path, help="your test data, in a layout the readers know")
    parser.add_argument("--task", choices=sorted(set(TASK.values())), help="for ucd: the task handed in (nsynth)")
    parser.add_argument("--out", type=Path, help="folder for verdict.json and .html (default: beside the zip)")
    parser.add_argument("--minutes", type=float, default=30, help="for all of its inference (%(default)g)")
    parser.add_argument("--memory", type=float, default=4, metavar="GIB", help="for its inference (%(default)g)")
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="grade every zip under a folder instead")
    parser.add_argument("--jobs", type=int, default=1, help="zips at a time, sharing the cores (%(default)s)")
    parser.set_defaults(call=command)


def command(options: argparse.Namespace) -> int:
    """Grade one zip or all of a folder; see the module's exit codes."""
    from bundle.grade.measure import read_truth
    from helpers.tasks import get_task

    try:
        if (options.submission is None) == (options.all is None):
            raise ValueError("Give either SUBMISSION.zip or --all FOLDER.")
        if min(options.minutes, options.memory, options.jobs) <= 0:
            raise ValueError("--minutes, --memory and --jobs: expected more than 0.")
        given = options.submission or options.all
        if not (given.is_file() if options.submission else given.is_dir()):
            raise FileNotFoundError(f"{given}: no such {'file' if options.submission else 'folder'}.")
        truth = read_truth(get_task(options.task or TASK[options.brief]), options.data.expanduser().resolve())
        if not truth.items:
            raise ValueError(f"{options.data}: no recording to test on. Give your test data.")
    except (ValueError, FileNotFoundError) as error:
        print(f"grade: {error}", file=sys.stderr)
        return 2
    for problem in truth.left:
        print(f"left out of the test set: {problem}", file=sys.stderr)
    budget = Budget(60 * options.minutes, int(options.memory * GIB))

    def to_verdict(archive: Path, out: Path) -> dict:
        """A verdict that still holds, or a new one."""
        key = reuse_key(archive, options.brief, truth.fingerprint(), budget)
        verdict = finished(out, key)
        if verdict is None:
            verdict = grade(archive, options.brief, truth, budget, options.jobs) | {"key": key}
            write(verdict, out)
        return verdict

    if options.all:
        return grade_all(options.all.resolve(), options.out, options.jobs, to_verdict)
    out = options.out or options.submission.with_suffix("")
    verdict = to_verdict(options.submission, out)
    print(f"{verdict['submission']}: {verdict['outcome']}: {verdict['reason']}")
    print(f"verdict: {out / 'verdict.html'}")
    return OUTCOMES[verdict["outcome"]]


def grade_all(folder: Path, out: Path | None, jobs: int, to_verdict: Callable[[Path, Path], dict]) -> int:
    """Grade every zip under `folder`, `jobs` at a time, into `out` (default: verdicts/ in it), and write summary.csv.

    What a stranger wrote runs in boxes alone, so that none of it can stop the others. Returns 0 when all got a verdict.
    """
    out = out or folder / "verdicts"
    archives = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".zip" and path.is_file())
    if not archives:
        print(f"grade: {folder}: no zip in it, expected submissions.", file=sys.stderr)
        return 2
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(archives), unit="zip", disable=None) as progress:

        def one(archive: Path) -> dict:
            name = str(archive.relative_to(folder))
            try:
                row = summary(to_verdict(archive, out / name.removesuffix(archive.suffix).replace(os.sep, "__")))
            except Exception as error:  # our own failure on one submission is told, and leaves the others alone
                row = summary(None) | {"reason": f"{type(error).__name__}: {error}"}
            progress.update()
            progress.write(f"{row['outcome']:18} {name}")
            return row | {"submission": name}

        rows = list(pool.map(one, archives))
    write_summary(rows, out / "summary.csv")
    counts = {kind: sum(row["outcome"] == kind for row in rows) for kind in (*OUTCOMES, "not graded")}
    print(", ".join(f"{count} {kind}" for kind, count in counts.items() if count))
    print(f"verdicts: {out / 'summary.csv'}")
    return 1 if counts["not graded"] else 0


def reuse_key(archive: Path, brief: str, data: str, budget: Budget) -> str:
    """SHA-256 of all that a verdict depends on: zip, what lies beside it, brief, test data, budget, this grader."""
    digest = hashlib.sha256(f"{brief}\0{data}\0{budget}\0{archive.name}".encode())
    for path in (archive, *loose_files(archive), *sorted(Path(__file__).parent.glob("*.py"))):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def finished(out: Path, key: str) -> dict | None:
    """An earlier verdict that still holds."""
    try:
        verdict = json.loads((out / "verdict.json").read_text(encoding="utf-8"))
        return verdict if verdict["key"] == key and (out / "verdict.html").is_file() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
