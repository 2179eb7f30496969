"""What a reader finds in a folder: recordings with labels and groups, and whatever is wrong with the rest."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from helpers.audio import SUFFIXES, UNREAD, looks_like_audio

SPLITS = ("train", "valid", "test")
SPLIT_NAMES = {  # what folders of a split are called, in small letters
    "train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
    "development": "valid", "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
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


def by_reason(problems: Iterable[Problem]) -> dict[str, int]:
    """How many recordings were left out, by the reason without its figures; the most frequent first."""
    reasons = Counter(re.split(r" \(|: |[,.] | \d", problem.reason)[0].strip() for problem in problems)
    return dict(reasons.most_common())


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
        return [item for split in sorted(self._chosen()) for item in self.splits[split]]

    def left_over(self) -> dict[str, int]:
        """How many recordings the splits hold that are not scored."""
        return {split: len(items) for split, items in self.splits.items() if split not in self._chosen()}

    def _chosen(self) -> set[str]:
        return {"all", "test"} & set(self.splits) or set(self.splits)


class WrongLayout(ValueError):
    """A folder that no published layout describes."""

    def __init__(self, folder: Path, expected: str):
        found = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
        shown = ", ".join(found[:6]) + (f" and {len(found) - 6} more" if len(found) > 6 else "")
        super().__init__(
            f"{folder}: found {shown or 'an empty folder'}, expected {expected}. "
            "See 'Your own data' in docs/students.md for the layouts that are read."
        )


def is_audio(name: str, folder: str | Path) -> bool:
    """Whether a file is a recording (arrays apart), by its suffix in any case, or by its first bytes without one."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in SUFFIXES[:-1] or suffix in UNREAD or (not suffix and looks_like_audio(Path(folder, name)))


def audio_files(folder: Path, problems: list[Problem]) -> list[Path]:
    """All recordings under `folder`, sorted by path, also such that decoding will refuse with the reason.

    Linked folders are entered once; those that cannot be opened are appended to `problems`.
    """

    def closed(error: OSError) -> None:
        where = Path(error.filename).relative_to(folder).as_posix()
        problems.append(Problem(where, f"a folder that cannot be opened ({error.strerror})"))

    found, entered = [], set()
    for here, folders, names in os.walk(folder, onerror=closed, followlinks=True):
        status = os.stat(here)
        if (key := (status.st_dev, status.st_ino)) in entered:
            folders.clear()
            continue
        entered.add(key)
        found += [Path(here, name) for name in names if is_audio(name, here)]
    return sorted(found)


def split_folders(folder: Path, prefix: str = "") -> dict[str, Path]:
    """Folders of splits in `folder` by split, in their order; usual names in any case are understood (SPLIT_NAMES).

    Raises
    ------
    ValueError
        If two folders are of the same split.
    """
    found: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        name = path.name.lower()
        split = SPLIT_NAMES.get(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if split in found:
            raise ValueError(
                f"{folder}: found {found[split].name}/ and {path.name}/, both of the {split} split, expected one. Join "
                "them, or move one away."
            )
        if split:
            found[split] = path
    return {split: found[split] for split in SPLITS if split in found}


def unused(folder: Path, used: Collection[str]) -> list[str]:
    """Notes on what lies in `folder` beside the entries `used` and holds recordings."""
    notes = []
    for path in sorted(path for path in folder.iterdir() if path.name not in used and not path.name.startswith(".")):
        count = len(audio_files(path, [])) if path.is_dir() else int(is_audio(path.name, folder))
        if count:
            notes.append(f"{path.name}{'/' * path.is_dir()} is not used: {count} recordings outside the layout.")
    return notes


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
