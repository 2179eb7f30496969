"""The tables of the documents, as LaTeX that stands in report/generated."""

from __future__ import annotations

from collections.abc import Sequence

from bundle.report.facts import BRIEF, METRICS, MODELS, NAMES, ROWS, SECOND, SHORT, STAFF, Results, signed, tex, title
from helpers.models import PUBLISHED_ROWS
from helpers.tasks import TASKS

# Dieleman & Schrauwen 2014, table 1
SPECTROGRAMS = {(1024, 1024): 0.8690, (1024, 512): 0.8726, (512, 512): 0.8793, (512, 256): 0.8793, (256, 256): 0.8815}


def tabular(columns: str, head: Sequence[str], rows: Sequence[Sequence[str]], above: str = "") -> str:
    """A table of plain text: rules above, below the head, and at the end; `above` is LaTeX before the head."""
    lines = [" & ".join(map(tex, row)) + r" \\" for row in (head, *rows)]
    begin = [
        f"\\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        *([above] if above else []),
        lines[0],
        r"\midrule",
    ]
    return "\n".join([*begin, *lines[1:], r"\bottomrule", r"\end{tabular}", ""])


def spread(value: dict) -> str:
    """Mean and deviation over seeds."""
    return f"{value['value']:.3f}" + (f" ± {value['deviation']:.3f}" if value["deviation"] is not None else "")


def between(value: dict) -> str:
    """The 95 % interval."""
    return f"{value['low']:.3f}–{value['high']:.3f}"


def change(row: dict) -> str:
    """The difference from the baseline with its interval."""
    if "difference" not in row:
        return "baseline"
    value = row["difference"]
    return f"{signed(value['value'])} ({signed(value['low'])} to {signed(value['high'])})"


def files(results: Results) -> dict[str, str]:
    """Every table that the results allow, by file name."""
    made = {}
    for task, notebooks in results.notebooks.items():
        made[f"models-{task}.tex"] = models(notebooks["05_evaluation"])
        made[f"models-{task}-narrow.tex"] = models_narrow(notebooks["05_evaluation"])
        made[f"costs-{task}.tex"] = costs(notebooks["05_evaluation"])
        made[f"tuning-{task}.tex"] = tuning(notebooks)
    made["models.tex"] = all_models(results)
    made["tasks.tex"] = tasks(results)
    for key, study in results.studies.items():
        name = f"study-{study['study']}-{key.split('.')[0]}"
        made[f"{name}.tex"], made[f"{name}-narrow.tex"] = of_study(study), of_study_narrow(study)
    if study := results.studies.get("magnatagatune.study.first_layer"):
        made["first_layer.tex"] = first_layer(study)
    return made


def models(evaluation: dict) -> str:
    """All models of a task: both scores with their intervals."""
    headline = TASKS[evaluation["task"]].headline
    rows = []
    for model in [name for name in MODELS if name in evaluation["weights_digest"]]:
        scores = [evaluation["metrics"].get(f"{model}_{metric}") for metric in (headline, SECOND[headline])]
        cells = [cell for one in scores if one for cell in (f"{one['value']:.3f}", between(one))]
        rows.append([MODELS[model], *cells, *["–"] * (4 - len(cells))])
    chance = [evaluation["metrics"].get(f"mel_cnn_{metric}") for metric in (headline, SECOND[headline])]
    rows.append(["chance", *(cell for one in chance for cell in (f"{one['chance']:.3f}" if one else "–", ""))])
    head = ["model", METRICS[headline], "95 % interval", METRICS[SECOND[headline]], "95 % interval"]
    return tabular("lrrrr", head, rows)


def all_models(results: Results) -> str:
    """All models of all tasks: the headline score with its interval."""
    tasks = {task: notebooks["05_evaluation"] for task, notebooks in results.notebooks.items()}
    rows = []
    for model, name in MODELS.items():
        scores = [one["metrics"].get(f"{model}_{TASKS[task].headline}") for task, one in tasks.items()]
        rows.append([name, *(f"{one['value']:.3f} ({between(one)})" if one else "–" for one in scores)])
    firsts = [one["metrics"][f"mel_cnn_{TASKS[task].headline}"] for task, one in tasks.items()]
    rows.append(["chance", *(f"{one['chance']:.3f}" for one in firsts)])
    rows.append(["test clips", *(f"{one['n']:,}" for one in firsts)])
    head = ["model", *(f"{NAMES.get(task, task)}, {BRIEF[TASKS[task].headline]}" for task in tasks)]
    return tabular("l" + "r" * len(tasks), head, rows)


def tasks(results: Results) -> str:
    """What the tasks are: labels, clips of the splits, length and rate."""
    rows = []
    for name, notebooks in results.notebooks.items():
        evaluation, task = notebooks["05_evaluation"], TASKS[name]
        labels = f"{len(evaluation['classes'])} {'tags, any number' if task.multi_label else 'classes, one'}"
        clips = [f"{evaluation['clips'][split]:,}" for split in ("train", "valid", "test")]
        called = f"{NAMES[name]} ({task.title.split('(')[-1]}" if name in NAMES else name
        rows.append([called, labels, *clips, f"{task.clip_samples / task.rate:.4g} s", f"{task.rate / 1000:g} kHz"])
    return tabular("llrrrrr", ["task", "labels per clip", "training", "validation", "test", "length", "rate"], rows)


def tuning(notebooks: dict[str, dict]) -> str:
    """What the searches found: validation score of the settings they began with and of the best, and these."""
    rows = []
    for model in ("svm", "raw_cnn", "mel_cnn"):
        if found := notebooks.get(f"tuning_{model}"):
            settings = ", ".join(f"{name.replace('_', ' ')} {value:.2g}" for name, value in found["best"].items())
            scores = [f"{found[key]:.3f}" for key in ("default_score", "best_score")]
            rows.append([SHORT[ROWS.get(model, model)], str(found["budget"]), *scores, settings])
    return tabular("lrrrl", ["model", "trials", "first", "best", "best settings"], rows)


def costs(evaluation: dict) -> str:
    """What the models of a task cost."""
    rows = [
        [MODELS.get(model, model), f"{one['parameters']:,}", f"{one['multiply_adds'] / 1e6:,.1f}",
         f"{one['clips_per_second']:,.0f}"]
        for model, one in evaluation["costs"].items()
    ]  # fmt: skip
    return tabular("lrrr", ["model", "numbers learned", "million multiply-adds", "clips per second"], rows)


def of_study(study: dict) -> str:
    """The rows of a study: score over seeds, its interval, and the difference from the baseline with its own."""
    headline = TASKS[study["task"]].headline
    rows = []
    for name, row in study["rows"].items():
        one = row["metrics"][headline]
        rows.append([title(name), f"{row['parameters']:,}", spread(one), between(one), change(row)])
    head = ["", "parameters", METRICS[headline], "95 % interval", "difference (95 % interval)"]
    return tabular("lrrrr", head, rows)


def of_study_narrow(study: dict) -> str:
    """The same for one of two columns: short names, the interval behind the score, no parameters."""
    headline = TASKS[study["task"]].headline
    rows = []
    for name, row in study["rows"].items():
        one = row["metrics"][headline]
        short = SHORT.get(ROWS.get(name, name), name.replace("_", " "))
        tight = [f"{spread(one)} ({between(one)})", change(row)]
        rows.append([short, *(cell.replace(" ± ", "±").replace(" to ", ", ") for cell in tight)])
    return tabular("lrr", ["", f"{METRICS[headline]} (95 % interval)", "difference (95 % interval)"], rows)


def models_narrow(evaluation: dict) -> str:
    """All models of a task for one of two columns."""
    headline = TASKS[evaluation["task"]].headline
    scored = [metric for metric in (headline, SECOND[headline]) if f"mel_cnn_{metric}" in evaluation["metrics"]]
    rows = []
    for model in [name for name in MODELS if name in evaluation["weights_digest"]]:
        found = [evaluation["metrics"][f"{model}_{metric}"] for metric in scored]
        rows.append([SHORT[model], *(f"{one['value']:.3f} ({between(one)})" for one in found)])
    rows.append(["chance", *(f"{evaluation['metrics'][f'mel_cnn_{metric}']['chance']:.3f}" for metric in scored)])
    return tabular("l" + "r" * len(scored), ["", *(METRICS[metric] for metric in scored)], rows)


def first_layer(study: dict) -> str:
    """The five rows of the paper's table 1: published, the staff's, and ours."""
    rows = []
    for (length, stride), published in PUBLISHED_ROWS.items():
        row = study["rows"].get(f"{length}/{stride}")
        ours = [spread(row["metrics"]["roc_auc"]), between(row["metrics"]["roc_auc"])] if row else ["–", "–"]
        spectrogram = f"{SPECTROGRAMS[length, stride]:.4f}"
        staff = "{:.2f} ± {:.2f}".format(*STAFF[f"{length}/{stride}"]) if f"{length}/{stride}" in STAFF else "–"
        rows.append([str(length), str(stride), spectrogram, f"{published:.4f}", staff, *ours])
    above = r"& & \multicolumn{2}{c}{published \cite{dieleman2014}} & staff & \multicolumn{2}{c}{ours}\\"
    above += r"\cmidrule(lr){3-4}\cmidrule(lr){5-5}\cmidrule(l){6-7}"
    head = ["length", "stride", "mel", "raw", "raw", "raw", "95 % interval"]
    return tabular("rrrrrrr", head, rows, above)
