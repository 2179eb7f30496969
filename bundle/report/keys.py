"""The keys of all facts and what they say: scores with intervals, differences with what their interval leaves open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bundle.report.facts import METRICS, MODELS, SECOND, STAFF, Results, listed, signed, title
from bundle.reproduce.claims import DIFFERENCE, models_of
from helpers import metrics
from helpers.augment import Augment
from helpers.models import PUBLISHED_ROWS
from helpers.tasks import TASKS

SHOWN, WORST = 3, 3  # labels of an example that are named, classes named as best and worst
LEAK = {"random": "random_split", "apart": "groups_apart"}
BALANCED = ("balanced_accuracy", "mean_recall", "macro_f1")  # every class or tag counts the same
NEAR = 0.05  # a score within this of chance has not begun to rise
OVERFITS, EVEN = 1.05, 1.01  # final validation loss over its lowest: above the first it has risen, below it has not


def every(results: Results) -> Iterator[tuple[str, str]]:
    """All facts, as plain text with their keys."""
    for task, notebooks in results.notebooks.items():
        yield from ((f"{task}.{key}", value) for key, value in _of_task(task, notebooks, results.folder_of(task)))
    for key, study in results.studies.items():
        yield from ((key + name, value) for name, value in _of_study(study))
    for (length, stride), value in PUBLISHED_ROWS.items():
        yield f"published.{length}/{stride}", f"{value:.4f}"
    one = next(iter(results.notebooks.values()))["05_evaluation"]["environment"]
    yield from ((f"environment.{name}", str(value)) for name, value in one.items())


def score(value: dict) -> Iterator[tuple[str, str]]:
    """A score in its forms: "", ".interval", ".full"; with its deviation where it is a mean over seeds."""
    spread = f" ± {value['deviation']:.3f}" if value.get("deviation") is not None else ""
    interval = f"{value['low']:.3f}–{value['high']:.3f}"
    yield "", f"{value['value']:.3f}{spread}"
    yield ".value", f"{value['value']:.3f}"
    yield ".interval", interval
    yield ".full", f"{value['value']:.3f}{spread} (95 % interval {interval})"


def difference(value: dict) -> Iterator[tuple[str, str]]:
    """A difference in its forms, and what its interval says of it."""
    yield ".value", signed(value["value"])
    yield ".interval", f"{signed(value['low'])} to {signed(value['high'])}"
    yield ".full", f"{signed(value['value'])} (95 % interval {signed(value['low'])} to {signed(value['high'])})"
    yield ".sign", "more" if value["low"] > 0 else "less" if value["high"] < 0 else "unclear"


def both(task: str, metrics: dict, prefix: str = "") -> Iterator[tuple[str, dict]]:
    """The scores of one model: under "score" and "second", and under their own names."""
    headline = TASKS[task].headline
    for name in (*METRICS, *BALANCED):
        if f"{prefix}{name}" in metrics:
            yield name, metrics[f"{prefix}{name}"]
            yield {headline: "score", SECOND[headline]: "second"}.get(name, name), metrics[f"{prefix}{name}"]


def _of_task(name: str, notebooks: dict[str, dict], folder: Path) -> Iterator[tuple[str, str]]:
    evaluation, task = notebooks["05_evaluation"], TASKS[name]
    rendered = evaluation["data"] == "demo"
    yield "data", "rendered demo data" if rendered else f"data set ‘{evaluation['data']}’"
    if rendered:
        yield "demo", "yes"
    yield "folder", folder.name
    yield "figures", f"../../figures/{folder.name}"
    yield "headline", METRICS[task.headline]
    yield "second", METRICS[SECOND[task.headline]]
    yield "classes", str(len(evaluation["classes"]))
    yield "rate", f"{task.rate / 1000:g}"
    yield "seconds", f"{task.clip_samples / task.rate:g}"
    yield "window", f"{task.window_samples:,}"
    yield "window.seconds", f"{task.window_samples / task.rate:.3g}"
    yield "windows", f"{task.clip_samples // task.window_samples}"
    for key, value in zip(("fft", "hop", "mels"), task.mel, strict=True):
        yield key, str(value)
    yield "batch", str(task.batch)
    yield "shift", f"{Augment().shift_seconds:g}"
    for split, count in evaluation["clips"].items():
        yield split, f"{count:,}"
    scores = {}
    for model in evaluation["weights_digest"]:
        scores[model] = evaluation["metrics"][f"{model}_{task.headline}"]
        yield f"{model}.title", MODELS.get(model, model)
        for key, value in both(name, evaluation["metrics"], f"{model}_"):
            yield from ((f"{model}.{key}{form}", text) for form, text in score(value))
            if key in ("score", "second"):
                yield f"chance{'.second' if key == 'second' else ''}", f"{value['chance']:.3f}"
        cost = evaluation["costs"][model]
        yield f"{model}.parameters", f"{cost['parameters']:,}"
        yield f"{model}.work", f"{cost['multiply_adds'] / 1e6:.1f} million"
        yield f"{model}.speed", f"{cost['clips_per_second']:,.0f}"
    best = max(scores, key=lambda model: scores[model]["value"])
    yield "best", best
    yield "best.title", MODELS.get(best, best)
    for key, value in both(name, evaluation["metrics"], f"{best}_"):
        yield from ((f"best.{key}{form}", text) for form, text in score(value))
    for results in (notebooks.get("04_mel_cnn"), evaluation):
        for metric, value in (results or {"metrics": {}})["metrics"].items():
            if metric.startswith(DIFFERENCE):
                first, second = models_of(metric)
                yield from ((f"{second}-{first}{form}", text) for form, text in difference(value))
    for model in ("svm", "raw_cnn", "mel_cnn"):
        if tuning := notebooks.get(f"tuning_{model}"):
            yield f"tuning.{model}.budget", str(tuning["budget"])
            yield f"tuning.{model}.default", f"{tuning['default_score']:.3f}"
            yield f"tuning.{model}.best", f"{tuning['best_score']:.3f}"
            chosen = (f"{key.replace('_', ' ')} {value:.2g}" for key, value in tuning["best"].items())
            yield f"tuning.{model}.settings", ", ".join(chosen)
    for notebook, prefix in (("03_raw_audio_cnn", "raw_cnn"), ("04_mel_cnn", "")):
        curves = notebooks.get(notebook, {}).get("curves", {})
        for model, lines in {prefix: curves}.items() if prefix else curves.items():
            if lines:
                chance = evaluation["metrics"][f"mel_cnn_{task.headline}"]["chance"]
                yield from ((f"curves.{model}.{key}", text) for key, text in _of_curves(lines, chance))
    yield from _of_classes(evaluation["per_class"])
    if untested := [label.replace("_", " ") for label in evaluation["classes"] if label not in evaluation["per_class"]]:
        yield "class.untested", listed(untested)
    yield from _of_examples(evaluation, folder)
    pooled = notebooks.get("02_baseline_svm", {}).get("metrics", {})
    leak = {key: pooled.get(f"{metric}_{task.headline}") for key, metric in LEAK.items()}
    if all(leak.values()):
        for key, value in leak.items():
            yield from ((f"leak.{key}{form}", text) for form, text in score(value))
        yield "leak.value", signed(leak["random"]["value"] - leak["apart"]["value"])
        yield "leak.shared", f"{leak['random']['shared']:.0%}".replace("%", " %")
        yield "leak.sign", "more" if leak["random"]["low"] > leak["apart"]["high"] else "unclear"
    if error := evaluation["metrics"].get("mel_cnn_calibration_error"):
        yield "calibration", f"{error['value']:.3f}"
    for probe in ("name", "order", "level"):
        if value := notebooks.get("01_data_exploration", {}).get("metrics", {}).get(f"without_listening_{probe}"):
            yield from ((f"probe.{probe}{form}", text) for form, text in score(value))
            yield f"probe.{probe}.chance", f"{value['chance']:.3f}"
            yield f"probe.{probe}.sign", "more" if value["low"] > value["chance"] else "unclear"
    for seconds, value in evaluation["clip_length"].items():
        yield f"length.{float(seconds):g}", f"{value:.3f}"


def _of_curves(lines: dict, chance: float) -> Iterator[tuple[str, str]]:
    """What a training's curves end with, whether the validation loss had risen again by then, and how it began."""
    valid, scores = lines["epoch_valid_loss"], lines["epoch_valid_score"]
    lowest = int(np.argmin(valid))
    yield "epochs", str(len(valid))
    yield "best_epoch", str(1 + int(np.argmax(scores)))
    yield "lowest_epoch", str(1 + lowest)
    yield "lowest_valid_loss", f"{valid[lowest]:.3f}"
    for key in ("train_loss", "valid_loss", "train_score", "valid_score"):
        yield key, f"{lines[f'epoch_{key}'][-1]:.3f}"
    yield "gap", signed(lines["epoch_train_score"][-1] - scores[-1])
    slow = next((epoch for epoch, value in enumerate(scores) if value > chance + NEAR), len(scores))
    if slow > 2:
        yield "slow", str(slow)
    rise = valid[-1] / valid[lowest]
    yield "sign", "more" if rise > OVERFITS else "less" if rise < EVEN else "unclear"


def _of_classes(per_class: dict[str, list]) -> Iterator[tuple[str, str]]:
    """The best and the worst classes of the mel network; the rarer of two equal ones comes later."""
    order = sorted(per_class, key=lambda label: (per_class[label][0], -per_class[label][1]))
    for word, labels in (
        ("worst", order[:WORST]),
        ("best", sorted(order, key=lambda one: (-per_class[one][0], -per_class[one][1]))[:WORST]),
    ):
        for count, label in enumerate(labels, 1):
            value, clips = per_class[label]
            yield f"class.{word}.{count}.name", label.replace("_", " ")
            yield f"class.{word}.{count}.value", f"{value:.2f}"
            yield f"class.{word}.{count}.n", str(clips)
        if absent := [label for label in labels if label.startswith("no ")]:  # tags for what is not there
            yield f"class.{word}.absent", listed([f"‘{label}’" for label in absent])


def _of_examples(evaluation: dict, folder: Path) -> Iterator[tuple[str, str]]:
    """From the mel network's saved predictions: the most frequent confusions, the good and the bad examples."""
    with np.load(folder / "05_evaluation.npz", allow_pickle=False) as stored:
        names, targets, found = list(stored["names"]), stored["targets"], stored["mel_cnn"]
    labels = [label.replace("_", " ") for label in evaluation["classes"]]
    if targets.ndim == 1:
        counts = metrics.confusion(found, targets)
        wrong = counts - np.diag(counts.diagonal())
        for place in range(WORST):
            true, said = np.unravel_index(np.argsort(-wrong, axis=None, kind="stable")[place], wrong.shape)
            yield f"confusion.{place + 1}.true", labels[true]
            yield f"confusion.{place + 1}.predicted", labels[said]
            yield f"confusion.{place + 1}.count", str(wrong[true, said])
            yield f"confusion.{place + 1}.of", str(counts[true].sum())
    for word, name in evaluation["examples"].items():
        clip, key = names.index(name), f"example.{word.replace(' ', '')}"
        true = np.flatnonzero(targets[clip]) if targets.ndim == 2 else [targets[clip]]
        top = np.argsort(-found[clip], kind="stable")[: max(SHOWN, len(true)) if targets.ndim == 2 else SHOWN]
        yield f"{key}.name", name
        if targets.ndim == 2:  # of as many most probable tags as are true, how many are
            yield f"{key}.true", str(len(true))
            yield f"{key}.hits", str(len(set(top[: len(true)]) & set(true)))
        yield f"{key}.truth", ", ".join(labels[index] for index in true)
        yield f"{key}.predicted", ", ".join(f"{labels[index]} {found[clip][index]:.2f}" for index in top)


def _of_study(study: dict) -> Iterator[tuple[str, str]]:
    rows, baseline = study["rows"], study["rows"][study["baseline"]]
    headline = {name: row["metrics"][TASKS[study["task"]].headline] for name, row in rows.items()}
    yield "", "yes"
    yield ".data", "rendered demo data" if study["data"] == "demo" else f"data set ‘{study['data']}’"
    yield ".seeds", str(headline[study["baseline"]]["seeds"])
    yield ".n", f"{headline[study['baseline']]['n']:,}"
    yield ".scored", study["scored"]
    yield ".baseline", title(study["baseline"])
    epochs = sorted({row["settings"]["epochs"] for row in rows.values()})
    yield ".epochs", " or ".join(map(str, epochs))
    for key in ("batch", "learning_rate", "weight_decay"):
        yield f".{key}", f"{baseline['settings'][key]:g}"
    yield ".shift", f"{baseline['settings']['augment']['shift_seconds']:g}"
    best = max(headline, key=lambda name: headline[name]["value"])
    yield ".best", best
    yield ".best.title", title(best)
    signs: dict[str, list[str]] = {}
    for name, row in {**rows, "best": rows[best]}.items():
        for key, value in both(study["task"], row["metrics"]):
            yield from ((f".{name}.{key}{form}", text) for form, text in score(value))
        yield f".{name}.parameters", f"{row['parameters']:,}"
        yield f".{name}.minutes", f"{row['minutes']:.1f}"
        yield f".{name}.clips", f"{row['train_clips'][0]:,}"
        chance = row["metrics"][TASKS[study["task"]].headline]["chance"]
        yield from ((f".{name}.curves.{key}", text) for key, text in _of_curves(row["curves"], chance))
        if "difference" in row:
            forms = dict(difference(row["difference"]))
            yield from ((f".{name}.change{form}", text) for form, text in forms.items())
            share = row["difference"]["value"] / headline[study["baseline"]]["value"]
            yield f".{name}.change.share", f"{share:+.1%}".replace("-", "−").replace("%", " %")
            if name in rows:
                signs.setdefault(forms[".sign"], []).append(title(name))
    for sign, names in signs.items():  # which rows are clearly above the baseline, below it, or neither
        yield f".{sign}", listed(names)
        if len(names) > 1:
            yield f".{sign}.several", "yes"
    half = [(one["high"] - one["low"]) / 2 for one in headline.values()]
    if all(one["deviation"] is not None for one in headline.values()):
        over_seeds = [one["deviation"] for one in headline.values()]
        small, large = max(over_seeds) < min(half) / 2, min(over_seeds) > max(half) / 2
        yield ".noise.sign", "less" if small else "more" if large else "unclear"
    for row, (value, margin) in STAFF.items():
        if study["study"] == "first_layer" and row in rows:
            off = headline[row]["value"] - value
            yield ".staff", f"{value:.2f} ± {margin:.2f}"
            yield ".staff.value", signed(off)
            yield ".staff.sign", "more" if off > margin else "less" if off < -margin else "unclear"
