"""Inference only: score saved weights on recordings at any path, and write one line per recording.

python predict.py --task nsynth --data /path/to/nsynth-test
"""

import argparse
import csv
import io
import json
import os
import sys
import time
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

BUNDLE = Path(__file__).resolve().parent
SCORED = {"all", "test"}  # splits that are predicted: those that are not for training
LISTED = 100  # recordings left out that --json names
BAR = 20  # characters of a bar for probability 1


def main() -> int:
    """Read the command line, predict, print the scores; 0 when at least one recording could be predicted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True, choices=["nsynth", "magnatagatune", "languages"])
    parser.add_argument(
        "--data", required=True, type=Path, help="folder in a published layout, or of audio files; or one audio file"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        help="NAME.json of saved weights (default: the only ones there, or mel_cnn of the demo)",
    )
    parser.add_argument("--out", type=Path, help="table to write (default: predictions.csv; none for one file)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names and bars that the terminal cannot show
    try:
        return predict(options)
    except ModuleNotFoundError as error:
        print(f"predict.py: {error}, which these data or weights need. Install requirements.txt.", file=sys.stderr)
    except (OSError, ValueError) as error:
        print(f"predict.py: {error}", file=sys.stderr)
    return 2


def predict(options: argparse.Namespace) -> int:
    """Predict `options.data`; see `main` for the options."""
    # Slow imports come after the command line was understood
    import numpy as np
    from tqdm import tqdm

    from helpers import inference, weights
    from helpers.data.pack import to_targets
    from helpers.tasks import get_task

    started = time.perf_counter()
    task, one = get_task(options.task), options.data.is_file()
    there = sorted(BUNDLE.glob(f"weights/{task.name}-*/*.json"))  # a hand-in may hold a single model
    default = there[0] if len(there) == 1 else BUNDLE / "weights" / f"{task.name}-demo" / "mel_cnn.json"
    path = options.weights or default
    model, info = weights.load(path.parent, path.stem, task)
    classes = tuple(info["classes"])
    items, problems = recordings(options.data, task, classes)
    values, wanted, done = np.zeros((len(items), len(classes)), np.float32), len(items), 0
    asked = options.out or (None if one else Path("predictions.csv"))
    with whole(asked) if asked else nullcontext(io.StringIO()) as file:
        table = csv.writer(file)
        table.writerow(["file", "prediction", *classes, "label"])
        predicted = inference.predict_items(model, items, task, problems)
        for item, row in tqdm(predicted, total=wanted, unit="clip", disable=None):
            values[done], items[done] = row, item  # those that can be read move up in the list
            done += 1
            digits = [f"{value:.6f}" for value in row]
            table.writerow([item.name, classes[row.argmax()], *digits, "; ".join(item.labels)])
        for problem in problems:
            print(f"left out: {shown(problem.name)}: {problem.reason}", file=sys.stderr)
        if not done:
            raise ValueError(f"{options.data}: none of {wanted} recordings could be read; see the list above.")

    items, values, scores, words = items[:done], values[:done], {}, []
    labelled = all(item.labels for item in items) or (task.multi_label and any(item.labels for item in items))
    if labelled:
        from helpers import metrics

        labels = [[label for label in item.labels if label in classes] for item in items]
        targets = to_targets(labels, classes, task.multi_label)
        scores = metrics.scores(values, targets, [item.group for item in items])
        words = [f"{name} {metrics.in_words(score)}" for name, score in scores.items()]
    none = f"{'every label is all or nothing' if labelled else 'no labels'}, no scores, n {done}"
    seconds = time.perf_counter() - started
    if one:
        for place in np.argsort(-values[0])[:3]:
            print(f"{classes[place]} {values[0, place]:.2f} {'█' * round(BAR * float(values[0, place]))}")
    else:
        line = f"{path.stem} ({info['data']}) on {shown(options.data)}: {'; '.join(words) or none}"
        print(f"{line}; {len(problems)} left out; {seconds:.1f} s")
    if options.json:
        first = [[problem.name, problem.reason] for problem in problems[:LISTED]]
        result = {"task": task.name, "data": str(options.data), "weights": info["sha256"], "n": done}
        unreadable = {"count": len(problems), "first": first}
        print(json.dumps(result | {"metrics": scores, "unreadable": unreadable, "seconds": round(seconds, 3)}))
    return 0


def recordings(path: Path, task, classes: tuple[str, ...]) -> tuple[list, list]:
    """What is to be predicted: one file, or those of a folder that are not for training; and what is wrong there."""
    from helpers import data
    from helpers.data.listing import Item, WrongLayout, read_plain

    if path.is_file():
        return [Item(path.name, path, (), "")], []
    try:
        listing = data.read(task, path)
    except WrongLayout:
        listing = read_plain(path, classes)  # raises when there is no audio at all
    chosen = SCORED & set(listing.splits) or set(listing.splits)
    items = [item for split in sorted(chosen) for item in listing.splits[split]]
    outside = {label for item in items for label in item.labels} - set(classes)
    if outside and not task.multi_label:
        raise ValueError(
            f"{path}: labels {', '.join(sorted(outside))} are not among the weights' classes "
            f"({', '.join(classes)}). Choose other weights with --weights."
        )
    return items, listing.problems


@contextmanager
def whole(path: Path):
    """Open a text file that gets its name when all went well; else nothing of it stays."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file():
            raise OSError(None, "a folder or a device is there, expected a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror}). Choose another file with --out.") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def shown(name) -> str:
    """A file's name on one line, whatever characters it has."""
    return str(name) if str(name).isprintable() else ascii(str(name))


if __name__ == "__main__":
    sys.exit(main())
