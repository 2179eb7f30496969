"""The one reader of results files: whoever shows a figure takes it from here, as a `Score` of a `Run` or a `Study`.

Nobody else opens report/results, puts names of metrics together or takes them apart. The files themselves are evidence
and are never changed; `helpers.experiment` and `bundle.study` write them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from helpers.files import replacing
from helpers.metrics import NAMES
from helpers.models import NETWORKS
from helpers.tasks import TASKS, Task

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "report" / "results"
BEGIN, END = "<!-- results: written by python -m bundle run --keep -->", "<!-- end of results -->"
CLIPS = ("names", "groups", "targets")  # of the test split, beside the predictions
DIFFERENCE, FINAL = "difference: ", "final_epoch_"  # how notebooks call what is no score of a model's best epoch
PAIRS = {  # two models, (A, B), of a difference B - A, by what notebooks call it
    "mel_cnn - raw audio": ("raw_cnn_256_256", "mel_cnn"),
    "log - no log": ("mel_cnn_nolog", "mel_cnn"),
    "batch norm and dropout": ("mel_cnn_plain", "mel_cnn"),
}
STUDIES = """# Studies

Written by `python -m bundle sweep`, from the `study_*.json` files here; the `.npz` beside each holds the predictions it
can be recomputed from. Mean and standard deviation over seeds; intervals are 95 %, drawn over groups of clips and over
seeds. The difference is against the named row, on the same clips and seeds. Networks are trained in bfloat16 where the
CPU computes in it, and in some studies for fewer epochs than those whose weights are kept: compare rows of one study
with each other. Minutes are those of one training on one core of a busy machine.

"""


@dataclass(frozen=True)
class Score:
    """One figure, and how it is written.

    Attributes
    ----------
    name : str
        A key of `metrics.NAMES`; "" for a difference or what else was measured.
    value, low, high : float
        With its 95 % interval, drawn over groups (and seeds, where there are several).
    n, groups : int
        Test clips, and the groups they are of; groups 0 where unknown.
    chance : float, optional
        What the score is worth without listening; a difference has none.
    deviation : float, optional
        Over seeds.
    seeds : int
    shared : float, optional
        Share of the test clips whose group was trained on, where it was measured.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    groups: int = 0
    chance: float | None = None
    deviation: float | None = None
    seeds: int = 1
    shared: float | None = None

    @property
    def counted(self) -> bool:
        """Whether it was counted, not estimated: it has no interval."""
        return self.low == self.value == self.high

    @property
    def mean(self) -> str:
        """ "0.713", with its deviation where there is one: "0.713 ± 0.012"."""
        return f"{self.value:.3f}" + (f" ± {self.deviation:.3f}" if self.deviation is not None else "")

    @property
    def interval(self) -> str:
        """ "0.645–0.778"."""
        return f"{self.low:.3f}–{self.high:.3f}"

    @property
    def full(self) -> str:
        """ "0.713 (95 % interval 0.645–0.778)"."""
        return f"{self.mean} (95 % interval {self.interval})"

    @property
    def signed(self) -> str:
        """ "+0.067", "−0.054": of a difference."""
        return signed(self.value)

    @property
    def signed_interval(self) -> str:
        """ "+0.021 to +0.113"."""
        return f"{signed(self.low)} to {signed(self.high)}"

    @property
    def signed_full(self) -> str:
        """ "+0.067 (95 % interval +0.021 to +0.113)"."""
        return f"{self.signed} (95 % interval {self.signed_interval})"

    @property
    def percent(self) -> str:
        """ "71 %"."""
        return f"{100 * self.value:.0f} %"

    @property
    def points(self) -> str:
        """ "7": a difference in points of a hundred, without its sign."""
        return f"{100 * abs(self.value):.0f}"

    @property
    def sign(self) -> str:
        """What the interval of a difference says: "more", "less", or "unclear" where it holds zero."""
        return "more" if self.low > 0 else "less" if self.high < 0 else "unclear"


@dataclass(frozen=True)
class Run:
    """A notebook's results file.

    Attributes
    ----------
    path : Path
        `<task>-<data>/<notebook>.json`.
    content : dict
        All of it. `score`, `difference` and `curves` know how its metrics and curves are called.
    """

    path: Path
    content: dict

    @property
    def task(self) -> Task:
        """What was learned."""
        return TASKS[self.content["task"]]

    @property
    def notebook(self) -> str:
        """Such as "05_evaluation"."""
        return self.content["notebook"]

    @property
    def data(self) -> str:
        """ "demo", or the folder's name."""
        return self.content["data"]

    @property
    def chosen(self) -> str:
        """CLASSES: "" for all of them."""
        return self.content["parameters"]["CLASSES"]

    @property
    def labels(self) -> list[str]:
        """Classes in the order of the logits, as they are called in prose."""
        return [label.replace("_", " ") for label in self.content["classes"]]

    @property
    def models(self) -> list[str]:
        """Names of the weights that were scored."""
        return list(self.content["weights_digest"])

    @cached_property
    def predictions(self) -> dict[str, np.ndarray]:
        """Arrays of the test clips: CLIPS, and probabilities (clips, classes) by model; {} where none were saved."""
        return arrays(self.path.with_suffix(".npz"))

    def about(self, key: str) -> tuple[tuple[str, ...], str]:
        """What a metric of the file is: of which models (A, B of a difference B - A), and of what kind.

        The kind is a key of NAMES, DIFFERENCE, or what a notebook measured beside them, such as "calibration_error".
        """
        if key.startswith(DIFFERENCE):
            return models_of(key), DIFFERENCE
        key = key.removeprefix(FINAL)
        for model in sorted(self.models, key=len, reverse=True):  # mel_cnn_nolog_top1 is not of mel_cnn
            if key.startswith(f"{model}_"):
                return (model,), key.removeprefix(f"{model}_")
        return tuple(self.models[:1]), key

    def score(self, model: str, name: str, final: bool = False) -> Score | None:
        """A model's score of this name (a key of NAMES), at its best or its final epoch."""
        key = f"{FINAL}{name}" if final else f"{model}_{name}"
        found = self.content["metrics"].get(key)
        if found is None and not final and self.models == [model]:  # the only model's stand without its name
            found = self.content["metrics"].get(name)
        return score_of(found, name, self.predictions.get("groups", ()))

    def scores(self, model: str) -> dict[str, Score]:
        """All scores of a model: the headline first, then the second, then the others."""
        order = dict.fromkeys((self.task.headline, self.task.second, *NAMES))
        return {name: score for name in order if (score := self.score(model, name))}

    def headline(self, model: str) -> Score | None:
        """A model's score by the task's headline metric."""
        return self.score(model, self.task.headline)

    @property
    def ranked(self) -> list[str]:
        """Models from the highest headline score down."""
        return sorted(self.models, key=lambda model: -self.headline(model).value)

    @property
    def best(self) -> str:
        """The model with the highest headline score."""
        return self.ranked[0]

    def differences(self) -> dict[tuple[str, str], Score]:
        """Differences B - A of the headline metric, by (A, B)."""
        return {
            models_of(name): score_of(value, "", self.predictions.get("groups", ()))
            for name, value in self.content["metrics"].items()
            if name.startswith(DIFFERENCE)
        }

    def curves(self) -> dict[str, dict[str, list[float]]]:
        """Curves of training by model; of a single model they stand without its name in the file."""
        found = self.content["curves"]
        return {next(iter(self.models), ""): found} if "epoch" in found else found


@dataclass(frozen=True)
class Row:
    """One row of a study: a way to train, over several seeds."""

    name: str
    content: dict
    task: Task
    groups: int

    @property
    def title(self) -> str:
        """As it is called in prose."""
        return network(self.name).title if network(self.name) else self.name.replace("_", " ")

    @property
    def short(self) -> str:
        """As it is called on axes and in narrow tables."""
        return network(self.name).short if network(self.name) else self.name.replace("_", " ")

    def score(self, name: str) -> Score | None:
        """Mean over seeds of a score, with their deviation."""
        return score_of(self.content["metrics"].get(name), name, self.groups)

    @property
    def headline(self) -> Score:
        """Mean of the task's headline metric."""
        return self.score(self.task.headline)

    @property
    def difference(self) -> Score | None:
        """From the baseline, on the same clips and seeds; the baseline has none."""
        return score_of(self.content.get("difference"), "", self.groups)


@dataclass(frozen=True)
class Study:
    """A study's file: one question, several rows of trainings."""

    path: Path
    content: dict

    @property
    def name(self) -> str:
        """Such as "networks"."""
        return self.content["study"]

    @property
    def task(self) -> Task:
        """What was learned."""
        return TASKS[self.content["task"]]

    @property
    def data(self) -> str:
        """ "demo", or the folder's name."""
        return self.content["data"]

    @cached_property
    def predictions(self) -> dict[str, np.ndarray]:
        """CLIPS, and "row NAME": probabilities (seeds, clips, classes)."""
        return arrays(self.path.with_suffix(".npz"))

    @cached_property
    def rows(self) -> dict[str, Row]:
        """By name, in the order of the study."""
        groups = counted(self.predictions.get("groups", ()))
        return {name: Row(name, row, self.task, groups) for name, row in self.content["rows"].items()}

    @property
    def baseline(self) -> Row:
        """The row that the others are compared with."""
        return self.rows[self.content["baseline"]]

    @property
    def seeds(self) -> int:
        """Trainings of each row."""
        return self.baseline.headline.seeds

    @property
    def clips(self) -> int:
        """In the test split."""
        return self.baseline.headline.n

    @property
    def epochs(self) -> list[int]:
        """Of a training; several where rows differ."""
        return sorted({row.content["settings"]["epochs"] for row in self.rows.values()})

    @property
    def settings(self) -> dict:
        """Those of the baseline."""
        return self.baseline.content["settings"]

    @property
    def best(self) -> Row:
        """The row with the highest headline score."""
        return max(self.rows.values(), key=lambda row: row.headline.value)

    def share(self, row: str) -> str:
        """ "+8.2 %": a row's difference as a share of the baseline's score."""
        share = self.rows[row].difference.value / self.baseline.headline.value
        return f"{share:+.1%}".replace("-", "−").replace("%", " %")

    def changed(self, sign: str) -> list[Row]:
        """Rows whose difference from the baseline is "more", "less" or "unclear"."""
        return [row for row in self.rows.values() if row.difference and row.difference.sign == sign]


@dataclass(frozen=True)
class Results:
    """All files of a results folder.

    Attributes
    ----------
    folder : Path
        With a folder <task>-<data> for each data set.
    runs : dict
        By the folder's name, then by notebook ("05_evaluation").
    studies : dict
        By the folder's name, then by study ("networks").
    searches : dict
        Content of the files of `tuning.search`, by the folder's name, then by model ("mel_cnn").
    """

    folder: Path
    runs: dict[str, dict[str, Run]]
    studies: dict[str, dict[str, Study]]
    searches: dict[str, dict[str, dict]]

    def evaluated(self) -> Iterator[Run]:
        """What the README shows: each 05_evaluation, and 04_mel_cnn of a choice of classes (05 has the rest)."""
        for runs in self.runs.values():
            if "05_evaluation" in runs:
                yield runs["05_evaluation"]
        for runs in self.runs.values():
            if "04_mel_cnn" in runs and runs["04_mel_cnn"].chosen:
                yield runs["04_mel_cnn"]

    def studies_of(self, run: Run) -> dict[str, Study]:
        """The studies of a run's task and data; of a choice of classes there are none."""
        return {} if run.chosen else self.studies.get(f"{run.task.name}-{run.data}", {})

    def main(self) -> dict[str, str]:
        """The folder of each evaluated task: of several data sets the one that is not rendered.

        Raises
        ------
        FileNotFoundError
            If no task was evaluated.
        ValueError
            If two data sets that are not rendered were.
        """
        found = {}
        for task in TASKS:
            there = [
                name for name, runs in self.runs.items() if name.startswith(f"{task}-") and "05_evaluation" in runs
            ]
            chosen = [name for name in there if name != f"{task}-demo"] or there
            if len(chosen) > 1:
                raise ValueError(
                    f"{self.folder}: results of {', '.join(chosen)}, expected one data set for {task}. "
                    "Move the others away."
                )
            if chosen:
                found[task] = chosen[0]
        if not found:
            raise FileNotFoundError(f"{self.folder}: no results, expected <task>-<data>/05_evaluation.json. {MEND}")
        return found


MEND = "Make them: python -m bundle run --keep."


def read(folder: Path = RESULTS) -> Results:
    """Read a results folder.

    Raises
    ------
    ValueError
        If a file is broken; the message names it.
    """
    runs, studies, searches = {}, {}, {}
    for path in sorted(folder.glob("*/*.json")):
        kind, name = path.parent.name, path.stem
        if name.startswith("study_"):
            studies.setdefault(kind, {})[name.removeprefix("study_")] = Study(path, load(path))
        elif name.startswith("tuning_"):
            searches.setdefault(kind, {})[name.removeprefix("tuning_")] = load(path)
        else:
            runs.setdefault(kind, {})[name] = Run(path, load(path))
    return Results(folder, runs, studies, searches)


def load(path: Path) -> dict:
    """A JSON file's content; a ValueError that names the file when it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not a results file ({error}). Get it again, or make it again.") from error


def arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an `.npz` file, {} where there is none."""
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def score_of(found: dict | None, name: str, groups=0) -> Score | None:
    """A figure as it stands in a file; `groups` are the test clips', or their number."""
    if not found:
        return None
    known = {key: found.get(key) for key in ("chance", "deviation", "shared")}
    count = groups if isinstance(groups, int) else counted(groups)
    return Score(
        name, found["value"], found["low"], found["high"], found["n"], count, seeds=found.get("seeds", 1), **known
    )


def counted(groups) -> int:
    """How many groups these clips are of; 0 where none is known."""
    return len(set(np.asarray(groups).tolist()) - {""})


def models_of(name: str) -> tuple[str, str]:
    """The two models (A, B) of a metric "difference: B - A"."""
    label = name.removeprefix(DIFFERENCE)
    second, _, first = label.partition(" - ")
    return PAIRS.get(label, (first, second))


def network(name: str):
    """The entry of `models.NETWORKS`, also for a study's "raw_cnn"; None for what is not in it."""
    return NETWORKS.get("raw_cnn_256_256" if name == "raw_cnn" else name)


def signed(value: float) -> str:
    """With its sign: "+0.067", "−0.054"."""
    return f"{value:+.3f}".replace("-", "−")


def named(data: str) -> str:
    """A data set in prose: the rendered one is called that, every time."""
    return "rendered demo data" if data == "demo" else f"data set ‘{data}’"


def readme_table(results: Results) -> str:
    """Markdown table of every model on its test split.

    Raises
    ------
    FileNotFoundError
        If there are no results.
    """
    rows = [
        "| task | data | model | headline score (95 % interval), chance | second score | n |",
        "|---|---|---|---|---|---|",
    ]
    for run in results.evaluated():
        data = "rendered demo" if run.data == "demo" else run.data
        for model in run.models:
            cells = [
                f"{NAMES[s.name].cell} {s.value:.3f} ({s.low:.3f} – {s.high:.3f}), {s.chance:.3f}"
                for s in run.scores(model).values()
            ]
            title = f"{run.task.name} {run.chosen}".strip()
            count = run.headline(model).n
            rows.append(f"| {title} | {data} | {model} | {cells[0]} | {', '.join(cells[1:]) or '–'} | {count} |")
    if len(rows) == 2:
        raise FileNotFoundError(f"{results.folder}: no results, expected <task>-<data>/05_evaluation.json. {MEND}")
    return "\n".join(rows)


def studies_page(results: Results) -> str:
    """Markdown of every study: a heading, the question, and a table with a line per row."""
    parts = [study_table(study) for studies in results.studies.values() for study in studies.values()]
    return STUDIES + "\n\n".join(parts) + "\n"


def study_table(study: Study) -> str:
    """Markdown of one study."""
    data = "rendered demo data" if study.data == "demo" else f"data '{study.data}'"
    lines = [
        f"## {study.name}: {study.task.name}, {data}\n\n{study.content['question']} "
        f"Scored at the {study.content['scored']}, against `{study.content['baseline']}`.\n\n"
        f"| row | {NAMES[study.task.headline].cell}: mean ± deviation (95 % interval) | seeds | n | chance "
        "| difference | validation | epochs | minutes |\n|---|---|---|---|---|---|---|---|---|"
    ]
    for row in study.rows.values():
        score, change, more = row.headline, row.difference, row.content
        lines.append(
            f"| {row.name} | {score.mean} ({score.low:.3f} – {score.high:.3f}) "
            f"| {score.seeds} | {score.n} | {score.chance:.3f} | "
            + (f"{change.value:+.3f} ({change.low:+.3f} – {change.high:+.3f})" if change else "–")
            + (f" | {more['valid']['value']:.3f} | {more['settings']['epochs']}" if more["valid"] else " | – | –")
            + f" | {more['minutes']:.1f} |"
        )
    return "\n".join(lines)


def with_table(readme: str, markdown: str) -> str:
    """The README's text with the part between the two markers replaced."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n\n{markdown}\n\n{END}{rest.split(END)[1]}"


def update_readme(bundle: Path = ROOT) -> None:
    """Write the table into README.md, and the studies' into report/results/README.md."""
    path, results = bundle / "README.md", read(bundle / "report" / "results")
    with replacing(path) as temporary:
        temporary.write_text(with_table(path.read_text(encoding="utf-8"), readme_table(results)), encoding="utf-8")
    with replacing(results.folder / "README.md") as temporary:
        temporary.write_text(studies_page(results), encoding="utf-8")
