"""Execute the notebooks headless with papermill, in parallel, and end with one table."""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from bundle.results import ROOT, load, score_of
from bundle.run.keep import keep

NOTEBOOKS = ("01_data_exploration", "02_baseline_svm", "03_raw_audio_cnn", "04_mel_cnn", "05_evaluation")
EXTRAS = (  # also trained with the whole set: task, notebook, parameters, folder
    ("languages", "04_mel_cnn", {"CLASSES": "en,es"}, "languages-en-es"),  # the course's first model
    ("magnatagatune", "03_raw_audio_cnn", {"NETWORK": "SampleCNN", "EPOCHS": 12}, "magnatagatune-deep"),
)
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Job:
    """One notebook to execute: its name, parameters, and the folder that gets all it writes."""

    notebook: str
    parameters: dict
    out: Path

    @property
    def title(self) -> str:
        """Such as "languages-en-es 04_mel_cnn"."""
        return f"{self.out.name} {self.notebook}"


@dataclass(frozen=True)
class Outcome:
    """What came of a job: seconds, and either the results file's content or what went wrong."""

    job: Job
    seconds: float
    results: dict | None
    error: str = ""


def add_arguments(verbs) -> None:
    """Declare `python -m bundle run`."""
    from helpers.tasks import TASKS

    parser = verbs.add_parser("run", help="execute the notebooks headless", description=__doc__)
    parser.add_argument("--task", action="append", choices=list(TASKS), help="only this task; may be repeated")
    parser.add_argument("--notebook", action="append", help="only notebooks whose name starts so, such as 03")
    parser.add_argument("--mode", choices=("infer", "train"), default="infer", help="%(default)s unless given")
    parser.add_argument("--data", default="demo", help="'demo' or a folder; with a folder, give one --task")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter")
    parser.add_argument("--out", type=Path, help="folder for everything written (default: runs/<time>)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="notebooks at a time (%(default)s)")
    parser.add_argument("--minutes", type=float, default=60, help="time limit of one notebook (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="copy weights, figures and results into the bundle")
    parser.add_argument("--site", action="store_true", help="then build the pages in report/site, with these notebooks")
    parser.set_defaults(call=command)


def command(options: argparse.Namespace) -> int:
    """Run the chosen notebooks; 0 when all succeeded, 1 when one failed, 2 when the command line makes no sense."""
    from helpers.tasks import TASKS

    tasks = options.task or list(TASKS)
    if options.data != "demo" and len(tasks) != 1:
        print("--data FOLDER holds one task's data: name it with --task.", file=sys.stderr)
        return 2
    if {"TASK", "DATA", "MODE", "OUT"} & {name for name, _ in options.p}:
        print("TASK, DATA, MODE and OUT are given with --task, --data, --mode and --out.", file=sys.stderr)
        return 2
    wanted = options.notebook or [""]
    notebooks = [name for name in NOTEBOOKS if any(name.startswith(part) for part in wanted)]
    out = (options.out or ROOT / "runs" / time.strftime("%Y-%m-%d_%H-%M-%S")).resolve()
    data = options.data if options.data == "demo" else str(Path(options.data).expanduser().resolve())
    given = {"MODE": options.mode, "DATA": data} | {name: literal(value) for name, value in options.p}
    jobs, problems = plan(tasks, notebooks, given, out)
    if problems:
        print("\n".join(problems), file=sys.stderr)
        return 2
    if data == "demo":
        prepare(tasks)
    outcomes = execute(jobs, options.jobs, options.minutes, ordered=options.mode == "train")
    if not options.out:
        point_to(out)
    print(overview(outcomes) + "rendered demo data: the figures say nothing about recordings\n" * (data == "demo"))
    print(f"executed notebooks, pages, figures and results: {out}")
    failed = [outcome for outcome in outcomes if outcome.results is None]
    if options.keep and not failed:
        keep(out)
    for outcome in failed:
        print(f"FAILED {outcome.job.title}: {outcome.error}")
    if options.site:
        from bundle.site import command as site

        return max(bool(failed), site.command(argparse.Namespace(run=out, audio=False)))
    return 1 if failed else 0


def literal(text: str) -> object:
    """A parameter's value from the command line: a number or truth value where it reads like one."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def plan(tasks: list[str], notebooks: list[str], given: dict, out: Path) -> tuple[list[Job], list[str]]:
    """The jobs for `given` parameters, each notebook with those it has, and what is wrong with the parameters.

    papermill itself only warns of an unknown parameter and runs with the defaults; here it is refused.
    """
    import papermill

    known = {name: papermill.inspect_notebook(str(ROOT / "notebooks" / f"{name}.ipynb")) for name in notebooks}
    problems = [] if notebooks else [f"No such notebook; there are {', '.join(NOTEBOOKS)}."]
    for name, value in given.items():
        wanted = {parameters[name]["inferred_type_name"] for parameters in known.values() if name in parameters}
        if known and not wanted:
            there = sorted({parameter for parameters in known.values() for parameter in parameters})
            problems.append(f"Unknown parameter {name}, expected one of {', '.join(there)}.")
        elif known and type(value).__name__ not in wanted:
            problems.append(
                f"{name}: found {value!r} ({type(value).__name__}), expected {' or '.join(sorted(wanted))}."
            )
    jobs = []
    for task in tasks:
        for name, parameters in known.items():
            chosen = {"TASK": task} | {key: given[key] for key in given if key in parameters}
            if name == "05_evaluation" and "04_mel_cnn" in known:
                chosen["MODE"] = "infer"  # what 04 has trained is not trained again
            jobs.append(Job(name, chosen, out / task))
    for task, name, extra, folder in EXTRAS if given["MODE"] == "train" else ():
        usual = [job for job in jobs if (job.parameters["TASK"], job.notebook) == (task, name)]
        if usual and not set(extra) & set(given):
            jobs.append(Job(name, usual[0].parameters | extra, out / folder))
    return jobs, problems


def prepare(tasks: list[str]) -> None:
    """Render and pack the demo data before notebooks ask for them at the same time."""
    from helpers import data
    from helpers.tasks import TASKS

    for task in tasks:
        loaded = data.load(TASKS[task], "demo", ROOT)
        counts = ", ".join(f"{name} {len(pack)}" for name, pack in loaded.splits.items())
        print(f"{task}: {counts} clips", flush=True)


def execute(jobs: list[Job], workers: int, minutes: float, ordered: bool) -> list[Outcome]:
    """Run jobs in processes of their own, `workers` at a time; a failing one does not stop the others.

    With `ordered`, one task's notebooks run one after another, since later ones compare what earlier ones trained;
    without, 05 comes first, since it takes longest.
    """
    chains: dict[object, list[Job]] = {}
    for job in jobs if ordered else sorted(jobs, key=lambda job: job.notebook, reverse=True):
        chains.setdefault(job.out if ordered else len(chains), []).append(job)
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(workers) as pool, tqdm(total=len(jobs), unit="notebook", disable=None) as progress:

        def run_chain(chain: list[Job]) -> None:
            for job in chain:
                outcome = run_one(job, workers, minutes)
                outcomes.append(outcome)
                progress.update()
                word = "ok" if outcome.results else "FAILED"
                progress.write(f"{word:7}{job.title:44}{outcome.seconds:6.1f} s")

        list(pool.map(run_chain, chains.values()))
    return sorted(outcomes, key=lambda outcome: jobs.index(outcome.job))


def run_one(job: Job, workers: int, minutes: float) -> Outcome:
    """Execute one notebook and write its page (see `bundle.run.one`); threads are shared out among `workers`."""
    job.out.mkdir(parents=True, exist_ok=True)
    executed, results = job.out / f"{job.notebook}.ipynb", job.out / "results" / f"{job.notebook}.json"
    results.unlink(missing_ok=True)
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    environment |= {
        "BUNDLE": str(ROOT),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "TQDM_DISABLE": "1",  # nobody watches
    }
    source, parameters = ROOT / "notebooks" / executed.name, json.dumps(job.parameters | {"OUT": str(job.out)})
    command = [sys.executable, "-m", "bundle.run.one", str(source), str(executed), parameters]
    started = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60 * minutes)
        error = explain(executed, done)
    except subprocess.TimeoutExpired:
        error = f"took longer than {minutes:g} minutes"
    if not error and not results.is_file():
        error = f"wrote no {results.name}"
    return Outcome(job, time.perf_counter() - started, None if error else load(results), error)


def explain(executed: Path, done: subprocess.CompletedProcess) -> str:
    """Which cell failed with which error, from the executed notebook; "" when none did."""
    if done.returncode == 0:
        return ""
    cells = json.loads(executed.read_text())["cells"] if executed.is_file() else []
    for number, cell in enumerate(cells):
        for output in cell.get("outputs", ()):
            if output["output_type"] == "error":
                return f"cell {number}: {output['ename']}: {ANSI.sub('', output['evalue'])}"
    return ANSI.sub("", done.stderr).strip().rsplit("\n", 1)[-1] or f"exit code {done.returncode}"


def overview(outcomes: list[Outcome]) -> str:
    """One row per outcome: headline metric with interval, n, chance level and seconds."""
    rows = [("task", "notebook", "metric", "value", "95 % interval", "n", "chance", "seconds")]
    for outcome in outcomes:
        name, cells = "FAILED", [""] * 4
        if outcome.results:
            name = outcome.results["headline"]
            score = score_of(outcome.results["metrics"][name], name)
            counted = score.low == score.value == score.high  # clips, say
            cells = [f"{score.value:g}", ""] if counted else [f"{score.value:.3f}", score.interval]
            cells += [str(score.n), "" if score.chance is None else f"{score.chance:.3f}"]
        rows.append((outcome.job.out.name, outcome.job.notebook, name, *cells, f"{outcome.seconds:.1f}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(["", lines[0], "-" * len(lines[0]), *lines[1:], ""])


def point_to(out: Path) -> None:
    """Let runs/latest point to this run."""
    link = out.parent / f".latest.{os.getpid()}"
    link.symlink_to(out.name)
    os.replace(link, out.parent / "latest")
