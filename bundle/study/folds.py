"""Cross-validation: all clips of a folder dealt anew, so that every one is in the test split of exactly one fold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from helpers import data
from helpers.data.listing import SPLIT_SEED, Listing
from helpers.data.pack import Pack, open_packs
from helpers.tasks import Task


def pooled(task: Task, name: str, root: str | Path = ".") -> tuple[Pack, Listing]:
    """All clips of a folder (or "demo") as one pack, whatever split they were published in; equal samples once."""
    listing = data.read(task, name, root)
    together = replace(listing, splits={"pooled": [item for items in listing.splits.values() for item in items]})
    pack = open_packs(together, task, Path(root) / "cache")[0]["pooled"]
    return pack.select(np.sort(np.unique(pack.digests, return_index=True)[1])), listing


def deal(task: Task, name: str, root: str | Path = ".", count: int = 5, apart: bool = True) -> list[data.Dataset]:
    """The folds of a folder (or "demo"): their test splits are disjoint and hold all clips together.

    With `apart`, a group (instrument, album, speaker) lies in one split; a ValueError where groups are unknown.
    Without, clips are dealt one by one, as is often done, and the same voice may stand on both sides.
    """
    pack, listing = pooled(task, name, root)
    if apart and not all(pack.groups):
        raise ValueError(
            f"{name}: {np.count_nonzero(pack.groups == '')} of {len(pack)} clips have no known group, expected one for "
            "each. Without groups they cannot be kept apart; deal clip by clip."
        )

    def sides(part: Pack, times: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        labels = np.zeros(len(part)) if task.multi_label else part.targets
        dealer = (StratifiedGroupKFold if apart else StratifiedKFold)(times, shuffle=True, random_state=SPLIT_SEED)
        return dealer.split(labels, labels, part.groups if apart else None)

    found = []
    for rest, test in sides(pack, count):
        left = pack.select(rest)
        train, valid = next(sides(left, 2 * count))  # half as many: voices are what training lacks
        splits = {"train": left.select(train), "valid": left.select(valid), "test": pack.select(test)}
        digest, about = data.digest_of(listing.classes, splits), (task, data.name_of(name), listing.classes)
        notes = [f"Fold {len(found) + 1} of {count}, {'groups' if apart else 'clips'} dealt with seed {SPLIT_SEED}."]
        found.append(data.Dataset(*about, *splits.values(), listing.problems, notes, digest))
    return found
