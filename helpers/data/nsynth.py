"""Read NSynth (Engel et al. 2017): one instrument family per note; the group is the instrument."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from helpers.data.listing import Item, Listing, Problem, WrongLayout, is_audio, split_folders, unused
from helpers.tasks import NSYNTH_FAMILIES

# The family itself may hold an underscore: synth_lead_synthetic_011-060-075
NOTE_NAME = re.compile(
    r"(?P<instrument>(?P<family>[a-z_]+)_(?:acoustic|electronic|synthetic)_\d{3,})-(?P<pitch>\d{3})-(?P<velocity>\d{3})"
)


def read(folder: Path) -> Listing:
    """List `nsynth-{train,valid,test}` under `folder`, or `folder` itself as one split called "all".

    Recordings may have any suffix that is read, in any case. Labels come from `examples.json`, or from the file names
    where there is none. A note whose file name and entry name different families is listed as a problem, as is an entry
    without a recording.

    Raises
    ------
    ValueError
        If no such folder and no note is there, or `examples.json` is not what NSynth publishes.
    """
    present = split_folders(folder, "nsynth-")
    parts = present or {"all": folder}
    listing = Listing("NSynth", NSYNTH_FAMILIES, {}, may_share=frozenset({"valid", "test"}))
    for split, part in parts.items():
        listing.splits[split] = _read_part(part, folder, listing)
    if present:
        listing.notes += unused(folder, {part.name for part in present.values()})
    if not any(listing.splits.values()) and (not present or not listing.problems):
        raise WrongLayout(
            folder, "nsynth-train/, nsynth-valid/, nsynth-test/ with audio/*.wav, or WAVs named like NSynth's notes"
        )
    if "test" not in parts and "valid" in parts:
        # The published valid and test notes are played on the same 53 instruments, so valid can stand in for test.
        listing.splits["test"] = listing.splits.pop("valid")
        listing.notes.append("No nsynth-test: the notes of nsynth-valid are the test split.")
    return listing


def _read_part(part: Path, root: Path, listing: Listing) -> list[Item]:
    audio = part / "audio" if (part / "audio").is_dir() else part
    problems, files = listing.problems, {}
    for file in sorted(name for name in os.listdir(audio) if is_audio(name, audio)):
        name = os.path.splitext(file)[0]
        if name in files:
            problems.append(Problem(f"{part.relative_to(root).as_posix()}/{file}", f"{files[name]} is there as well"))
        files.setdefault(name, file)
    listing.notes += unused(
        audio, set(os.listdir(audio)) - {entry.name for entry in os.scandir(audio) if entry.is_dir()}
    )
    entries = _read_entries(part / "examples.json") if (part / "examples.json").is_file() else None
    items = []
    for name in sorted(files if entries is None else files.keys() | entries.keys()):
        shown = f"{part.relative_to(root).as_posix()}/{name}".removeprefix("./")
        match = NOTE_NAME.fullmatch(name)
        entry = (entries or {}).get(name, {})
        families = {match["family"]} if match else set()
        if "instrument_family_str" in entry:
            families.add(str(entry["instrument_family_str"]))
        if name not in files:
            problems.append(Problem(shown, "listed in examples.json, but its recording is missing"))
        elif entries is not None and name not in entries:
            problems.append(Problem(shown, "not listed in examples.json"))
        elif len(families) != 1 or not families <= set(NSYNTH_FAMILIES):
            reason = " against ".join(sorted(families)) or "no family in name or entry"
            problems.append(Problem(shown, f"label outside the classes or contradictory: {reason}"))
        else:
            instrument = str(entry.get("instrument_str") or (match["instrument"] if match else name))
            items.append(Item(shown, os.path.join(audio, files[name]), tuple(families), instrument))
    return items


def _read_entries(path: Path) -> dict[str, dict]:
    """What examples.json says of each note; only what is read here is held, for the file of all notes is large."""

    def used(entry: dict) -> dict:
        return {key: entry[key] for key in ("instrument_str", "instrument_family_str") if key in entry} or entry

    try:
        entries = json.loads(path.read_bytes(), object_hook=used)
        if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
            raise ValueError("it is not one object per note")
    except ValueError as error:
        raise ValueError(f"{path}: found no JSON of NSynth ({error}). Fetch the file again.") from error
    return entries


def pitch(name: str) -> int | None:
    """MIDI pitch in a note's name, or None for a recording that is not called like a note."""
    match = NOTE_NAME.fullmatch(name.rsplit("/", 1)[-1])
    return int(match["pitch"]) if match else None
