"""Inference only: score saved weights on recordings at any path, and write one line per recording.

python predict.py --task nsynth --data /path/to/nsynth-test
"""

import argparse
import csv
import os
import sys
import time
from pathlib import Path

BUNDLE = Path(__file__).resolve().parent
SCORED = {"all", "test"}  # splits that are predicted: those that are not for training


def main() -> int:
    """Read the command line, predict, print the scores; 0 when at least one recording could be predicted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True, choices=["nsynth", "magnatagatune", "languages"])
    parser.add_argument("--data", required=True, type=Path, help="folder in a published layout, or of audio files")
    parser.add_argument(
        "--weights", type=Path, help="NAME.json of saved weights (default: mel_cnn trained on the demo)"
    )
    parser.add_argument("--out", type=Path, default=Path("predictions.csv"), help="table to write (%(default)s)")
    options = parser.parse_args()
    try:
        return predict(options)
    except (FileNotFoundError, ValueError) as error:
        print(f"predict.py: {error}", file=sys.stderr)
        return 2


def predict(options: argparse.Namespace) -> int:
    """Predict `options.data`; see `main` for the options."""
    # Slow imports come after the command line was understood
    import numpy as np
    from tqdm import tqdm

    from helpers import data, inference, metrics, weights
    from helpers.data.listing import WrongLayout, read_plain
    from helpers.data.pack import to_targets
    from helpers.tasks import get_task

    started = time.perf_counter()
    task = get_task(options.task)
    path = options.weights or BUNDLE / "weights" / f"{task.name}-demo" / "mel_cnn.json"
    model, info = weights.load(path.parent, path.stem, task)
    classes = tuple(info["classes"])
    try:
        listing = data.read(task, options.data)
    except WrongLayout:
        listing = read_plain(options.data, classes)  # raises when there is no audio at all
    chosen = SCORED & set(listing.splits) or set(listing.splits)
    items = [item for split in sorted(chosen) for item in listing.splits[split]]
    outside = {label for item in items for label in item.labels} - set(classes)
    if outside and not task.multi_label:
        raise ValueError(
            f"{options.data}: labels {', '.join(sorted(outside))} are not among the weights' classes "
            f"({', '.join(classes)}). Choose other weights with --weights."
        )
    problems, rows, labels = list(listing.problems), [], []
    predicted = inference.predict_items(model, items, task, problems)
    for item, probabilities in tqdm(predicted, total=len(items), unit="clip", disable=None):
        rows.append((item, probabilities))
        labels.append([label for label in item.labels if label in classes])
    for problem in problems:
        print(f"left out: {problem.name}: {problem.reason}", file=sys.stderr)
    if not rows:
        raise ValueError(f"{options.data}: none of {len(items)} recordings could be read; see the list above.")
    write_table(options.out, classes, rows)

    line = f"{path.stem} ({info['data']}) on {options.data}: "
    if all(item.labels for item, _ in rows) or (task.multi_label and any(labels)):
        values = np.stack([probabilities for _, probabilities in rows])
        scores = metrics.scores(values, to_targets(labels, classes, task.multi_label), [item.group for item, _ in rows])
        words = [f"{name} {metrics.in_words(score)}" for name, score in scores.items()]
        line += "; ".join(words) or f"every label is all or nothing, no scores, n {len(rows)}"
    else:
        line += f"no labels, no scores, n {len(rows)}"
    print(f"{line}; {len(problems)} left out; {time.perf_counter() - started:.1f} s")
    return 0


def write_table(path: Path, classes, rows) -> None:
    """Write file, prediction, label and one probability per class; complete or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "prediction", "label", *classes])
        for item, values in rows:
            digits = [f"{value:.6f}" for value in values]
            table.writerow([item.name, classes[values.argmax()], " ".join(item.labels), *digits])
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(main())
