"""Inference only: score saved weights on recordings at any path, and write one line per recording.

python predict.py --task nsynth --data /path/to/nsynth-test
"""

import argparse
import csv
import json
import os
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path

BUNDLE = Path(__file__).resolve().parent


def main() -> int:
    """Read the command line, predict, print the scores; 0 when at least one recording could be predicted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True, choices=["nsynth", "magnatagatune", "languages"])
    parser.add_argument("--data", required=True, type=Path, help="folder in a published layout, or of audio; or a file")
    parser.add_argument("--weights", type=Path, help="NAME.json (default: the only ones there, or mel_cnn of the demo)")
    parser.add_argument("--out", type=Path, help="table to write (default: predictions.csv; none for one file)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names that the terminal cannot show
    try:
        predict(parser.parse_args())
    except ModuleNotFoundError as error:
        print(f"predict.py: {error}, which these data or weights need. Install requirements.txt.", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"predict.py: {error}", file=sys.stderr)
        return 2
    return 0


@contextmanager
def table(path: Path | None):
    """A text file that gets its name when all went well; without a name nothing of it stays."""
    from helpers.files import replacing

    text = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}
    try:
        with replacing(path) if path else nullcontext(os.devnull) as temporary, open(temporary, "w", **text) as file:
            yield file
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror}). Choose another file with --out.") from error


def predict(options: argparse.Namespace) -> None:
    """Predict `options.data`; see `main` for the options."""
    # Slow imports come after the command line was understood
    import numpy as np
    from tqdm import tqdm

    from helpers import data, inference, metrics, weights
    from helpers.data.listing import by_reason, unreadable
    from helpers.data.pack import to_targets
    from helpers.tasks import get_task

    task, one = get_task(options.task), options.data.is_file()
    out = options.out or (None if one else Path("predictions.csv"))
    if out and out.exists() and not out.is_file():
        raise ValueError(f"{out}: a folder or a device is there, expected a file. Choose another with --out.")
    there = sorted(BUNDLE.glob(f"weights/{task.name}-*/*.json"))  # a hand-in may hold a single model
    usual = there[0] if len(there) == 1 else BUNDLE / "weights" / f"{task.name}-demo" / "mel_cnn.json"
    path = options.weights or usual
    model, info = weights.load(path.parent, path.stem, task)
    classes = tuple(info["classes"])
    listing = data.read_any(task, options.data, classes)
    items, problems, done, values = listing.scored(), listing.problems, [], []
    left, named = listing.left_over(), {label for item in items for label in item.labels}
    notes = [*listing.notes, *(f"{split}: {count} recordings, not predicted" for split, count in left.items())]
    outside = sorted(set(listing.classes) - set(classes) if task.multi_label else named - set(classes))
    if outside and not task.multi_label:
        raise ValueError(
            f"{options.data}: labels {', '.join(outside)} are not among the weights' classes "
            f"({', '.join(classes)}). Choose other weights with --weights."
        )
    with table(out) as file:
        rows = csv.writer(file)
        rows.writerow(["file", "prediction", *classes, "label"])
        predicted = inference.predict_items(model, items, task, problems)
        for item, row in tqdm(predicted, total=len(items), unit="clip", disable=None):
            done.append(item)
            values.append(row)
            digits = [f"{value:.6f}" for value in row]
            rows.writerow([item.name, classes[row.argmax()], *digits, "; ".join(item.labels)])
        for problem in problems:
            print(f"left out: {problem}", file=sys.stderr)
        if not done:
            raise ValueError(f"{options.data}: none of {len(items)} recordings could be read; see the list above.")

    values, scores = np.array(values), {}
    if (any if task.multi_label else all)(item.labels for item in done):
        targets = to_targets([item.labels for item in done], classes, task.multi_label)
        scores = metrics.scores(values, targets, [item.group for item in done])
        scored = metrics.scorable(targets) if task.multi_label else np.isin(classes, list(named))
        lacking = ", ".join(np.array(classes)[~scored])
        if lacking and task.multi_label:
            notes.append(f"scored {scored.sum()} of {len(classes)} tags; all recordings or none have: {lacking}")
        elif lacking:
            notes.append(f"{scored.sum()} of {len(classes)} classes are there; no recording of: {lacking}")
        if outside:
            notes.append(f"tags unknown to the weights, not scored: {', '.join(outside)}")
    if one:
        for place in np.argsort(-values[0])[:3]:
            print(f"{classes[place]} {values[0, place]:.2f}")
    else:
        why = "; ".join(f"{count} {reason}" for reason, count in by_reason(problems).items())
        print(f"found {len(done) + len(problems)} recordings: {len(done)} predicted, {len(problems)} left out", end="")
        print(f" ({why})" * bool(why), *(f"note: {note}" for note in notes), sep="\n" if notes else "")
        words = "; ".join(f"{name} {metrics.in_words(score)}" for name, score in scores.items())
        why = "no tag that only some recordings have" if any(item.labels for item in done) else "no labels"
        words = words or f"{why}, no scores, n {len(done)}"
        print(f"{path.stem} ({info['data']}) on {str(options.data)!r}: {words}; {len(problems)} left out")
    if options.json:
        result = {"task": task.name, "data": str(options.data), "weights": info["sha256"], "n": len(done)}
        print(json.dumps(result | {"metrics": scores, "unreadable": unreadable(problems), "notes": notes}))


if __name__ == "__main__":
    sys.exit(main())
