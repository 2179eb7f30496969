"""Inference only: score saved weights on recordings at any path, and write one line per recording.

python predict.py --task nsynth --data /path/to/nsynth-test
"""

import argparse
import csv
import io
import json
import sys
import time
from contextlib import contextmanager
from pathlib import Path

BUNDLE = Path(__file__).resolve().parent
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

    from helpers import data, inference, metrics, weights
    from helpers.data.pack import to_targets
    from helpers.tasks import get_task

    started = time.perf_counter()
    task, one = get_task(options.task), options.data.is_file()
    there = sorted(BUNDLE.glob(f"weights/{task.name}-*/*.json"))  # a hand-in may hold a single model
    default = there[0] if len(there) == 1 else BUNDLE / "weights" / f"{task.name}-demo" / "mel_cnn.json"
    path = options.weights or default
    model, info = weights.load(path.parent, path.stem, task)
    classes = tuple(info["classes"])
    listing = data.read_any(task, options.data, classes)
    items, problems = listing.scored(), listing.problems
    outside = {label for item in items for label in item.labels} - set(classes)
    if outside and not task.multi_label:
        raise ValueError(
            f"{options.data}: labels {', '.join(sorted(outside))} are not among the weights' classes "
            f"({', '.join(classes)}). Choose other weights with --weights."
        )
    done, values, scores = [], [], {}
    with table(options.out or (None if one else Path("predictions.csv"))) as rows:
        rows.writerow(["file", "prediction", *classes, "label"])
        predicted = inference.predict_items(model, items, task, problems)
        for item, row in tqdm(predicted, total=len(items), unit="clip", disable=None):
            done.append(item)
            values.append(row)
            digits = [f"{value:.6f}" for value in row]
            rows.writerow([item.name, classes[row.argmax()], *digits, "; ".join(item.labels)])
        for problem in problems:
            print(f"left out: {shown(problem.name)}: {problem.reason}", file=sys.stderr)
        if not done:
            raise ValueError(f"{options.data}: none of {len(items)} recordings could be read; see the list above.")

    values, labelled = np.array(values), (any if task.multi_label else all)(item.labels for item in done)
    if labelled:
        labels = [[label for label in item.labels if label in classes] for item in done]
        targets = to_targets(labels, classes, task.multi_label)
        scores = metrics.scores(values, targets, [item.group for item in done])
    words = "; ".join(f"{name} {metrics.in_words(score)}" for name, score in scores.items())
    none = f"{'every label is all or nothing' if labelled else 'no labels'}, no scores, n {len(done)}"
    seconds = time.perf_counter() - started
    if one:
        for place in np.argsort(-values[0])[:3]:
            print(f"{classes[place]} {values[0, place]:.2f} {'█' * round(BAR * float(values[0, place]))}")
    else:
        line = f"{path.stem} ({info['data']}) on {shown(options.data)}: {words or none}"
        print(f"{line}; {len(problems)} left out; {seconds:.1f} s")
    if options.json:
        first = [[problem.name, problem.reason] for problem in problems[:LISTED]]
        result = {"task": task.name, "data": str(options.data), "weights": info["sha256"], "n": len(done)}
        unreadable = {"count": len(problems), "first": first}
        print(json.dumps(result | {"metrics": scores, "unreadable": unreadable, "seconds": round(seconds, 3)}))
    return 0


@contextmanager
def table(path: Path | None):
    """A CSV writer for a file that gets its name when all went well, else nothing of it stays; None writes nowhere."""
    from helpers.files import replacing

    if path is None:
        yield csv.writer(io.StringIO())
        return
    try:
        if path.exists() and not path.is_file():
            raise OSError(None, "a folder or a device is there, expected a file")
        options = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}
        with replacing(path) as temporary, temporary.open("w", **options) as file:
            yield csv.writer(file)
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror}). Choose another file with --out.") from error


def shown(name) -> str:
    """A file's name on one line, whatever characters it has."""
    return str(name) if str(name).isprintable() else ascii(str(name))


if __name__ == "__main__":
    sys.exit(main())
