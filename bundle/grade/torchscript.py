"""Somebody's TorchScript model on test data, for a hand-in that holds one and no predict.py.

python -m bundle.grade.torchscript MODEL --task T --data FOLDER --out TABLE writes the table that predict.py would;
`bundle.grade.grader` runs it in its box.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import zipfile
from pathlib import Path

ABOUT = "about.json"  # in an archive of this project: task, classes in logit order, rate, window


def is_torchscript(path: Path) -> bool:
    """Whether a file looks like one: a zip with constants and code. Nothing of it is loaded."""
    try:
        with zipfile.ZipFile(path) as opened:
            names = opened.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names)


def predict(path: Path, task_name: str, folder: Path, out: Path) -> int:
    """Run an archive on test data, a window (1, samples) float32 at a time, and write the table; 0 when it could.

    `torch.jit.load` unpickles nothing in Python, but the archive is a program: call this where it can do no harm.
    """
    import numpy as np
    import torch

    from bundle.grade.measure import read_truth
    from helpers import audio, models
    from helpers.tasks import get_task

    task = get_task(task_name)
    truth, told = read_truth(task, folder), {ABOUT: ""}
    model = torch.jit.load(str(path), map_location="cpu", _extra_files=told).eval()
    about = json.loads(told[ABOUT] or "{}")
    classes = tuple(about["classes"]) if isinstance(about, dict) and "classes" in about else truth.classes
    torch.set_num_threads(1)  # one window at a time: more threads would wait for each other
    names, rows = [], []
    for item in truth.items:
        try:
            wave = audio.decode(item.path, task.rate, item.row)[0]
        except audio.BadAudio as error:
            print(f"left out: {item.name}: {error}", file=sys.stderr)
            continue
        windows = torch.from_numpy(audio.split_windows(wave, task.window_samples)).float()
        with torch.no_grad():
            values = torch.stack([model(window[None]).reshape(-1) for window in windows]).float()
        if values.shape[1] != len(classes):
            print(f"{path.name}: gives {values.shape[1]} values, expected {len(classes)} ({', '.join(classes)}).")
            return 1
        names.append(item.name)
        rows.append(values)
    # Some models end with a softmax or a sigmoid: then nothing is left to do
    whole = torch.cat(rows)
    shares = task.multi_label or bool(((whole.sum(dim=1) - 1).abs() < 1e-3).all())
    ready = shares and bool(((whole >= 0) & (whole <= 1)).all())
    table = [(row if ready else models.to_probabilities(row, task.multi_label)).mean(dim=0).numpy() for row in rows]
    with out.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "prediction", *classes])
        for name, row in zip(names, table, strict=True):
            writer.writerow([name, classes[int(np.argmax(row))], *(f"{value:.6f}" for value in row)])
    counts = f"{len(names)} of {len(truth.items)} recordings"
    print(f"{path.stem.split('.')[0]} (TorchScript) on {folder}: {counts} predicted")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bundle.grade.torchscript")
    parser.add_argument("model", type=Path)
    parser.add_argument("--task", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    sys.exit(predict(options.model, options.task, options.data, options.out))
