"""Read MagnaTagATune (Law et al. 2009): any number of tags per clip; the group is the album.

The published parts keep albums together, not artists; the reader says how many artists lie in two splits.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from helpers.data.frames import read_columns
from helpers.data.listing import Item, Listing, Problem, WrongLayout
from helpers.tasks import TAGS

PARTS = {**dict.fromkeys("0123456789ab", "train"), "c": "valid", **dict.fromkeys("def", "test")}
TOP_TAGS = 50
COLUMNS = ("file_path", "label", "part")  # of Bristol's label files
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


def read(folder: Path, merge_synonyms: bool = False) -> Listing:
    """List the original layout (`annotations_final.csv`) or the Bristol coursework's (`annotations/*_labels.pkl`).

    The 50 most frequent tags stand in alphabetical order. In the original layout tags that mean the same are joined
    first when `merge_synonyms` asks for it; in Bristol's they are joined already.

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
        raise WrongLayout(folder, "annotations_final.csv with folders 0 … f, or annotations/train_labels.pkl")
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
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = [row for row in csv.reader(file, delimiter="\t") if row] or [[]]
        if len(header) < 3 or not rows or (header[0], header[-1]) != ("clip_id", "mp3_path"):
            raise ValueError(f"{len(rows)} lines below {str(header)[:100]}")
        if damaged := [number for number, row in enumerate(rows, 2) if len(row) != len(header)]:
            raise ValueError(f"line {damaged[0]} has {len(rows[damaged[0] - 2])} columns, not {len(header)}")
    except (csv.Error, ValueError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise ValueError(
            f"{path}: {reason}; expected a table with the columns clip_id, tags …, mp3_path between tabs. Fetch the "
            "file again."
        ) from error
    names, table = header[1:-1], np.array([row[1:-1] for row in rows]).reshape(len(rows), -1) == "1"  # (clips, tags)
    if merge_synonyms:
        first = {word: row[0] for row in SYNONYMS for word in row}
        joined: dict[str, np.ndarray] = {}
        for name, column in zip(names, table.T, strict=True):
            joined[first.get(name, name)] = joined.get(first.get(name, name), False) | column
        names, table = list(joined), np.stack(list(joined.values()), axis=1)
    order = sorted(range(len(names)), key=lambda column: (-table[:, column].sum(), names[column]))
    order = sorted(order[:TOP_TAGS], key=names.__getitem__)
    classes = tuple(names[column] for column in order)
    splits: dict[str, list[Item]] = {"train": [], "valid": [], "test": []}
    problems = []
    for row, tags in zip(rows, table[:, order], strict=True):
        where = PurePosixPath(row[-1])
        if where.parts[:1] and where.parts[0] in PARTS and ".." not in where.parts:
            labels = tuple(classes[index] for index in np.flatnonzero(tags))
            splits[PARTS[where.parts[0]]].append(Item(str(where), str(folder / where), labels, _album(where)))
        else:
            problems.append(Problem(row[-1], "mp3_path outside the folders 0 … f"))
    return Listing("MagnaTagATune, original", classes, splits, problems)


def _read_bristol(folder: Path) -> Listing:
    listing = Listing("MagnaTagATune, Bristol", TAGS, {})
    for stem, split in (("train", "train"), ("val", "test")):
        path = folder / "annotations" / f"{stem}_labels.pkl"
        if not path.is_file():
            continue
        listing.splits[split] = []
        for file_path, label, part in zip(*read_columns(path, COLUMNS).values(), strict=True):
            where, values = PurePosixPath(str(file_path)), np.asarray(label)
            if ".." in where.parts or where.is_absolute():
                listing.problems.append(Problem(str(file_path), "file_path outside the folder samples"))
                continue
            if values.shape != (len(TAGS),) or values.dtype.kind not in "fiub":
                listing.problems.append(Problem(str(file_path), f"its label is not {len(TAGS)} numbers"))
                continue
            tags = tuple(TAGS[index] for index in np.flatnonzero(values > 0.5))
            item = Item(str(where), str(folder / "samples" / where), tags, _album(where))
            # The staff give train (0-c) and held-out (d-f); the validation part is c, as in the original split.
            home = "valid" if split == "train" and part == "c" else split
            listing.splits.setdefault(home, []).append(item)
    return listing
