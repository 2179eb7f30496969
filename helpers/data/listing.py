"""What a reader finds in a folder: recordings with labels and groups, and whatever is wrong with the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from helpers.audio import SUFFIXES

SPLITS = ("train", "valid", "test")
SPLIT_SEED = 2023  # published by one of the course briefs for data without a split
HELD_OUT = 0.2  # share of the clips held out when no split is given


@dataclass(frozen=True, slots=True)
class Item:
    """One recording, not decoded yet."""

    name: str  # unique
    file: str  # its path; a `Path` takes three times the memory, and hundreds of thousands are held
    labels: tuple[str, ...]  # empty when unknown
    group: str  # "" when unknown
    row: int | None = None  # of an array file

    @property
    def path(self) -> Path:
        """Its file."""
        return Path(self.file)


@dataclass(frozen=True)
class Problem:
    """A recording that is not used, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        """One line, whatever characters the name has."""
        return f"{self.name if self.name.isprintable() else ascii(self.name)}: {self.reason}"


def unreadable(problems: list[Problem]) -> dict:
    """Problems for a results file: how many, and the first hundred."""
    return {"count": len(problems), "first": [[problem.name, problem.reason] for problem in problems[:100]]}


@dataclass
class Listing:
    """All that a folder holds."""

    layout: str  # which published layout was found, in words
    classes: tuple[str, ...]  # in logit order
    splits: dict[str, list[Item]]  # "train", "valid", "test" as far as the folder gives them; "all" when it gives none
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what a reader of the results should know about these data
    may_share: frozenset[str] = frozenset()  # two splits that hold the same groups because they are published so

    def scored(self) -> list[Item]:
        """The recordings that are not for training: of "all" and "test", or of every split where there is neither."""
        chosen = {"all", "test"} & set(self.splits) or set(self.splits)
        return [item for split in sorted(chosen) for item in self.splits[split]]


class WrongLayout(ValueError):
    """A folder that no published layout describes."""

    def __init__(self, folder: Path, expected: str):
        found = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
        shown = ", ".join(found[:6]) + (f" and {len(found) - 6} more" if len(found) > 6 else "")
        super().__init__(
            f"{folder}: found {shown or 'an empty folder'}, expected {expected}. "
            "See 'Your own data' in README.md for the layouts that are read."
        )


def audio_files(folder: Path) -> list[Path]:
    """All recordings under `folder` that a decoder is known for (arrays apart), sorted by path."""
    # A link that leads nowhere is listed too: decoding says that it is missing
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES[:-1] and not path.is_dir())


def hold_out(groups: Sequence[str], strata: Sequence[int]) -> np.ndarray:
    """Choose which clips to hold out, (clips,) bool, so that no group is divided and all strata are held out in part.

    Of each clip `groups` has the name ("" for a group of its own) and `strata` the class (all zero for several
    labels). In each stratum the groups are shuffled and taken from the end until HELD_OUT of its clips is reached; a
    group that would take more than twice that share is passed over. A stratum of a single group is not divided.
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

    rng = np.random.default_rng(SPLIT_SEED)
    for kind, total in enumerate(sizes.sum(axis=0)):
        candidates = rng.permutation(np.flatnonzero(sizes[:, kind]))[::-1]
        for group in candidates:
            taken = sizes[held, kind].sum()
            if taken < HELD_OUT * total and taken + sizes[group, kind] <= 2 * HELD_OUT * total and may_go(group):
                held[group] = True
        free = [group for group in candidates if may_go(group)]
        if not sizes[held, kind].any() and free:  # only large groups: the smallest of them
            held[min(free, key=lambda group: sizes[group, kind])] = True
    return held[member]


def check_groups(splits: dict[str, Sequence[str]], may_share: frozenset[str] = frozenset()) -> None:
    """Raise a ValueError for a group that lies in two splits."""
    for first, second in combinations(splits, 2):
        common = sorted((set(splits[first]) & set(splits[second])) - {""})
        if common and may_share != {first, second}:
            raise ValueError(
                f"{len(common)} groups lie both in '{first}' and in '{second}', expected none (first: {common[0]}). "
                "A model that has met the instrument, artist or speaker is not tested on new ones: move each group "
                "to one split."
            )
