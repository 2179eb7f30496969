"""Keep a run's results in the bundle and turn them into the README's table. No figure is ever typed by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results: written by python -m bundle run --keep -->", "<!-- end of results -->"
STUDIES = """# Studies

Written by `python -m bundle sweep`, from the `study_*.json` files here; the `.npz` beside each holds the predictions it
can be recomputed from. Mean and standard deviation over seeds; intervals are 95 %, drawn over groups of clips and over
seeds. The difference is against the named row, on the same clips and seeds. Networks are trained in bfloat16 where the
CPU computes in it, and in some studies for fewer epochs than those whose weights are kept: compare rows of one study
with each other. Minutes are those of one training on one core of a busy machine.

"""
METRICS = {"top1": "top-1", "top3": "top-3", "roc_auc": "macro ROC-AUC", "pr_auc": "macro PR-AUC"}


def table(folder: Path) -> str:
    """Markdown table of every model on its test split, from `folder`/<task>-<data>/*.json.

    Raises
    ------
    FileNotFoundError
        If there are no results.
    """
    rows = [
        "| task | data | model | headline score (95 % interval), chance | second score | n |",
        "|---|---|---|---|---|---|",
    ]
    for path in sorted(folder.glob("*/05_evaluation.json")) + sorted(folder.glob("*/04_mel_cnn.json")):
        results = json.loads(path.read_text())
        task, chosen = results["task"], results["parameters"]["CLASSES"]
        if results["notebook"].startswith("04") and not chosen:
            continue  # 05 has these models, beside the others
        data = "rendered demo" if results["data"] == "demo" else results["data"]
        for model in results["weights_digest"]:
            scores = {name: results["metrics"].get(f"{model}_{name}") for name in METRICS}
            cells = [
                f"{METRICS[name]} {s['value']:.3f} ({s['low']:.3f} – {s['high']:.3f}), {s['chance']:.3f}"
                for name, s in scores.items()
                if s
            ]
            count = next(score["n"] for score in scores.values() if score)
            title = f"{task} {chosen}".strip()
            rows.append(f"| {title} | {data} | {model} | {cells[0]} | {', '.join(cells[1:]) or '–'} | {count} |")
    if len(rows) == 2:
        raise FileNotFoundError(f"{folder}: no results, expected <task>-<data>/05_evaluation.json. Run with --keep.")
    return "\n".join(rows)


def studies(folder: Path) -> str:
    """Markdown of every study in `folder`/<task>-<data>/study_*.json: a heading, the question, and a row per row."""
    parts = []
    for path in sorted(folder.glob("*/study_*.json")):
        study = json.loads(path.read_text())
        headline = TASKS[study["task"]].headline
        data = "rendered demo data" if study["data"] == "demo" else f"data '{study['data']}'"
        parts.append(
            f"## {study['study']}: {study['task']}, {data}\n\n{study['question']} "
            f"Scored at the {study['scored']}, against `{study['baseline']}`.\n\n"
            f"| row | {METRICS[headline]}: mean ± deviation (95 % interval) | seeds | n | chance | difference "
            "| validation | epochs | minutes |\n|---|---|---|---|---|---|---|---|---|"
        )
        for name, row in study["rows"].items():
            score, change = row["metrics"][headline], row.get("difference")
            spread = "" if score["deviation"] is None else f" ± {score['deviation']:.3f}"
            parts[-1] += (
                f"\n| {name} | {score['value']:.3f}{spread} ({score['low']:.3f} – {score['high']:.3f}) "
                f"| {score['seeds']} | {score['n']} | {score['chance']:.3f} | "
                + (f"{change['value']:+.3f} ({change['low']:+.3f} – {change['high']:+.3f})" if change else "–")
                + f" | {row['valid']['value']:.3f} | {row['settings']['epochs']} | {row['minutes']:.1f} |"
            )
    return "\n\n".join(parts)


def with_table(readme: str, markdown: str) -> str:
    """The README's text with the part between the two markers replaced."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n\n{markdown}\n\n{END}{rest.split(END)[1]}"


def update_readme() -> None:
    """Write the table into README.md, the studies' into report/results/README.md, and the tolerances of all results."""
    from bundle.reproduce.tolerance import state_tolerances  # it reads results with this module

    path, results = ROOT / "README.md", ROOT / "report" / "results"
    state_tolerances(results)
    path.write_text(with_table(path.read_text(encoding="utf-8"), table(results)), encoding="utf-8")
    (results / "README.md").write_text(STUDIES + studies(results) + "\n", encoding="utf-8")


def overview(outcomes) -> str:
    """One row per outcome of `bundle.run.command`: headline metric with interval, n, chance level and seconds."""
    rows = [("task", "notebook", "metric", "value", "95 % interval", "n", "chance", "seconds")]
    for outcome in outcomes:
        task = outcome.job.out.name
        if outcome.results is None:
            rows.append((task, outcome.job.notebook, "FAILED", "", "", "", "", f"{outcome.seconds:.1f}"))
            continue
        name = outcome.results["headline"]
        score = outcome.results["metrics"][name]
        counted = score["low"] == score["value"] == score["high"]
        rows.append((
            task, outcome.job.notebook, name,
            f"{score['value']:g}" if counted else f"{score['value']:.3f}",
            "" if counted else f"{score['low']:.3f} – {score['high']:.3f}",
            str(score["n"]), f"{score['chance']:.3f}" if "chance" in score else "", f"{outcome.seconds:.1f}",
        ))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(["", lines[0], "-" * len(lines[0]), *lines[1:], ""])


def keep(out: Path) -> None:
    """Copy what a run made to weights/, figures/ and report/results/<task>-<data>/, and renew the README's table."""
    for results in sorted(out.glob("*/results/*.json")):
        content = json.loads(results.read_text())
        suffix = results.parent.parent.name.removeprefix(content["task"])
        target = ROOT / "report" / "results" / f"{content['task']}-{content['data']}{suffix}"
        target.mkdir(parents=True, exist_ok=True)
        for path in (
            results,
            results.with_suffix(".npz"),
            results.with_suffix(".log"),
        ):  # predictions; a search's journal
            if path.is_file():
                shutil.copy2(path, target)
    for kind in ("weights", "figures"):
        for folder in sorted(out.glob(f"*/{kind}/*")):
            if kind == "figures" and folder.parent.parent.name not in folder.name:
                continue  # figures of a subset of the classes would take the place of the full ones
            shutil.copytree(folder, ROOT / kind / folder.name, dirs_exist_ok=True)
    update_readme()
