"""The one reader of results files: whoever shows a figure takes it from here, as a `Score` of a `Run` or a `Study`.

Nobody else in the bundle reads report/results, puts names of metrics together or takes them apart. The files are
evidence and never changed; `helpers.experiment`, `helpers.tuning` and `bundle.study` write them.
"""

from __future__ import annotations

import json
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
CLIPS = ("names", "groups", "targets")  # of a test split, beside the predictions
DIFFERENCE, FINAL = "difference: ", "final_epoch_"  # how notebooks call what is no score of a model's best epoch
PAIRS = {  # two models, (A, B), of a difference B - A, by what notebooks call it
    "mel_cnn - raw audio": ("raw_cnn_256_256", "mel_cnn"),
    "log - no log": ("mel_cnn_nolog", "mel_cnn"),
    "batch norm and dropout": ("mel_cnn_plain", "mel_cnn"),
}
MODELS = """## All models

Single trainings, the ones whose weights are here: `n` clips of the test split, the chance level behind each headline.

"""
STUDIES = """# Models and studies

Written by `python -m bundle sweep`, from the `study_*.json` files here; the `.npz` beside each holds the predictions it
can be recomputed from. Mean and standard deviation over seeds; intervals are 95 %, drawn over groups of clips and over
seeds. The difference is against the named row, on the same clips and seeds. Networks are trained in bfloat16 where the
CPU computes in it, and in some studies for fewer epochs than those whose weights are kept: compare rows of one study
with each other. Minutes are those of one training on one core of a busy machine.

"""


@dataclass(frozen=True)
class Score:
    """One figure with its 95 % interval, drawn over groups (and seeds, where there are several); how it is written."""

    name: str  # a key of `metrics.NAMES`, or what else was measured; "" for a difference, which has a sign
    value: float
    low: float
    high: float
    n: int  # test clips
    groups: int = 0  # instruments, albums or speakers that they are of; 0 where unknown
    chance: float | None = None  # what the score is worth without listening; a difference has none
    deviation: float | None = None  # over seeds
    seeds: int = 1
    shared: float | None = None  # share of the test clips whose group was trained on, where it was measured

    @property
    def mean(self) -> str:
        """ "0.713", "0.713 ± 0.012" where there is a deviation, or "+0.067"."""
        return self._written(self.value) + (f" ± {self.deviation:.3f}" if self.deviation is not None else "")

    @property
    def interval(self) -> str:
        """ "0.645–0.778", or "+0.021 to +0.113"."""
        return ("–" if self.name else " to ").join((self._written(self.low), self._written(self.high)))

    @property
    def full(self) -> str:
        """ "0.713 (95 % interval 0.645–0.778)"."""
        return f"{self.mean} (95 % interval {self.interval})"

    @property
    def sign(self) -> str:
        """What the interval of a difference says: "more", "less", or "unclear" where it holds zero."""
        return "more" if self.low > 0 else "less" if self.high < 0 else "unclear"

    def _written(self, value: float) -> str:
        return f"{value:.3f}" if self.name else signed(value)


@dataclass(frozen=True)
class File:
    """A results file, `<task>-<data>/<name>.json`: all its content, and the arrays beside it."""

    path: Path
    content: dict

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
        """CLIPS of the test split, with probabilities by model, or by "row NAME" of a study; {} where not saved."""
        path = self.path.with_suffix(".npz")
        if not path.is_file():
            return {}
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)

    @cached_property
    def groups(self) -> int:
        """How many groups the test clips are of; 0 where unknown."""
        return len(set(self.predictions.get("groups", np.empty(0, str)).tolist()) - {""})


@dataclass(frozen=True)
class Run(File):
    """What a notebook found. Predictions are (clips, classes)."""

    @property
    def notebook(self) -> str:
        """Such as "05_evaluation"."""
        return self.content["notebook"]

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

    def about(self, key: str) -> tuple[tuple[str, ...], str]:
        """What a metric of the file is: of which models (A, B of a difference B - A), and of what kind.

        The kind is a key of NAMES, DIFFERENCE, or what a notebook measured beside them, such as "calibration_error".
        """
        if key.startswith(DIFFERENCE):
            label = key.removeprefix(DIFFERENCE)
            second, _, first = label.partition(" - ")
            return PAIRS.get(label, (first, second)), DIFFERENCE
        key = key.removeprefix(FINAL)
        for model in sorted(self.models, key=len, reverse=True):  # mel_cnn_nolog_top1 is not of mel_cnn
            if key.startswith(f"{model}_"):
                return (model,), key.removeprefix(f"{model}_")
        return tuple(self.models[:1]), key

    def score(self, model: str, name: str) -> Score | None:
        """A model's score of this name (a key of NAMES), at the epoch whose weights are kept."""
        metrics = self.content["metrics"]
        alone = metrics.get(name) if self.models == [model] else None  # the only model's stand without its name
        return score_of(metrics.get(f"{model}_{name}", alone), name, self.groups)

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

    def difference(self, model: str, over: str) -> Score | None:
        """How far a model's headline score lies above another's, on the same clips."""
        found = {self.about(key): value for key, value in self.content["metrics"].items()}
        return score_of(found.get(((over, model), DIFFERENCE)), "", self.groups)

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
class Study(File):
    """One question, several rows of trainings. Predictions are (seeds, clips, classes)."""

    @property
    def name(self) -> str:
        """Such as "networks"."""
        return self.content["study"]

    @property
    def rows(self) -> dict[str, Row]:
        """By name, in the order of the study."""
        return {name: Row(name, row, self.task, self.groups) for name, row in self.content["rows"].items()}

    @property
    def baseline(self) -> Row:
        """The row that the others are compared with."""
        return self.rows[self.content["baseline"]]

    @property
    def seeds(self) -> int:
        """Trainings of each row."""
        return self.baseline.headline.seeds

    @property
    def epochs(self) -> list[int]:
        """Of a training; several where rows differ."""
        return sorted({row.content["settings"]["epochs"] for row in self.rows.values()})

    def changed(self, sign: str) -> list[str]:
        """Names of the rows whose difference from the baseline is "more", "less" or "unclear"."""
        return [name for name, row in self.rows.items() if row.difference and row.difference.sign == sign]


@dataclass(frozen=True)
class Results:
    """All files of a results folder, by the name of the folder <task>-<data> that they are in, then by their own."""

    folder: Path
    runs: dict[str, dict[str, Run]]  # by notebook ("05_evaluation")
    studies: dict[str, dict[str, Study]]  # "networks"
    searches: dict[str, dict[str, dict]]  # by model ("mel_cnn"): content of the files of `tuning.search`

    def studies_of(self, run: Run) -> dict[str, Study]:
        """The studies of a run's task and data; of a choice of classes there are none."""
        return {} if run.chosen else self.studies.get(f"{run.task.name}-{run.data}", {})

    def evaluated(self) -> list[Run]:
        """What the README shows: each 05_evaluation, and 04_mel_cnn of a choice of classes (05 has the rest).

        Where there is none, a FileNotFoundError says so.
        """
        whole = [runs["05_evaluation"] for runs in self.runs.values() if "05_evaluation" in runs]
        parts = [runs["04_mel_cnn"] for runs in self.runs.values() if "04_mel_cnn" in runs]
        if found := [*whole, *(run for run in parts if run.chosen)]:
            return found
        raise FileNotFoundError(
            f"{self.folder}: no results, expected <task>-<data>/05_evaluation.json. "
            "Make them: python -m bundle run --keep."
        )

    def main(self) -> dict[str, str]:
        """The folder of each evaluated task: of several data sets the one that is not rendered.

        A FileNotFoundError says that no task was evaluated, a ValueError that two such data sets were.
        """
        found = {}
        for run in self.evaluated():
            if run.notebook == "05_evaluation":
                found.setdefault(run.task.name, {})[run.path.parent.name] = run.data
        for task, there in found.items():
            chosen = [folder for folder, data in there.items() if data != "demo"] or list(there)
            if len(chosen) > 1:
                raise ValueError(
                    f"{self.folder}: results of {', '.join(chosen)}, expected one data set for {task}. "
                    "Move the others away."
                )
            found[task] = chosen[0]
        return found


def read(folder: Path = RESULTS) -> Results:
    """Read a results folder; a ValueError names a file that is broken."""
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


def score_of(found: dict | None, name: str, groups: int = 0) -> Score | None:
    """A figure as it stands in a file, of test clips of so many groups."""
    return Score(name, groups=groups, **found) if found else None


def network(name: str):
    """The entry of `models.NETWORKS`, also for a study's "raw_cnn"; None for what is not in it."""
    return NETWORKS.get("raw_cnn_256_256" if name == "raw_cnn" else name)


def title(name: str) -> str:
    """A model or a study's row in prose."""
    return network(name).title if network(name) else name.replace("_", " ")


def short(name: str) -> str:
    """A model or a study's row on axes and in narrow tables."""
    return network(name).short if network(name) else name.replace("_", " ")


def signed(value: float) -> str:
    """With its sign: "+0.067", "−0.054"."""
    return f"{value:+.3f}".replace("-", "−")


def named(data: str) -> str:
    """A data set in prose: the rendered one is called that, every time."""
    return "rendered demo data" if data == "demo" else f"data set ‘{data}’"


COLUMNS = {"svm": "SVM on pooled features", "raw_cnn_256_256": "CNN on samples", "mel_cnn": "CNN on mel spectrograms"}


def readme_table(results: Results) -> str:
    """Markdown table, a row per task: three kinds of models; FileNotFoundError without results."""
    rows = [
        f"| task, score | {' | '.join(COLUMNS.values())} | chance | test clips |",
        "|---" * (len(COLUMNS) + 3) + "|",
    ]
    for run in (run for run in results.evaluated() if not run.chosen):
        scores = [run.headline(model) for model in COLUMNS]
        first = next(score for score in scores if score)
        cells = [f"{score.value:.3f} ({score.interval})" if score else "–" for score in scores]
        groups = f", {first.groups} groups" if first.groups else ""
        data = "rendered demo" if run.data == "demo" else run.data
        title = f"{run.task.title}, {data}: {NAMES[first.name].cell}"
        rows.append(f"| {title} | {' | '.join(cells)} | {first.chance:.3f} | {first.n}{groups} |")
    return "\n".join(rows)


def models_table(results: Results) -> str:
    """Markdown table of every model on its test split; a FileNotFoundError where there are no results."""
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
            task, count = f"{run.task.name} {run.chosen}".strip(), run.headline(model).n
            rows.append(f"| {task} | {data} | {model} | {cells[0]} | {', '.join(cells[1:]) or '–'} | {count} |")
    return "\n".join(rows)


def studies_page(results: Results) -> str:
    """Markdown of all models, and of every study: a heading, the question, and a table with a line per row."""
    parts = [MODELS + models_table(results)] if results.runs else []
    parts += [study_table(study) for studies in results.studies.values() for study in studies.values()]
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


def update_readme(root: Path = ROOT, readme: Path = ROOT / "README.md") -> None:
    """Write README.md with its table, and the studies' page, into `root`, by the results in its report/results."""
    results = read(root / "report" / "results")
    texts = {
        root / "README.md": with_table(readme.read_text(encoding="utf-8"), readme_table(results)),
        results.folder / "README.md": studies_page(results),
    }
    for path, text in texts.items():
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
