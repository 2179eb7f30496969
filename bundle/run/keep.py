"""Keep what a run made in the bundle: weights, figures, results, README's table; all of one run, or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundle.results import RESULTS, ROOT, load, read, update_readme
from helpers.files import together


@contextmanager
def kept() -> Iterator[Path]:
    """A folder that stands for the bundle: what is put into it takes its place there in the end, all of it or nothing.

    Its report/results begins as the bundle's; the tables and tolerances that follow from it are renewed at the end.
    """
    from bundle.reproduce.tolerance import state_tolerances  # only who keeps waits for it

    with together(ROOT) as staged:
        results = staged / "report" / "results"
        if RESULTS.is_dir():
            shutil.copytree(RESULTS, results)
        yield staged
        update_readme(staged, ROOT / "README.md")
        state_tolerances(read(results))


def refuse_other(path: Path, content: dict) -> None:
    """Raise a ValueError where a results file of other data would be replaced; `path` is in report/results."""
    held, new = (found.get("data_digest") for found in (load(path) if path.is_file() else {}, content))
    if held and new and held != new:  # a search's record has none
        raise ValueError(
            f"report/results/{path.parent.name}/{path.name}: holds results of other data (digest {held[:12]}), "
            f"expected those of {new[:12]}. Give the data folder another name, or remove these results first."
        )


def keep(out: Path) -> None:
    """Keep a run: weights/, figures/ and report/results/<task>-<data>/ get what it made, README its table."""
    with kept() as staged:
        for path in sorted(out.glob("*/results/*.json")):
            content = load(path)
            suffix = path.parent.parent.name.removeprefix(content["task"])
            target = staged / "report" / "results" / f"{content['task']}-{content['data']}{suffix}"
            target.mkdir(parents=True, exist_ok=True)
            refuse_other(target / path.name, content)
            for one in (path, path.with_suffix(".npz"), path.with_suffix(".log")):  # predictions; a search's journal
                if one.is_file():
                    shutil.copy2(one, target)
        for kind in ("weights", "figures"):
            for folder in sorted(out.glob(f"*/{kind}/*")):
                if kind == "figures" and folder.parent.parent.name not in folder.name:
                    continue  # figures of a subset of the classes would take the place of the full ones
                shutil.copytree(folder, staged / kind / folder.name, dirs_exist_ok=True)
