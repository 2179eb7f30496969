"""Read speech in six languages: the course's arrays, or folders of recordings; the group is the speaker."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from helpers.data.listing import SPLITS, Item, Listing, Problem, WrongLayout, audio_files, split_folders, unused
from helpers.tasks import LANGUAGES

NAMES = {  # what folders of a language are called, in small letters
    "german": "de", "english": "en", "spanish": "es", "french": "fr", "dutch": "nl", "portuguese": "pt",
} | {language: language for language in LANGUAGES}  # fmt: skip
ARRAYS = "inputs_{split}_fp16.npy", "targets_{split}_int8.npy"


def read(folder: Path) -> Listing:
    """List course arrays (`inputs_train_fp16.npy` …) or `{train,valid,test}/<language>/`, or `<language>/` alone.

    A language is named by its two letters or in English, in any case. A file called `<source>__<speaker>__<n>` names
    its speaker; other files and the rows of arrays are groups of their own.

    Raises
    ------
    ValueError
        If neither layout is there, or the arrays do not belong together.
    """
    if any((folder / ARRAYS[0].format(split=split)).is_file() for split in SPLITS):
        return _read_arrays(folder)
    present = split_folders(folder)
    parts = present or {"all": folder}
    named = [path for part in parts.values() for path in part.iterdir() if path.is_dir()]
    if not any(path.name.lower() in NAMES for path in named):
        raise WrongLayout(folder, f"inputs_train_fp16.npy …, or folders of audio files named {', '.join(LANGUAGES)}")
    listing = Listing("folders named after the language", LANGUAGES, {})
    for split, part in parts.items():
        listing.splits[split] = []
        for path in audio_files(part, listing.problems):
            place, name = path.relative_to(part).parts[0], path.relative_to(folder).as_posix()
            language = NAMES.get(place.lower())
            if language is None:
                listing.problems.append(Problem(name, f"label outside the classes: {place}"))
                continue
            pieces = path.stem.split("__")
            group = "__".join(pieces[:2]) if len(pieces) == 3 else ""
            listing.splits[split].append(Item(name, str(path), (language,), group))
    if present:
        listing.notes += unused(folder, {part.name for part in present.values()})
    return listing


def _read_arrays(folder: Path) -> Listing:
    listing = Listing("course arrays", LANGUAGES, {})
    listing.notes.append("The arrays name no speakers: one voice may be in several splits, and figures may flatter.")
    for split in SPLITS:
        inputs, targets = (folder / name.format(split=split) for name in ARRAYS)
        if not inputs.is_file():
            continue
        try:
            shape, labels = np.load(inputs, mmap_mode="r").shape, np.load(targets).reshape(-1)
            if len(shape) != 2 or shape[0] != len(labels) or labels.dtype.kind not in "iu":
                raise ValueError(f"shape {shape} with {len(labels)} targets of type {labels.dtype}")
        except Exception as error:  # a damaged header may raise anything
            raise ValueError(
                f"{inputs}: cannot be used with {targets.name} ({error}), expected clips × samples, and beside it one "
                "whole number for each clip. Fetch both files again."
            ) from error
        listing.splits[split] = []
        for row, label in enumerate(labels):
            name = f"{inputs.name}[{row}]"
            if 0 <= label < len(LANGUAGES):
                listing.splits[split].append(Item(name, str(inputs), (LANGUAGES[label],), "", row))
            else:
                listing.problems.append(Problem(name, f"label outside the classes: {label}"))
    return listing
