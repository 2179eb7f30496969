"""Load a task's data: the rendered demo, or any published layout in a folder, as packs of train, valid and test."""

from __future__ import annotations

import hashlib
import importlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from helpers.data.listing import SPLITS, Item, Listing, Problem, WrongLayout, audio_files, check_groups, hold_out
from helpers.data.pack import Pack, open_packs
from helpers.files import remove_leftovers
from helpers.tasks import Task, subset


@dataclass(frozen=True)
class Dataset:
    """A task's data, split."""

    task: Task
    name: str  # "demo", or the folder's name: the second half of `weights/<task>-<data>`
    classes: tuple[str, ...]  # in logit order
    train: Pack
    valid: Pack
    test: Pack
    problems: list[Problem]  # recordings left out, each with its reason
    notes: list[str]  # what a reader of the results should know
    digest: str  # of classes, split, labels and samples: equal digests mean equal data

    @property
    def splits(self) -> dict[str, Pack]:
        """The three packs by name."""
        return {name: getattr(self, name) for name in SPLITS}

    def summary(self) -> str:
        """Several lines: counts, groups, what was left out and why."""
        name = "rendered demo data" if self.name == "demo" else f"data '{self.name}'"
        lines = [f"{self.task.title}: {name} (digest {self.digest[:12]}), {len(self.classes)} classes"]
        for name, pack in self.splits.items():
            groups = len(set(pack.groups) - {""})
            lines.append(f"  {name:5} {len(pack):6} clips" + (f" of {groups} groups" if groups else ", groups unknown"))
        lines.append(f"  {len(self.problems)} recordings left out" + ":" * bool(self.problems))
        lines += [f"    {problem}" for problem in self.problems[:10]]
        lines += [f"    … and {len(self.problems) - 10} more"] * (len(self.problems) > 10)
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def read(task: Task, data: str | Path, root: str | Path = ".") -> Listing:
    """List a folder in one of the task's published layouts, or "demo", without decoding anything.

    The demo data are rendered under `root`/data/demo when they are not there yet. FileNotFoundError if there is no such
    folder, ValueError if it has none of the layouts.
    """
    if data == "demo":
        import demo  # only here: whoever has data of their own needs no renderer

        remove_leftovers(Path(root) / "data" / "demo")
        data = demo.ensure(task.name, Path(root) / "data" / "demo")
    folder = Path(data).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"DATA: found no folder {str(folder)!r}, expected 'demo' or a folder with the data of task '{task.name}'. "
            "See 'Your own data' in docs/students.md."
        )
    return importlib.import_module(f"helpers.data.{task.name}").read(folder)


def read_any(task: Task, path: Path, classes: tuple[str, ...]) -> Listing:
    """As `read`; also one file, or a folder of audio files without labels, for a model of these classes to predict."""
    if path.is_file():
        return Listing("one file", classes, {"all": [Item(path.name, str(path), (), "")]})
    try:
        return read(task, path)
    except WrongLayout:
        files = audio_files(path, problems := [])
        if not files:
            raise
        found = [Item(file.relative_to(path).as_posix(), str(file), (), "") for file in files]
        return Listing("plain audio files without labels", classes, {"all": found}, problems)


def load(task: Task, data: str = "demo", root: str | Path = ".", classes: str = "") -> Dataset:
    """Load, decode once, split by groups and check.

    `data` is "demo" or a folder; `root` is the bundle, whose cache/ gets the packs; `classes` are names separated by
    commas, "" for all.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder is missing, has another layout, leaves a split empty, or a group lies in two splits.
    """
    listing = read(task, data, root)
    packs, unreadable, changes = open_packs(listing, task, Path(root) / "cache")
    problems = listing.problems + unreadable
    notes = listing.notes + [f"{count} recordings were {change}." for change, count in sorted(changes.items())]
    kept = subset(listing.classes, classes)
    packs = {name: _restrict(pack, listing.classes, kept) for name, pack in packs.items()}
    _complete(packs, task, notes)
    _drop_repeats(packs, problems)
    for name in SPLITS:
        if not len(packs.get(name, ())):
            found = ", ".join(f"{split} {len(pack)}" for split, pack in packs.items())
            raise ValueError(
                f"{data}: no clip in the {name} split (found {found}; {len(problems)} recordings left out, first: "
                f"{problems[0] if problems else 'none'}), expected at least one. Add the split, or give a folder "
                "without splits and one will be made."
            )
    check_groups({name: pack.groups for name, pack in packs.items()}, listing.may_share)
    digest = digest_of(kept, packs)
    return Dataset(task, name_of(data), kept, *(packs[split] for split in SPLITS), problems, notes, digest)


def name_of(data: str) -> str:
    """ "demo", or the folder's name in small letters, digits and hyphens.

    A name that this changes in more than its capitals, or that would be "demo", gets a digest: no two are the same.
    """
    if data == "demo":
        return data
    folder = Path(data).resolve().name
    name = re.sub(r"[^A-Za-z0-9]+", "-", folder).strip("-").lower()
    if name == folder.lower() and name != "demo":
        return name
    digest = hashlib.sha256(folder.encode(errors="surrogateescape")).hexdigest()[:6]
    return "-".join(part for part in (name, digest) if part)


def _restrict(pack: Pack, classes: tuple[str, ...], kept: tuple[str, ...]) -> Pack:
    """The pack with labels counted by `kept`; with one label per clip, only the clips of these classes."""
    if pack.targets.ndim == 2:
        return replace(pack, targets=pack.targets[:, [classes.index(name) for name in kept]])
    targets = np.array([kept.index(name) if name in kept else -1 for name in classes])[pack.targets]
    return replace(pack, targets=targets).select(targets >= 0)


def _complete(packs: dict[str, Pack], task: Task, notes: list[str]) -> None:
    """Make the splits that are missing: test only where no split is given at all, validation out of training."""
    missing = ["valid"] * ("valid" not in packs)
    if "all" in packs:
        packs["train"], missing = packs.pop("all"), ["test", "valid"]
    for name in missing if "train" in packs else ():
        pack = packs["train"]
        # Equal samples under two names stay together even where no group is known
        groups = [group or digest for group, digest in zip(pack.groups, pack.digests, strict=True)]
        mask = hold_out(groups, np.zeros(len(pack), int) if task.multi_label else pack.targets)
        packs["train"], packs[name] = pack.select(~mask), pack.select(mask)
        notes.append(f"The {name} split was made here: about 20 % of the clips, whole groups, shuffled with seed 2023.")


def _drop_repeats(packs: dict[str, Pack], problems: list[Problem]) -> None:
    """Take recordings out of training, and then out of validation, that a later split holds as well."""
    for name, later in (("train", ("valid", "test")), ("valid", ("test",))):
        held = {digest: split for split in later if split in packs for digest in packs[split].digests}
        repeated = np.array([digest in held for digest in packs[name].digests] if name in packs else [], dtype=bool)
        if repeated.any():
            pack = packs[name]
            for clip, digest in zip(pack.names[repeated], pack.digests[repeated], strict=True):
                problems.append(Problem(str(clip), f"the same samples are in the {held[digest]} split"))
            packs[name] = pack.select(~repeated)


def digest_of(classes: tuple[str, ...], packs: dict[str, Pack]) -> str:
    """Digest of the classes and of every clip's split, label, name, group and samples."""
    digest = hashlib.sha256(repr(classes).encode())
    for name in SPLITS:
        pack = packs[name]
        digest.update(f"{name}\n".encode() + np.ascontiguousarray(pack.targets).tobytes())
        for clip in zip(pack.names, pack.groups, pack.digests, strict=True):
            digest.update("\t".join(clip).encode(errors="surrogateescape") + b"\n")
    return digest.hexdigest()
