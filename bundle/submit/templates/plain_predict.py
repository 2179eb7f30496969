"""Predict the language of audio clips with the TorchScript model beside this script.

    python predict.py --data FOLDER --out predictions.csv

PyTorch, NumPy and soundfile are all it needs. FOLDER holds inputs_test_fp16.npy, or audio files; clips may have any
length. Where the answers are known (targets_test_int8.npy, or folders named after the languages) it prints top-1 and
top-3 accuracy.
"""

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch

HERE = Path(__file__).resolve().parent
AUDIO = (".wav", ".flac", ".ogg", ".mp3")


def load(path: Path) -> tuple[torch.jit.ScriptModule, dict]:
    """The model, and what it says of itself: classes in the order of its outputs, sampling rate, window in samples."""
    told = {"about.json": ""}
    model = torch.jit.load(str(path), map_location="cpu", _extra_files=told)
    return model.eval(), json.loads(told["about.json"])


def clips(folder: Path, classes: list[str], rate: int) -> Iterator[tuple[str, np.ndarray, str]]:
    """Name, waveform (samples,) float32, and label, "" when unknown, of every clip."""
    arrays = folder / "inputs_test_fp16.npy"
    if arrays.is_file():
        answers = folder / "targets_test_int8.npy"
        labels = [classes[label] for label in np.load(answers).reshape(-1)] if answers.is_file() else None
        for row, wave in enumerate(np.load(arrays, mmap_mode="r")):
            yield f"{arrays.name}[{row}]", wave.astype(np.float32), labels[row] if labels else ""
        return
    start = folder / "test" if (folder / "test").is_dir() else folder
    for path in sorted(path for path in start.rglob("*") if path.suffix.lower() in AUDIO):
        name, label = path.relative_to(folder).as_posix(), path.relative_to(start).parts[0]
        try:
            wave, found = soundfile.read(path, dtype="float32", always_2d=True)
            if found != rate or not len(wave) or not np.isfinite(wave).all():
                raise ValueError(f"{len(wave)} samples at {found} Hz, expected finite samples at {rate} Hz")
        except (OSError, RuntimeError, ValueError) as error:
            print(f"left out: {name}: {error}", file=sys.stderr)
            continue
        yield name, wave.mean(axis=1), label if label in classes else ""


@torch.no_grad()
def probabilities(model: torch.jit.ScriptModule, wave: np.ndarray, window: int) -> np.ndarray:
    """Mean over the clip's windows, (classes,); a rest shorter than half a window is left out."""
    count = max(1, (len(wave) + window // 2) // window)
    padded = np.pad(wave, (0, max(0, count * window - len(wave))))[: count * window]
    logits = model(torch.from_numpy(padded.reshape(count, window)))  # (windows, classes)
    return logits.softmax(dim=1).mean(dim=0).numpy()


def main() -> int:
    """Read the command line, predict, write the table, print the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of clips")
    parser.add_argument("--out", type=Path, default=Path("predictions.csv"), help="table to write (%(default)s)")
    parser.add_argument("--model", type=Path, default=next(HERE.glob("*.pt"), None), help="TorchScript (%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)  # one clip at a time: more threads would wait for each other
    model, about = load(options.model)
    classes, rows, hits = about["classes"], [], []
    for name, wave, label in clips(options.data, classes, about["rate"]):
        values = probabilities(model, wave, about["window"])
        order = np.argsort(-values)
        rows.append([name, classes[order[0]], *(f"{value:.6f}" for value in values)])
        if label:
            place = int(np.flatnonzero(order == classes.index(label))[0])  # 0: the first guess is right
            hits.append((place < 1, place < 3))
    if not rows:
        print(f"predict.py: {options.data}: no clips, expected inputs_test_fp16.npy or audio files.", file=sys.stderr)
        return 2
    temporary = options.out.with_name(f".{options.out.name}.{os.getpid()}")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file", "prediction", *classes], *rows])
    os.replace(temporary, options.out)
    first, third = np.mean(hits, axis=0) if hits else (None, None)
    scores = f"no labels, n {len(rows)}"
    if hits:
        count = len(classes)
        scores = f"top-1 {first:.3f} (chance {1 / count:.3f}), top-3 {third:.3f} ({3 / count:.3f}), n {len(hits)}"
    print(f"{options.model.stem} ({about['data']}) on {options.data}: {scores}; written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
