"""Packs: decoded once, checked when opened, whole or not there; and what `load` says about the recordings."""

import hashlib
import json
import multiprocessing
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from helpers import audio, data
from helpers.data import pack
from helpers.data.listing import Item, Listing, Problem, unreadable
from helpers.tasks import TASKS

TASK = replace(TASKS["languages"], clip_samples=800, window_samples=800)
CLASSES = TASK.classes[:2]


def noise(seed, samples=800, peak=0.5):
    """Noise with this peak, another one for each seed."""
    wave = np.random.default_rng(seed).standard_normal(samples)
    return (peak * wave / np.abs(wave).max()).astype(np.float32)


@pytest.fixture
def listing(tmp_path):
    """Six good recordings in two splits, and one bad one in each."""
    splits = {"train": [], "test": []}
    for index in range(6):
        split = "train" if index < 4 else "test"
        path = tmp_path / "sounds" / f"{index}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, noise(index), TASK.rate)
        splits[split].append(Item(path.name, path, (CLASSES[index % 2],), f"group {index // 2}"))
    for split, items in splits.items():
        items.insert(1, Item(f"no {split}", tmp_path / "sounds" / f"no {split}.wav", (CLASSES[0],), ""))
    return Listing("test", CLASSES, splits)


def content(cache):
    """Digest of each file of the only pack in a cache; nothing else may be there, hidden or not."""
    (folder,) = cache.iterdir()
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def no_decoding(*_):
    raise AssertionError("decoded again")


def test_a_pack_is_what_decode_gives_cut_to_the_clip(listing, tmp_path):
    loud = np.r_[noise(0, peak=1.5), noise(0, peak=3.0)]  # the loudest part comes after the clip's end
    soundfile.write(listing.splits["train"][0].path, loud, TASK.rate, subtype="FLOAT")
    packs, _, _ = pack.open_packs(listing, TASK, tmp_path / "cache")
    assert list(packs) == ["train", "test"]
    for split, items in listing.splits.items():
        items = [item for item in items if not item.name.startswith("no")]
        waves = packs[split].take(slice(None))
        assert (waves.dtype, packs[split].waves.dtype) == (np.float32, np.int16)
        np.testing.assert_array_equal(waves, [audio.decode(item.path, TASK.rate)[0][:800] for item in items])
        assert packs[split].targets.tolist() == [CLASSES.index(item.labels[0]) for item in items]
        assert packs[split].names.tolist() == [item.name for item in items]
        assert packs[split].groups.tolist() == [item.group for item in items]


def test_bad_recordings_are_left_out_and_listed_with_their_reason_once_and_for_all(listing, tmp_path, monkeypatch):
    for _ in range(2):  # written, then opened without decoding
        packs, problems, changes = pack.open_packs(listing, TASK, tmp_path / "cache")
        assert problems == [Problem("no train", "file is missing"), Problem("no test", "file is missing")]
        assert [len(part) for part in packs.values()] == [4, 2]
        assert changes == {}
        monkeypatch.setattr(audio, "decode", no_decoding)


def test_several_labels_become_a_row_of_zeros_and_ones():
    targets = pack.to_targets([("b",), (), ("c", "a")], "abc", multi_label=True)
    assert (targets.tolist(), targets.dtype) == ([[0, 1, 0], [0, 0, 0], [1, 0, 1]], np.float32)


def test_select_keeps_clips_labels_and_names_together(listing, tmp_path):
    whole = pack.open_packs(listing, TASK, tmp_path / "cache")[0]["train"]
    some = whole.select(np.array([3, 1])).select(np.array([False, True]))
    assert (some.names.tolist(), some.targets.tolist()) == (["1.wav"], [1])
    np.testing.assert_array_equal(some.take(slice(None)), whole.take([1]))


@pytest.mark.parametrize("change", ["recording", "label", "group", "split", "length", "classes"])
def test_a_pack_is_not_reused_when_what_it_was_made_from_has_changed(listing, tmp_path, change):
    task, items = TASK, listing.splits["train"]
    pack.open_packs(listing, task, tmp_path / "cache")
    if change == "recording":
        soundfile.write(items[0].path, noise(99, 700), TASK.rate)
    elif change in ("label", "group"):
        items[0] = replace(items[0], **({"labels": (CLASSES[1],)} if change == "label" else {"group": "another"}))
    elif change == "split":
        listing.splits["test"].append(items.pop())
    elif change == "length":
        task = replace(TASK, clip_samples=400)
    else:
        listing.classes = CLASSES[::-1]
    pack.open_packs(listing, task, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def flip(path, place):
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


DAMAGES = {
    "first byte of the samples": lambda folder: flip(folder / "train.i16", 0),
    "last byte of the samples": lambda folder: flip(folder / "test.i16", -1),
    "samples truncated by a byte": lambda folder: os.truncate(folder / "train.i16", 4 * 1600 - 1),
    "samples truncated by a clip": lambda folder: os.truncate(folder / "train.i16", 3 * 1600),
    "samples deleted": lambda folder: (folder / "train.i16").unlink(),
    "index truncated": lambda folder: os.truncate(folder / "train.json", 50),
    "index deleted": lambda folder: (folder / "test.json").unlink(),
    "index of something else": lambda folder: (folder / "test.json").write_text("1\n[1, 2]"),
    "samples longer": lambda folder: (folder / "test.i16").write_bytes((folder / "train.i16").read_bytes()),
    "folder emptied": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_pack_is_written_again_and_equals_the_first(listing, tmp_path, damage):
    pack.open_packs(listing, TASK, tmp_path / "cache")
    first = content(tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    DAMAGES[damage](folder)
    assert content(tmp_path / "cache") != first
    pack.open_packs(listing, TASK, tmp_path / "cache")
    assert content(tmp_path / "cache") == first


def test_a_changed_byte_anywhere_in_the_index_is_noticed(listing, tmp_path):
    pack.open_packs(listing, TASK, tmp_path / "cache")
    first = content(tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    for place in range(0, (folder / "test.json").stat().st_size, 7):
        flip(folder / "test.json", place)
        pack.open_packs(listing, TASK, tmp_path / "cache")
        assert content(tmp_path / "cache") == first, f"byte {place}"


def test_a_pack_too_large_to_check_whole_is_checked_by_a_sample_of_rows(listing, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "CHECKED_BYTES", 2 * 1600)
    pack.open_packs(listing, TASK, tmp_path / "cache")
    seen = []
    monkeypatch.setattr(pack, "digest_rows", lambda rows, real=pack.digest_rows: seen.append(len(rows)) or real(rows))
    monkeypatch.setattr(audio, "decode", no_decoding)
    packs, _, _ = pack.open_packs(listing, TASK, tmp_path / "cache")
    assert len(packs["train"]) == 4
    assert sum(seen) == 2 + 2  # two of the four rows of train, both of test


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["read_item", "digest_rows"])
def test_an_exception_in_the_middle_of_packing_leaves_nothing_behind(listing, tmp_path, monkeypatch, error, where):
    calls, real = [], getattr(pack, where)

    def fail(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise error("in the middle")
        return real(*arguments)

    monkeypatch.setattr(pack, where, fail)
    with pytest.raises(error, match="in the middle"):
        pack.open_packs(listing, TASK, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    monkeypatch.undo()
    assert len(pack.open_packs(listing, TASK, tmp_path / "cache")[0]["test"]) == 2


def open_together(listing, cache, barrier, answers):
    barrier.wait()
    packs, problems, _ = pack.open_packs(listing, TASK, cache)
    answers.put(([part.digests.tolist() for part in packs.values()], len(problems)))


def test_several_packings_at_once_end_well_with_one_pack(listing, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(3), context.SimpleQueue()
    arguments = listing, tmp_path / "cache", barrier, answers
    runs = [context.Process(target=open_together, args=arguments) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0, 0, 0]
    first, second, third = (answers.get() for _ in runs)
    assert first == second == third
    assert len(content(tmp_path / "cache")) == 4


def test_a_pack_that_another_run_finished_meanwhile_is_not_taken_from_under_it(listing, tmp_path, monkeypatch):
    def write(*arguments, real=pack._write):
        real(*arguments)
        monkeypatch.undo()
        pack.open_packs(listing, TASK, tmp_path / "cache")  # the other run
        made.append(next((tmp_path / "cache").glob("[!.]*/train.i16")).stat().st_ino)

    made = []
    monkeypatch.setattr(pack, "_write", write)
    assert len(pack.open_packs(listing, TASK, tmp_path / "cache")[0]["train"]) == 4
    (folder,) = (tmp_path / "cache").iterdir()
    assert made == [(folder / "train.i16").stat().st_ino]


def test_load_counts_and_names_what_was_done_to_recordings(tmp_path):
    clips = {"plain": (5, 8000, 1), "faster": (5, 16_000, 2), "short": (2, 8000, 1), "long": (9, 8000, 1)}
    for place, split in enumerate(("train", "valid", "test")):
        for name, (seconds, rate, channels) in clips.items():
            path = tmp_path / "speech" / split / "en" / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, noise(10 * place + len(name), seconds * rate * channels).reshape(-1, channels), rate)
        path.with_name("late.wav").write_bytes(b"")
        soundfile.write(path.with_name("pause.wav"), np.r_[np.zeros(40_000), noise(0)], 8000)
        shutil.copytree(path.parent, path.parent.with_name("es"))
    loaded = data.load(TASKS["languages"], str(tmp_path / "speech"), tmp_path)
    assert [note for note in loaded.notes if "recordings were" in note] == [
        "6 recordings were cut at the end.",
        "6 recordings were padded with silence.",
        "6 recordings were resampled from 16000 Hz.",
    ]
    assert {problem.reason for problem in loaded.problems} == {"empty file (0 bytes)", "silent in its first 5 s"}
    assert json.loads(json.dumps(unreadable(loaded.problems)))["count"] == len(loaded.problems) == 12
    assert "12 recordings left out:" in loaded.summary()
    assert "train/en/late.wav: empty file" in loaded.summary()
    assert "… and 2 more" in loaded.summary()
    places = {name: place for place, name in enumerate(loaded.train.names)}
    short, long = (loaded.train.take([places[f"train/en/{name}.wav"]])[0] for name in ("short", "long"))
    assert not short[2 * 8000 :].any()
    np.testing.assert_allclose(short[: 2 * 8000], noise(5, 2 * 8000), atol=1e-4)
    np.testing.assert_allclose(long, noise(4, 9 * 8000)[:40_000], atol=1e-4)
