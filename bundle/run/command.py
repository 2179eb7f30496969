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
from helpers.files import finish, remove, temporary_name

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
    finish(ROOT)  # what a killed --keep has left
    data = options.data if options.data == "demo" else str(Path(options.data).expanduser().resolve())
    given = {"MODE": options.mode, "DATA": data} | {name: literal(value) for name, value in options.p}
    try:
        out = options.out.resolve() if options.out else new_folder()
    except OSError as error:
        print(f"{error}. Choose a folder that can be written with --out.", file=sys.stderr)
        return 2
    jobs, problems = plan(tasks, notebooks, given, out)
    if problems:
        if not options.out:
            out.rmdir()
        print("\n".join(problems), file=sys.stderr)
        return 2
    if data == "demo":
        prepare(tasks, out)
    outcomes = execute(jobs, options.jobs, options.minutes, ordered=options.mode == "train")
    print(overview(outcomes) + "rendered demo data: the figures say nothing about recordings\n" * (data == "demo"))
    print(f"executed notebooks, pages, figures and results: {out}")
    if not options.out:
        point_to(out)
    failed = [outcome for outcome in outcomes if outcome.results is None]
    for outcome in failed:
        print(f"FAILED {outcome.job.title}: {outcome.error}")
    if options.keep and not failed:
        try:
            keep(out)
        except (OSError, ValueError) as error:
            print(f"--keep: nothing was kept: {error}", file=sys.stderr)
            return 1
    if options.site:
        from bundle.site import command as site

        return max(bool(failed), site.command(argparse.Namespace(run=out, audio=False)))
    return 1 if failed else 0


def new_folder() -> Path:
    """A folder for a run, of this moment; two runs of the same moment get two."""
    name = time.strftime("%Y-%m-%d_%H-%M-%S")
    for place in (name, *(f"{name}_{number}" for number in range(2, 100))):
        try:
            (ROOT / "runs" / place).mkdir(parents=True)
            return ROOT / "runs" / place
        except FileExistsError:
            continue
    raise FileExistsError(f"{ROOT}/runs/{name}: a hundred runs of this second are there")


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


def prepare(tasks: list[str], out: Path) -> None:
    """Render and pack the demo data before notebooks ask for them all at once; in OUT where the bundle is read-only."""
    from helpers import data
    from helpers.tasks import TASKS

    for task in tasks:
        loaded = data.load(TASKS[task], "demo", ROOT if os.access(ROOT, os.W_OK) else out / task)
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
                progress.write(f"{word:7}{job.title:36}{outcome.seconds:6.1f} s  {headline(outcome)}".rstrip())

        list(pool.map(run_chain, chains.values()))
    return sorted(outcomes, key=lambda outcome: jobs.index(outcome.job))


def run_one(job: Job, workers: int, minutes: float) -> Outcome:
    """Execute one notebook and write its page (see `bundle.run.one`); threads are shared out among `workers`."""
    job.out.mkdir(parents=True, exist_ok=True)
    executed, results = job.out / f"{job.notebook}.ipynb", job.out / "results" / f"{job.notebook}.json"
    before = written(results)  # earlier results stay until there are new ones
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    environment |= {
        "BUNDLE": str(ROOT),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "TQDM_DISABLE": "1",  # nobody watches
        "PYTHONUTF8": "1",  # whatever the locale
    }
    source, parameters = ROOT / "notebooks" / executed.name, json.dumps(job.parameters | {"OUT": str(job.out)})
    command = [sys.executable, "-m", "bundle.run.one", str(source), str(executed), parameters]
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=60 * minutes,
        )
        error = explain(executed, done)
    except subprocess.TimeoutExpired:
        error = f"took longer than {minutes:g} minutes"
    if not error and written(results) in (None, before):
        error = f"wrote no {results.name}"
    return Outcome(job, time.perf_counter() - started, None if error else load(results), error)


def written(path: Path) -> tuple[int, int] | None:
    """Which file lies at a path, and from when; None where there is none."""
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.is_file() else None


def explain(executed: Path, done: subprocess.CompletedProcess) -> str:
    """Which cell failed with which error, from the executed notebook; "" when none did."""
    if done.returncode == 0:
        return ""
    cells = json.loads(executed.read_text(encoding="utf-8"))["cells"] if executed.is_file() else []
    number, heading = 0, ""
    for cell in cells:
        if cell["cell_type"] == "markdown":
            heading = next(
                (line.strip("# ") for line in "".join(cell["source"]).splitlines() if line[:1] == "#"), heading
            )
        elif "injected-parameters" not in cell["metadata"].get("tags", ()):  # which the student does not have
            number += 1
        for output in cell.get("outputs", ()):
            if output["output_type"] == "error":
                where = f"code cell {number}" + f" ({heading})" * bool(heading)
                return f"{where}: {output['ename']}: {ANSI.sub('', output['evalue'])}"
    return ANSI.sub("", done.stderr).strip().rsplit("\n", 1)[-1] or f"exit code {done.returncode}"


def headline(outcome: Outcome) -> str:
    """The figure that a notebook is about, such as "top1 0.713 (0.645–0.778)"; "" where it failed or counts clips."""
    if not outcome.results:
        return ""
    name = outcome.results["headline"]
    score = score_of(outcome.results["metrics"][name], name)
    return "" if score.low == score.high else f"{name} {score.value:.3f} ({score.interval})"


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
    link = temporary_name(out.parent / "latest")
    try:
        link.symlink_to(out.name)
        os.replace(link, out.parent / "latest")
    except OSError as error:  # a network drive, or Windows
        remove(link)
        print(f"note: runs/latest cannot be a link here ({error.strerror}); this run is {out.name}")
