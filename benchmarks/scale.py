"""Memory and cost per clip from thousands to tens of thousands of notes: pack, train an epoch, open, predict."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import demo
from benchmarks.timing import watched

ROOT = Path(__file__).resolve().parent.parent
SIZES = (2_000, 10_000, 50_000)
NOTES = 3000  # at scale 1
PROGRAM = """
import sys
from helpers import data, training
from helpers.models import build, config_for
from helpers.tasks import TASKS
task = TASKS["nsynth"]
loaded = data.load(task, sys.argv[1], sys.argv[2])
if sys.argv[3] == "train":
    model = build(config_for(task, "MelCNN", len(task.classes)))
    training.fit(model, loaded.train, loaded.valid, task, training.Settings(epochs=1))
"""


def measure(work: Path, sizes: tuple[int, ...] = SIZES) -> list[dict]:
    """Render each number of notes, do every step in a process of its own, and remove the notes again."""
    found = []
    for size in sizes:
        folder = work / f"scale-{size}"
        data = demo.ensure("nsynth", folder / "demo", scale=size / NOTES, seed=2)
        held = data / "nsynth-train" / "audio"  # the largest folder; predict.py takes any folder of files
        train, notes = len(list(held.iterdir())), len(list(data.glob("*/audio/*")))
        program = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(data), str(folder)]
        predict = [sys.executable, "predict.py", "--task", "nsynth", "--data", str(held), "--out", f"{folder}/p.csv"]
        # A training opens the pack first: what that costs is measured and taken off
        steps = {
            name: ([*program, name], clips) for name, clips in (("pack", notes), ("train", train), ("open", notes))
        }
        steps["predict"] = (predict, train)
        measured = {name: watched(command, cwd=ROOT) | {"clips": clips} for name, (command, clips) in steps.items()}
        found.append({"notes": notes, "steps": measured})
        shutil.rmtree(folder)
    return found
