"""What a reader finds in a folder: recordings with labels and groups, and whatever is wrong with the rest."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from helpers.audio import SUFFIXES

SPLIT_SEED = 2023  # published by one of the course briefs for data without a split
HELD_OUT = 0.2  # share of the groups held out when no split is given


@dataclass(frozen=True, slots=True)
class Item:
    """One recording: unique `name`, file, label names (empty when unknown), group, row of an array file."""

    name: str
    file: str | Path
    labels: tuple[str, ...]
    group: str
    row: int | None = None

    def __post_init__(self):
        # Hundreds of thousands are held: as text a path takes a third of the memory, and names that recur are shared
        object.__setattr__(self, "file", os.fspath(self.file))
        object.__setattr__(self, "labels", tuple(map(sys.intern, self.labels)))
        object.__setattr__(self, "group", sys.intern(self.group))

    @property
    def path(self) -> Path:
        """Its file."""
        return Path(self.file)


@dataclass(frozen=True)
class Problem:
    """A recording that is not used, and why."""

    name: str
    reason: str


@dataclass
class Listing:
    """All that a folder holds.

    Attributes
    ----------
    layout : str
        Which published layout was found, in words.
    classes : tuple of str
        Labels in logit order.
    splits : dict of str to list of Item
        Keys "train", "valid", "test" as far as the folder gives them; "all" when it gives none.
    problems : list of Problem
    notes : list of str
        What a reader of the results should know about these data.
    may_share : frozenset of str
        Two split names that may hold the same groups because the published split does so; empty: none may.
    """

    layout: str
    classes: tuple[str, ...]
    splits: dict[str, list[Item]]
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    may_share: frozenset[str] = frozenset()

    def scored(self) -> list[Item]:
        """The recordings that are not for training: of "all" and "test", or of every split where there is neither."""
        chosen = {"all", "test"} & set(self.splits) or set(self.splits)
        return [item for split in sorted(chosen) for item in self.splits[split]]


class WrongLayout(ValueError):
    """A folder that no published layout describes."""


def wrong_layout(folder: Path, expected: str) -> WrongLayout:
    """The error for a folder that no published layout describes."""
    found = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    shown = ", ".join(found[:6]) + (f" and {len(found) - 6} more" if len(found) > 6 else "")
    return WrongLayout(
        f"{folder}: found {shown or 'an empty folder'}, expected {expected}. "
        "See 'Your own data' in README.md for the layouts that are read."
    )


def audio_files(folder: Path) -> list[Path]:
    """All recordings under `folder` that a decoder is known for (arrays apart), sorted by path."""
    # A link that leads nowhere is listed too: decoding says that it is missing
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES[:-1] and not path.is_dir())


def read_plain(folder: Path, classes: tuple[str, ...]) -> Listing:
    """List the recordings of any folder without labels, for inference only."""
    items = [Item(path.relative_to(folder).as_posix(), path, (), "") for path in audio_files(folder)]
    if not items:
        raise wrong_layout(folder, f"audio files ({', '.join(SUFFIXES[:-1])})")
    return Listing("plain audio files without labels", classes, {"all": items})


def hold_out(
    groups: Sequence[str], strata: Sequence[int], share: float = HELD_OUT, seed: int = SPLIT_SEED
) -> np.ndarray:
    """Choose which clips to hold out so that no group is divided and every stratum is held out in part.

    In each stratum the groups are shuffled and taken from the end until `share` of its clips is reached; a group that
    would take more than twice that share is passed over. A stratum of a single group is not divided.

    Parameters
    ----------
    groups : sequence of str, one per clip
        An empty name means that the clip is a group of its own.
    strata : sequence of int, one per clip
        The class for single-label data; all zero otherwise.
    share : float
        Wanted share of the clips, between 0 and 1.
    seed : int
        For the shuffle.

    Returns
    -------
    held : ndarray of bool, shape (clips,)
    """
    names = [group or f"\0{index}" for index, group in enumerate(groups)]
    present, member = np.unique(names, return_inverse=True)
    kinds, stratum = np.unique(strata, return_inverse=True)
    sizes = np.zeros((len(present), len(kinds)), dtype=int)
    np.add.at(sizes, (member, stratum), 1)
    held = np.zeros(len(present), dtype=bool)

    def may_go(group: int) -> bool:
        """Whether every stratum the group is in keeps another group."""
        inside = sizes[:, sizes[group] > 0] > 0
        return not held[group] and bool((inside[~held].sum(axis=0) > 1).all())

    rng = np.random.default_rng(seed)
    for kind, total in enumerate(sizes.sum(axis=0)):
        candidates = rng.permutation(np.flatnonzero(sizes[:, kind]))[::-1]
        for group in candidates:
            taken = sizes[held, kind].sum()
            if taken < share * total and taken + sizes[group, kind] <= 2 * share * total and may_go(group):
                held[group] = True
        free = [group for group in candidates if may_go(group)]
        if not sizes[held, kind].any() and free:  # only large groups: the smallest of them
            held[min(free, key=lambda group: sizes[group, kind])] = True
    return held[member]


def check_groups(splits: dict[str, Sequence[str]], may_share: frozenset[str] = frozenset()) -> None:
    """Refuse a group that lies in two splits.

    Raises
    ------
    ValueError
        Naming the splits, the number of such groups, and the first of them.
    """
    names = list(splits)
    for first, second in ((a, b) for i, a in enumerate(names) for b in names[i + 1 :]):
        common = sorted((set(splits[first]) & set(splits[second])) - {""})
        if common and may_share != {first, second}:
            raise ValueError(
                f"{len(common)} groups lie both in '{first}' and in '{second}', expected none (first: {common[0]}). "
                "A model that has met the instrument, artist or speaker is not tested on new ones: move each group "
                "to one split."
            )
