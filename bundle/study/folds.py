"""Cross-validation: all clips of a folder dealt anew, so that every one is in the test split of exactly one fold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

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
    """The folds of a folder, each with its own train, valid and test split.

    Parameters
    ----------
    task : Task
    name : str
        "demo" or a folder.
    root : str or Path
        The bundle; packs go to `root`/cache.
    count : int
        Number of folds.
    apart : bool
        Keep a group (instrument, album, speaker) in one split; False deals clip by clip, as is often done, and lets the
        same voice stand on both sides.

    Returns
    -------
    list of Dataset
        Their test splits are disjoint and hold all clips together. Validation is dealt out of training alike.

    Raises
    ------
    ValueError
        If groups are to be kept apart and are unknown.
    """
    pack, listing = pooled(task, name, root)
    if apart and not all(pack.groups):
        raise ValueError(
            f"{name}: {np.count_nonzero(pack.groups == '')} of {len(pack)} clips have no known group, expected one for "
            "each. Without groups they cannot be kept apart; deal clip by clip."
        )
    found = []
    for rest, test in _splits(pack, count, apart, task):
        left = pack.select(rest)
        train, valid = next(_splits(left, 2 * count, apart, task))  # half as many: voices are what training lacks
        splits = {"train": left.select(train), "valid": left.select(valid), "test": pack.select(test)}
        digest = data.digest_of(listing.classes, splits)
        notes = [f"Fold {len(found) + 1} of {count}, {'groups' if apart else 'clips'} dealt with seed {SPLIT_SEED}."]
        found.append(
            data.Dataset(task, data.name_of(name), listing.classes, *splits.values(), listing.problems, notes, digest)
        )
    return found


def _splits(pack: Pack, count: int, apart: bool, task: Task):
    """Positions of the clips on either side, `count` times."""
    if task.multi_label:
        kind, labels = (GroupKFold if apart else KFold), None
    else:
        kind, labels = (StratifiedGroupKFold if apart else StratifiedKFold), pack.targets
    dealer = kind(count, shuffle=True, random_state=SPLIT_SEED)
    return dealer.split(np.zeros(len(pack)), labels, pack.groups if apart else None)
