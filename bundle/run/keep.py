"""Copy what a run made into the bundle: weights, figures, results, and the README's table of them."""

from __future__ import annotations

import shutil
from pathlib import Path

from bundle.results import RESULTS, ROOT, load, read, update_readme


def keep(out: Path) -> None:
    """Copy what a run made to weights/, figures/ and report/results/<task>-<data>/, and renew the README's table."""
    from bundle.reproduce.tolerance import state_tolerances  # only who keeps waits for it

    for path in sorted(out.glob("*/results/*.json")):
        content = load(path)
        suffix = path.parent.parent.name.removeprefix(content["task"])
        target = RESULTS / f"{content['task']}-{content['data']}{suffix}"
        target.mkdir(parents=True, exist_ok=True)
        for kept in (path, path.with_suffix(".npz"), path.with_suffix(".log")):  # predictions; a search's journal
            if kept.is_file():
                shutil.copy2(kept, target)
    for kind in ("weights", "figures"):
        for folder in sorted(out.glob(f"*/{kind}/*")):
            if kind == "figures" and folder.parent.parent.name not in folder.name:
                continue  # figures of a subset of the classes would take the place of the full ones
            shutil.copytree(folder, ROOT / kind / folder.name, dirs_exist_ok=True)
    update_readme()
    state_tolerances(read())
