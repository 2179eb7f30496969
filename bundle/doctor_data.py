"""Look at a data set as the readers see it: counts against the published ones, and every recording decoded once."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations, islice
from pathlib import Path

import numpy as np
from scipy.signal import medfilt, welch
from tqdm import tqdm

from bundle.published import COUNTS, Counts
from helpers import data
from helpers.audio import BadAudio
from helpers.data.listing import Item, Listing, check_groups
from helpers.data.pack import CHUNK, FULL_SCALE, digest_rows, read_item
from helpers.tasks import Task

CLIPPED = 0.001  # share of samples at full scale from which on a recording counts as clipped
NOISE_DB = 6.0  # noise of any colour stays below 4, the 125 real and 330 rendered notes tried are above 8
AGAIN = "Get them again (published archives: python -m bundle download), or take them out of the data."
# What is said of each kind of finding, in this order: state, words, mend
KINDS = {
    "missing": ("problem", "listed, but not there", AGAIN),
    "empty": ("problem", "empty", AGAIN),
    "unreadable": ("problem", "cannot be decoded", AGAIN),
    "silent": ("problem", "silent", "They are left out of every run; take them out of the data."),
    "mislabelled": ("problem", "label outside the classes, or contradicted", "Correct the label or the name."),
    "unlisted": ("problem", "not used by the reader", "See the reasons; correct the label file or the names."),
    "leak": ("problem", "the same samples in two splits", "Keep one; every run takes it out of the earlier split."),
    "two labels": ("problem", "the same samples under different labels", "Listen, and keep the right one."),
    "known": ("warning", "at fault as published", "Give figures with and without those that hold sound."),
    "noise": ("warning", "noise all through, where a note should be", "Listen; give figures with and without them."),
    "repeated": ("warning", "the same samples twice in one split", "Keep one, or say so beside the figures."),
    "other rate": ("warning", "at another sampling rate", "Nothing to do: resampled when packed. Is it intended?"),
    "short": ("warning", "shorter than a clip", "Nothing to do: padded with silence when packed. Is it intended?"),
    "long": ("warning", "longer than a clip", "Nothing to do: cut at the end when packed. Is it intended?"),
    "clipped": ("warning", f"clipped (over {CLIPPED:.1%} of the samples at full scale)", "Record at a lower level."),
}


@dataclass(frozen=True)
class Check:
    """One thing looked at: `state` is "ok", "warning" or "problem"; `clips` names the recordings concerned."""

    name: str
    state: str
    found: str
    mend: str = ""
    clips: tuple[str, ...] = ()


def examine(task: Task, folder: str | Path) -> list[Check]:
    """Everything that can be said about a folder of data. No bad file stops it; one chunk of audio is held at a time.

    Parameters
    ----------
    task : Task
    folder : str or Path
        In any layout that `helpers.data.read` knows.

    Returns
    -------
    list of Check
    """
    try:
        listing = data.read(task, folder)
    except (OSError, ValueError) as error:
        return [Check("layout", "problem", str(error))]
    published = COUNTS.get(listing.layout, Counts({}))
    homes = {
        id(item): _home(item.name, split, published, Path(folder))
        for split, items in listing.splits.items()
        for item in items
    }
    checks = [Check("layout", "ok", "; ".join([listing.layout, *listing.notes]))]
    checks += _counts(listing, published, homes)
    checks.append(_groups(listing))
    found: dict[str, list[str]] = defaultdict(list)
    for problem in listing.problems:
        label = "label" in problem.reason
        kind = "mislabelled" if label else "missing" if problem.reason.endswith("missing") else "unlisted"
        found[kind].append(f"{problem.name}: {problem.reason}")
    _scan(listing, task, published, homes, found)
    for kind, (state, words, mend) in KINDS.items():
        if found[kind]:
            checks.append(Check(kind, state, f"{len(found[kind]):,} {words}", mend, tuple(found[kind])))
    clean = ", ".join(kind for kind in KINDS if not found[kind])
    checks.append(Check("recordings", "ok", f"{len(homes):,} looked at; nothing found under: {clean}"))
    return checks


def prominence_db(wave: np.ndarray, window: int = 2048, around: int = 61) -> float:
    """How far the strongest partial stands out of the spectrum around it, in dB: a note's do, noise has none.

    The mean power spectrum (Welch 1967) is compared with its running median, so the colour of the noise does not count.

    Parameters
    ----------
    wave : ndarray, shape (samples,)
        At least `window` samples.
    window : int
        Samples per spectrum.
    around : int
        Bins of the median, odd.
    """
    level = 10 * np.log10(welch(wave, nperseg=window, noverlap=window // 2)[1][3:] + 1e-14)  # without the mean
    return float((level - medfilt(level, around)).max())


def _home(name: str, split: str, published: Counts, folder: Path) -> str:
    """What a clip's part is called in the published counts; the split where they do not say."""
    for place in (name.split("/")[0], folder.resolve().name):
        if place in published.splits and "/" not in place:
            return place
    return next((key for key in published.splits if split in key.split(" and ")), split)


def _counts(listing: Listing, published: Counts, homes: dict[int, str]) -> Iterator[Check]:
    clips: Counter = Counter()
    labels: dict[str, Counter] = defaultdict(Counter)
    for items in listing.splits.values():
        for item in items:
            home = homes[id(item)]
            clips[home] += 1
            labels[home].update(item.labels)
            labels[""].update(item.labels)
    for home in [*clips, *(key for key in published.splits if key not in clips)]:
        wanted = published.splits.get(home)
        words = f"{clips[home]:,} clips" + (f" of {wanted:,} published" if wanted else "")
        words += f": {_balance(labels[home])}" if labels[home] else ""
        if wanted not in (None, clips[home]):
            yield Check(home, "warning", words, "Not all that was published: figures differ from others'.")
        else:
            yield Check(home, "ok", words)
    whole = all(clips[home] == wanted for home, wanted in published.splits.items())
    for home, wanted in published.classes.items() if whole else ():
        wrong = [f"{name} {labels[home][name]:,} of {count:,}" for name, count in wanted.items()
                 if labels[home][name] != count]  # fmt: skip
        if wrong:
            yield Check(f"classes {home}".strip(), "problem", ", ".join(wrong), "Fetch the label file again.")
    absent = [name for name in listing.classes if not labels[""][name]] if labels[""] else []
    if absent:
        yield Check("classes", "warning", f"no clip of {', '.join(absent)}", "Train and score without them (CLASSES).")


def _balance(labels: Counter) -> str:
    words = [f"{name} {count:,}" for name, count in sorted(labels.items())]
    if len(words) > 12:
        words = [f"{name} {count:,}" for name, count in labels.most_common()]
        words = [*words[:5], "…", *words[-5:]]
    return ", ".join(words)


def _groups(listing: Listing) -> Check:
    groups = {split: [item.group for item in items] for split, items in listing.splits.items()}
    known = len({group for part in groups.values() for group in part} - {""})
    wrong = []
    for first, second in combinations(groups, 2):
        try:
            check_groups({first: groups[first], second: groups[second]}, listing.may_share)
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        return Check("groups", "problem", " ".join(wrong))
    return Check("groups", "ok", f"{known:,} groups, each in one split" if known else "not known for these data")


def _scan(listing: Listing, task: Task, published: Counts, homes: dict[int, str], found: dict[str, list[str]]) -> None:
    """Decode every recording once, in threads, and add to `found` what is wrong with it."""
    rate = published.rate or task.rate  # at the rate of the files nothing is resampled
    form = replace(task, rate=rate, clip_samples=round(task.clip_samples * rate / task.rate))
    items = ((split, item) for split, part in listing.splits.items() for item in part)
    seen: dict[str, tuple[str, Item]] = {}
    total = sum(map(len, listing.splits.values()))
    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=total, unit="clip", disable=None) as progress:
        while chunk := list(islice(items, CHUNK)):
            looked = pool.map(lambda entry: _look(entry[1], form, published.pitched), chunk)
            for (split, item), (kinds, digest) in zip(chunk, looked, strict=True):
                progress.update()
                short = f"{homes[id(item)]}/{item.name.rsplit('/', 1)[-1]}"
                fault = next((why for name, why in published.faults.items()
                              if item.name.startswith(name) or short.startswith(name)), "")  # fmt: skip
                if fault and (not digest or published.pitched):
                    here = " and ".join(kind.split(": ", 1)[-1] for kind in kinds) or "nothing is found"
                    found["known"].append(f"{item.name}: {fault}; here {here}")
                    kinds = []
                for kind in kinds:
                    kind, _, why = kind.partition(": ")
                    found[kind].append(f"{item.name}: {why}" if why else item.name)
                if digest:
                    where, first = seen.setdefault(digest, (split, item))
                    if first is not item:
                        pair = f"{item.name} ({split}) = {first.name} ({where})"
                        found["leak" if where != split else "repeated"].append(pair)
                        if first.labels != item.labels and not task.multi_label:
                            found["two labels"].append(pair)


def _look(item: Item, form: Task, pitched: bool) -> tuple[list[str], str]:
    """Kinds of finding, each perhaps with ": reason", and the digest of the samples ("" when there are none)."""
    try:
        wave, done = read_item(item, form)
    except BadAudio as error:
        reason = str(error)
        words = {"file is missing": "missing", "empty": "empty", "holds no samples": "empty", "silent": "silent"}
        kind = next((kind for word, kind in words.items() if reason.startswith(word)), "unreadable")
        return [f"{kind}: {reason}"], ""
    except Exception as error:  # whatever one file does, the others are looked at
        return [f"unreadable: {type(error).__name__} {error}"], ""
    words = {"resampled": "other rate", "padded": "short", "cut": "long"}
    kinds = [f"{kind}: {part}" for part in done.split(", ") for word, kind in words.items() if part.startswith(word)]
    if np.mean(np.abs(wave) >= FULL_SCALE - 8) > CLIPPED:
        kinds.append("clipped")
    if pitched and prominence_db(wave / FULL_SCALE) < NOISE_DB:
        kinds.append("noise")
    return kinds, digest_rows(wave[None])[0]
