"""Read MagnaTagATune (Law et al. 2009): any number of tags per clip; the group is the album.

The published parts keep albums together, not artists; the reader says how many artists lie in two splits.
"""

from __future__ import annotations

import csv
import pickle
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from helpers.data.listing import Item, Listing, Problem, wrong_layout
from helpers.tasks import TAGS

PARTS = {**dict.fromkeys("0123456789ab", "train"), "c": "valid", **dict.fromkeys("def", "test")}
TOP_TAGS = 50
# What annotators wrote for the same thing; the first word of a row stands for all of it.
SYNONYMS = (
    ("beat", "beats"), ("chant", "chanting"), ("choir", "choral"), ("classical", "clasical", "classic"),
    ("drum", "drums"), ("electro", "electronic", "electronica", "electric"), ("fast", "fast beat", "quick"),
    ("female", "female singer", "female singing", "female vocals", "female vocal", "female voice", "woman",
     "woman singing", "women"),
    ("flute", "flutes"), ("guitar", "guitars"), ("hard", "hard rock"), ("harpsichord", "harpsicord"),
    ("heavy", "heavy metal", "metal"), ("horn", "horns"), ("india", "indian"), ("jazz", "jazzy"),
    ("male", "male singer", "male vocal", "male vocals", "male voice", "man", "man singing", "men"),
    ("no beat", "no drums"), ("no singer", "no singing", "no vocal", "no vocals", "no voice", "no voices",
     "instrumental"), ("opera", "operatic"), ("orchestra", "orchestral"), ("quiet", "silence"), ("singer", "singing"),
    ("space", "spacey"), ("string", "strings"), ("synth", "synthesizer"), ("violin", "violins"),
    ("vocal", "vocals", "voice", "voices"), ("strange", "weird"),
)  # fmt: skip
PANDAS_AND_NUMPY = {  # what a pickled frame of any version may ask for, by module
    "builtins": "slice",
    "numpy": "dtype ndarray",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy.core.numeric": "_frombuffer",
    "numpy._core.numeric": "_frombuffer",
    "pandas": "DataFrame Index RangeIndex StringDtype",
    "pandas.arrays": "StringArray",
    "pandas.core.arrays.string_": "StringArray StringDtype",
    "pandas.core.frame": "DataFrame",
    "pandas.core.indexes.base": "Index _new_Index",
    "pandas.core.indexes.numeric": "Int64Index",
    "pandas.core.indexes.range": "RangeIndex",
    "pandas.core.internals.blocks": "new_block",
    "pandas.core.internals.managers": "BlockManager",
    "pandas._libs.arrays": "__pyx_unpickle_NDArrayBacked",
    "pandas._libs.internals": "_unpickle_block",
}


def read(folder: Path, merge_synonyms: bool = False) -> Listing:
    """List the original layout (`annotations_final.csv`) or the Bristol coursework's (`annotations/*_labels.pkl`).

    Parameters
    ----------
    folder : Path
    merge_synonyms : bool
        Original layout only: join tags that mean the same before the 50 most frequent are chosen. The Bristol
        columns are merged already. Either way the 50 stand in alphabetical order.

    Raises
    ------
    ValueError
        If neither layout is there, or a label file is not what was published.
    """
    if (folder / "annotations_final.csv").is_file():
        listing = _read_original(folder, merge_synonyms)
    elif any((folder / "annotations").glob("*_labels.pkl")):
        listing = _read_bristol(folder)
    else:
        raise wrong_layout(folder, "annotations_final.csv with folders 0 … f, or annotations/train_labels.pkl")
    artists = defaultdict(set)
    for split, items in listing.splits.items():
        for item in items:
            artists[item.group.split("-")[0]].add(split)
    divided = sum(len(splits) > 1 for splits in artists.values())
    if divided:
        listing.notes.append(f"{divided} of {len(artists)} artists lie in two splits; albums do not.")
    return listing


def _album(path: PurePosixPath) -> str:
    return "-".join(path.name.split("-")[:2])


def _read_original(folder: Path, merge_synonyms: bool) -> Listing:
    path = folder / "annotations_final.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file, delimiter="\t") if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a table of text ({error}). Fetch the file again.") from error
    if len(rows) < 2 or len(rows[0]) < 3 or rows[0][0] != "clip_id" or rows[0][-1] != "mp3_path":
        raise ValueError(f"{path}: expected tab-separated columns clip_id, tags …, mp3_path. Fetch the file again.")
    width = len(rows[0])
    damaged = next((number for number, row in enumerate(rows, 1) if len(row) != width), None)
    if damaged:
        raise ValueError(
            f"{path}, line {damaged}: found {len(rows[damaged - 1])} columns, expected {width}. Fetch it again."
        )
    table = np.array([row[1:-1] for row in rows[1:]]) == "1"  # (clips, tags)
    columns: dict[str, np.ndarray] = {}
    first = {word: row[0] for row in SYNONYMS for word in row} if merge_synonyms else {}
    for name, column in zip(rows[0][1:-1], table.T, strict=True):
        name = first.get(name, name)
        columns[name] = columns.get(name, False) | column
    ranked = sorted(columns, key=lambda name: (-columns[name].sum(), name))
    classes = tuple(sorted(ranked[:TOP_TAGS]))
    chosen = np.stack([columns[name] for name in classes], axis=1)
    splits: dict[str, list[Item]] = {"train": [], "valid": [], "test": []}
    problems = []
    for row, tags in zip(rows[1:], chosen, strict=True):
        where = PurePosixPath(row[-1])
        if where.parts[:1] and where.parts[0] in PARTS and ".." not in where.parts:
            labels = tuple(classes[index] for index in np.flatnonzero(tags))
            splits[PARTS[where.parts[0]]].append(Item(str(where), folder / where, labels, _album(where)))
        else:
            problems.append(Problem(row[-1], "mp3_path outside the folders 0 … f"))
    return Listing("MagnaTagATune, original", classes, splits, problems)


def load_labels(path: Path):
    """Open a label file of the Bristol coursework, a pickled pandas frame, without running code from it.

    Returns
    -------
    frame : pandas.DataFrame
        Columns `file_path`, `label` (float64[50]), `part`.

    Raises
    ------
    ValueError
        If the file asks for anything but pandas and numpy constructors, or is damaged.
    """
    from pandas.compat import pickle_compat

    class Restricted(pickle_compat.Unpickler):
        def find_class(self, module: str, name: str):
            if name not in PANDAS_AND_NUMPY.get(module, "").split():
                raise pickle.UnpicklingError(f"it asks for {module}.{name}")
            return super().find_class(module, name)

    try:
        with path.open("rb") as file:
            frame = Restricted(file).load()
        if not {"file_path", "label", "part"} <= set(frame.columns):
            raise ValueError(f"its columns are {list(frame.columns)}")
    except Exception as error:  # a damaged pickle may raise anything; none of it may pass for data
        raise ValueError(
            f"{path}: refused ({error}), expected a pandas frame with file_path, label, part. "
            "Fetch the coursework's label file again."
        ) from error
    return frame


def _read_bristol(folder: Path) -> Listing:
    listing = Listing("MagnaTagATune, Bristol", TAGS, {})
    for stem, split in (("train", "train"), ("val", "test")):
        path = folder / "annotations" / f"{stem}_labels.pkl"
        if not path.is_file():
            continue
        frame = load_labels(path)
        listing.splits.setdefault(split, [])
        for file_path, label, part in zip(frame["file_path"], frame["label"], frame["part"], strict=True):
            where = PurePosixPath(str(file_path))
            try:
                label = np.asarray(label, dtype=float)
            except (TypeError, ValueError):
                label = np.empty(0)
            if label.shape != (len(TAGS),) or ".." in where.parts or where.is_absolute():
                listing.problems.append(Problem(str(file_path), f"label of shape {label.shape} or path outside"))
                continue
            tags = tuple(TAGS[index] for index in np.flatnonzero(label > 0.5))
            item = Item(str(where), folder / "samples" / where, tags, _album(where))
            # The staff give train (0-c) and held-out (d-f); the validation part is c, as in the original split.
            home = "valid" if split == "train" and part == "c" else split
            listing.splits.setdefault(home, []).append(item)
    return listing
