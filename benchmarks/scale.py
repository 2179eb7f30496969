"""How memory and cost per clip grow from thousands to tens of thousands of notes: pack, train an epoch, predict."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import demo
from benchmarks.timing import watched

ROOT = Path(__file__).resolve().parent.parent
NOTES = 3000  # at scale 1
STEPS = {
    "pack": "data.load(task, folder, cache)",
    "train": (
        "d = data.load(task, folder, cache); "
        "training.fit(build(config_for(task, 'MelCNN', 11)), d.train, d.valid, task, training.Settings(epochs=1))"
    ),
}
PROGRAM = (
    "import sys; from helpers import data, training; from helpers.models import build, config_for; "
    "from helpers.tasks import TASKS; task, folder, cache = TASKS['nsynth'], *sys.argv[1:3]; "
)


def measure(work: Path, sizes: list[int]) -> list[dict]:
    """Render each number of notes, do every step in a process of its own, and remove the notes again."""
    found = []
    for size in sizes:
        folder = work / f"scale-{size}"
        data = demo.ensure("nsynth", folder / "demo", scale=size / NOTES, seed=2)
        clips = {name: len(list((data / f"nsynth-{name}" / "audio").iterdir())) for name in ("train", "valid", "test")}
        row = {"notes": sum(clips.values()), "clips": clips, "steps": {}}
        for name, program in STEPS.items():
            command = [sys.executable, "-W", "ignore", "-c", PROGRAM + program, str(data), str(folder)]
            row["steps"][name] = watched(command, cwd=ROOT)
        # A training or reading process opens the pack first: what that costs is measured and taken off
        row["steps"]["open"] = watched(
            [sys.executable, "-W", "ignore", "-c", PROGRAM + STEPS["pack"], str(data), str(folder)], cwd=ROOT
        )
        held = data / "nsynth-train" / "audio"  # the largest folder; predict.py takes any folder of files
        row["predicted"] = clips["train"]
        row["steps"]["predict"] = watched(
            [sys.executable, "predict.py", "--task", "nsynth", "--data", str(held), "--out", str(folder / "p.csv")],
            cwd=ROOT,
        )
        print(row, flush=True)
        found.append(row)
        shutil.rmtree(folder)
    return found
