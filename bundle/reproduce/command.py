"""Check the reported results: every figure from its saved predictions, then by executing the notebooks again.

First every figure is computed again from the predictions beside it, and the README's tables from the results. Then the
notebooks are executed in train mode with their recorded parameters and seeds, and every metric and the training loss is
compared. A study is checked by its predictions and not trained again; `python -m bundle sweep` does that.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from bundle.reproduce.claims import BROKEN, FAIL, OPEN, PASS, Claim, Source, check, check_readmes
from bundle.reproduce.page import write
from bundle.reproduce.tolerance import compare, tolerances
from bundle.results import RESULTS, ROOT, Results, Run, Study
from bundle.run.command import NOTEBOOKS, execute, plan
from helpers.tasks import TASKS

RETRAINED = "04_mel_cnn", "05_evaluation"  # where both are asked for, the second uses what the first has trained


def add_arguments(verbs) -> None:
    """Declare `python -m bundle reproduce`."""
    parser = verbs.add_parser("reproduce", help="check the reported results, and train again", description=__doc__)
    parser.add_argument("--task", action="append", choices=list(TASKS), help="only this task; may be repeated")
    parser.add_argument("--notebook", action="append", help="only notebooks whose name starts so, such as 03")
    parser.add_argument("--results", type=Path, default=RESULTS, help="what is reported (%(default)s)")
    parser.add_argument("--out", type=Path, help="folder for everything written (default: runs/<time>)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="notebooks at a time (%(default)s)")
    parser.add_argument("--minutes", type=float, default=60, help="time limit of one notebook (%(default)s)")
    parser.add_argument("--no-train", action="store_true", help="only what the saved predictions show; nothing is run")
    parser.set_defaults(call=command)


def command(options: argparse.Namespace) -> int:
    """Check the claims; 0 when all hold, 1 when one does not, 2 when there is none."""
    folder, tasks, wanted = options.results.resolve(), options.task or list(TASKS), tuple(options.notebook or [""])
    paths = [path for path in sorted(folder.glob("*/*.json")) if path.parent.name.split("-")[0] in tasks]
    notebooks = [path for path in paths if path.stem in NOTEBOOKS and path.stem.startswith(wanted)]
    if not notebooks:
        print(
            f"{folder}: no results of {', '.join(tasks)}, expected <task>-<data>/NN_name.json with NN_name one of "
            f"{', '.join(name for name in NOTEBOOKS if name.startswith(wanted)) or 'those in notebooks/'}. "
            "Write some with python -m bundle run --mode train --keep, or name another folder with --results.",
            file=sys.stderr,
        )
        return 2
    out = (options.out or ROOT / "runs" / time.strftime("%Y-%m-%d_%H-%M-%S")).resolve()
    started, sources = time.perf_counter(), []
    for path in notebooks + [path for path in paths if path.stem.startswith(("study_", "tuning_"))]:
        sources.append(check(path, ROOT))
        print(in_words(sources[-1]), flush=True)
    sources.append(Source(folder.parent.parent / "README.md", {}, check_readmes(folder)))
    print(in_words(sources[-1]), flush=True)
    if not options.no_train:
        write(out, "not finished", sources, False, time.perf_counter() - started)  # stands when the rest is killed
        repeat(sources, out, options)
    failed = [(source.name, claim) for source in sources for claim in source.claims if claim.verdict == FAIL]
    write(out, "does not hold" if failed else "holds", sources, not options.no_train, time.perf_counter() - started)
    counts = ", ".join(f"{sum(source.count(state) for source in sources)} {state}" for state in (PASS, FAIL, OPEN))
    print(f"{counts}; {out / 'reproduction.html'}")
    for name, claim in failed:
        print(f"FAILED {name} {claim.figure}: {claim.note}")
    return 1 if failed else 0


def repeat(sources: list[Source], out: Path, options: argparse.Namespace) -> None:
    """Execute the notebooks of `sources` again, below `out`, and compare; a failing one does not stop the others."""
    reported = {source.name: source for source in sources if "notebook" in source.content}
    studies: dict[str, dict[str, Study]] = {}
    for source in sources:
        if "study" in source.content:
            studies.setdefault(source.path.parent.name, {})[source.content["study"]] = Study(
                source.path, source.content
            )
    known, jobs = Results(RESULTS, {}, studies, {}), []
    for name, source in reported.items():
        place, notebook = name.split("/")
        again = notebook == RETRAINED[1] and f"{place}/{RETRAINED[0]}" in reported
        given = source.content["parameters"] | {"MODE": "infer" if again else "train"}
        planned, problems = plan([source.content["task"]], [notebook], given, out)
        if problems:
            source.claims.append(Claim("execution").judge(False, " ".join(problems)))
        else:
            jobs.append(replace(planned[0], out=out / place))
    for outcome in execute(jobs, options.jobs, options.minutes, ordered=True):
        source = reported[f"{outcome.job.out.name}/{outcome.job.notebook}"]
        if outcome.results is None:
            source.claims.append(Claim("execution").judge(False, outcome.error))
            continue
        try:
            run = Run(source.path, source.content)
            measured = Run(outcome.job.out / "results" / f"{run.notebook}.json", outcome.results)
            compare(source, measured, tolerances(run, known.studies_of(run)))
            before, here = source.content["environment"], outcome.results["environment"]
            other = [f"{key} {before.get(key)} → {here[key]}" for key in here if before.get(key) != here[key]]
            given = ", ".join(f"{name} {value!r}" for name, value in outcome.job.parameters.items())
            source.told = f"Executed with {given}. Environment: {', '.join(other) or 'the same'}."
        except BROKEN as error:
            source.claims.append(Claim("execution").judge(False, f"{type(error).__name__}: {error}"))
        print(in_words(source), flush=True)


def in_words(source: Source) -> str:
    """A line for the terminal."""
    states = ", ".join(f"{count} {state}" for state in (PASS, FAIL, OPEN) if (count := source.count(state)))
    same = "" if source.identical is None else ", identical" if source.identical else ", not identical"
    return f"{source.name:44}{states or 'no claim'}{same}"
