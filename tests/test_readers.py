"""Every published layout is read as it was published, and what does not fit is refused or listed with its reason."""

import json
import os
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import soundfile

from helpers import data
from helpers.data import magnatagatune, nsynth
from helpers.data.frames import read_columns
from helpers.data.listing import Problem, audio_files, by_reason
from helpers.tasks import NSYNTH_FAMILIES, TAGS, TASKS

FLUTE, LEAD = "flute_acoustic_002-060-100", "synth_lead_synthetic_011-072-025"
HEADER = '"clip_id"\t"rock"\t"mp3_path"\n'


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"RIFF")
    return folder


def entries(part):
    touch(part, *(f"audio/{name}.wav" for name in (FLUTE, LEAD)))
    found = {FLUTE: {"instrument_family_str": "flute", "instrument_str": "flute_acoustic_002"}, LEAD: {}}
    (part / "examples.json").write_text(json.dumps(found))


def items(listing):
    return {item.name: (split, item.labels, item.group) for split, part in listing.splits.items() for item in part}


def problems(listing):
    return {problem.name: problem.reason for problem in listing.problems}


@pytest.mark.parametrize("with_entries", [True, False])
def test_nsynth_is_read_with_and_without_its_json(tmp_path, with_entries):
    for split in ("train", "valid", "test"):
        entries(tmp_path / f"nsynth-{split}")
    for path in [] if with_entries else tmp_path.rglob("examples.json"):
        path.unlink()
    listing = data.read(TASKS["nsynth"], tmp_path)
    assert (listing.classes, listing.problems, listing.may_share) == (NSYNTH_FAMILIES, [], {"valid", "test"})
    assert items(listing) == {
        f"nsynth-{split}/{name}": (split, (family,), name[:-8])
        for split in ("train", "valid", "test")
        for name, family in ((FLUTE, "flute"), (LEAD, "synth_lead"))
    }


def test_a_bare_folder_of_notes_is_one_split(tmp_path):
    assert [nsynth.pitch(name) for name in (f"nsynth-test/{LEAD}", "me.wav")] == [72, None]
    listing = nsynth.read(touch(tmp_path, f"{FLUTE}.wav", f"{LEAD}.wav", "harp_acoustic_001-060-100.wav", "me.wav"))
    assert {name: split for name, (split, *_) in items(listing).items()} == {FLUTE: "all", LEAD: "all"}
    reasons = {name: reason.split(": ")[1] for name, reason in problems(listing).items()}
    assert reasons == {"harp_acoustic_001-060-100": "harp", "me": "no family in name or entry"}


def test_notes_in_any_container_and_in_capitals_are_read_and_two_of_a_name_are_not(tmp_path):
    names = (f"{FLUTE}.WAV", f"{LEAD}.flac", f"{LEAD}.mp3", "notes.txt", "older/organ_electronic_001-060-100.wav")
    touch(tmp_path, *(f"nsynth-test/audio/{name}" for name in names), "more/a.wav", f"nsynth-TRAIN/{FLUTE}.m4a")
    touch(tmp_path, f"nsynth-validation/audio/{FLUTE}.ogg")
    listing = nsynth.read(tmp_path)
    assert {name: split for name, (split, *_) in items(listing).items()} == {
        f"nsynth-TRAIN/{FLUTE}": "train",
        f"nsynth-test/{FLUTE}": "test",
        f"nsynth-test/{LEAD}": "test",
        f"nsynth-validation/{FLUTE}": "valid",
    }
    assert problems(listing) == {f"nsynth-test/{LEAD}.mp3": f"{LEAD}.flac is there as well"}
    assert listing.notes == [
        "older/ is not used: 1 recordings outside the layout.",
        "more/ is not used: 1 recordings outside the layout.",
    ]


def test_languages_and_splits_are_known_by_their_usual_names(tmp_path):
    touch(
        tmp_path, "Training/EN/a__b__1.opus", "dev/english/c.aiff", "test/Deutsch/d.ogg", "test/German/e.WAV", "x/f.wav"
    )
    listing = data.read(TASKS["languages"], tmp_path)
    assert items(listing) == {
        "Training/EN/a__b__1.opus": ("train", ("en",), "a__b"),
        "dev/english/c.aiff": ("valid", ("en",), ""),
        "test/German/e.WAV": ("test", ("de",), ""),
    }
    assert problems(listing) == {"test/Deutsch/d.ogg": "label outside the classes: Deutsch"}
    assert listing.notes == ["x/ is not used: 1 recordings outside the layout."]
    (tmp_path / "val").mkdir()
    with pytest.raises(ValueError, match=r"found dev/ and val/, both of the valid split, expected one. Join them"):
        data.read(TASKS["languages"], tmp_path)


def test_every_recording_of_a_folder_is_listed_once(tmp_path):
    touch(tmp_path / "a", "en/one.m4a", "en/two.Wav", "en/no suffix", "en/notes.txt", "en/.hidden.ogg")
    (tmp_path / "b").mkdir()
    touch(tmp_path / "b", "three.oga")
    (tmp_path / "a/en/linked").symlink_to(tmp_path / "b")
    (tmp_path / "a/en/loop").symlink_to(tmp_path / "a/en")
    (tmp_path / "a/en/gone.wav").symlink_to(tmp_path / "nowhere.wav")
    found = audio_files(tmp_path / "a", failed := [])
    names = {path.relative_to(tmp_path / "a/en").as_posix() for path in found}
    assert names == {"one.m4a", "two.Wav", "no suffix", ".hidden.ogg", "linked/three.oga", "gone.wav"}
    assert failed == []


def test_a_folder_that_cannot_be_opened_is_listed(tmp_path, monkeypatch):
    touch(tmp_path, "en/one.wav", "closed/two.wav")

    def scandir(path, real=os.scandir):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root opens every folder
    found = audio_files(tmp_path, failed := [])
    assert [path.name for path in found] == ["one.wav"]
    assert [str(problem) for problem in failed] == ["closed: a folder that cannot be opened (Permission denied)"]


def test_reasons_are_counted_without_their_figures():
    reasons = (
        "cut off: 3 samples of the 8",
        "cut off: 4 samples of the 9",
        "empty file (0 bytes)",
        "silent in its first 4 s",
    )
    counted = by_reason(Problem(str(place), reason) for place, reason in enumerate(reasons))
    assert counted == {"cut off": 2, "empty file": 1, "silent in its first": 1}


def test_the_official_valid_notes_stand_in_for_a_missing_test_split(tmp_path):
    listing = nsynth.read(touch(tmp_path, f"nsynth-train/audio/{LEAD}.wav", f"nsynth-valid/audio/{FLUTE}.wav"))
    assert items(listing)[f"nsynth-valid/{FLUTE}"][0] == "test"
    assert any("nsynth-valid are the test split" in note for note in listing.notes)


@pytest.mark.parametrize(
    ("family", "reason"),
    [("organ", "flute against organ"), ("harp", "flute against harp"), ("", "not listed in examples.json")],
)
def test_a_note_whose_label_is_in_doubt_is_listed(tmp_path, family, reason):
    entries(tmp_path / "nsynth-test")
    found = {LEAD: {}, "organ_electronic_001-060-100": {}}
    found |= {FLUTE: {"instrument_family_str": family}} if family else {}
    (tmp_path / "nsynth-test/examples.json").write_text(json.dumps(found))
    listing = nsynth.read(tmp_path)
    assert list(items(listing)) == [f"nsynth-test/{LEAD}"]
    assert problems(listing)[f"nsynth-test/{FLUTE}"].endswith(reason)
    assert "its recording is missing" in problems(listing)["nsynth-test/organ_electronic_001-060-100"]


@pytest.mark.parametrize("content", [b'{"a": {', b"\xff", b"[1]", b'{"a": 1}', b""])
def test_a_malformed_examples_json_is_refused_with_its_path(tmp_path, content):
    entries(tmp_path / "nsynth-train")
    (tmp_path / "nsynth-train/examples.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"nsynth-train/examples.json: found no JSON of NSynth .*\. Fetch"):
        nsynth.read(tmp_path)


def test_a_test_folder_of_unusable_notes_is_refused_with_the_first_reason(tmp_path):
    touch(tmp_path, "nsynth-test/audio/harp_acoustic_001-060-100.wav", "nsynth-train/audio/x.txt")
    for index in range(3):
        path = tmp_path / f"nsynth-train/audio/flute_acoustic_00{index}-060-100.wav"
        soundfile.write(path, np.sin(np.arange(64_000) * index + 1.0), 16_000)
    with pytest.raises(ValueError, match=r"no clip in the test split \(found .*test 0.*first: .*classes.*: harp"):
        data.load(TASKS["nsynth"], str(tmp_path), tmp_path)


def annotations(folder, tags, rows):
    """Write annotations_final.csv; `rows` are (path, the tags it has)."""
    lines = [["clip_id", *tags, "mp3_path"]]
    lines += [[str(number), *("01"[tag in has] for tag in tags), path] for number, (path, has) in enumerate(rows)]
    text = "\n".join("\t".join(f'"{cell}"' for cell in line) for line in lines)
    (folder / "annotations_final.csv").write_text(text + "\n")


def test_the_fifty_most_frequent_tags_stand_in_alphabetical_order(tmp_path):
    tags = [f"tag {index:02}" for index in range(60, 0, -1)]
    annotations(tmp_path, tags, [("a/a-b-1-2.mp3", tags[:20]), ("b/c-d-1-2.mp3", tags), ("c/e-f-1-2.mp3", tags[:45])])
    listing = data.read(TASKS["magnatagatune"], tmp_path)
    assert listing.classes == (*(f"tag {index:02}" for index in range(1, 6)), *sorted(tags[:45]))
    assert listing.splits["train"][0].labels == tuple(sorted(tags[:20]))
    assert listing.splits["train"][1].labels == listing.classes


def test_parts_0_to_b_train_c_validates_d_to_f_test_and_divided_artists_are_noted(tmp_path):
    rows = [(f"{part}/artist_{part}-album-01-title-0-29.mp3", ["rock"]) for part in "0123456789abcdef"]
    annotations(tmp_path, ["rock"], [*rows, ("g/x-y-1.mp3", ["rock"]), ("a/../../x-y-1.mp3", []), ("/a/x.mp3", [])])
    listing = magnatagatune.read(tmp_path)
    homes = {split: "".join(item.name[0] for item in part) for split, part in listing.splits.items()}
    assert homes == {"train": "0123456789ab", "valid": "c", "test": "def"}
    assert items(listing)["c/artist_c-album-01-title-0-29.mp3"] == ("valid", ("rock",), "artist_c-album")
    assert list(problems(listing)) == ["g/x-y-1.mp3", "a/../../x-y-1.mp3", "/a/x.mp3"]
    assert (set(problems(listing).values()), listing.notes) == ({"mp3_path outside the folders 0 … f"}, [])
    annotations(tmp_path, ["rock"], [("a/ann-one-1.mp3", []), ("d/ann-two-1.mp3", []), ("e/bob-one-1.mp3", ["rock"])])
    assert magnatagatune.read(tmp_path).notes == ["1 of 2 artists lie in two splits; albums do not."]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", r"0 lines below \[\]"),
        ("clip_id\tmp3_path\n1\t0/x.mp3\n", "1 lines below"),
        ("clip_id,rock,mp3_path\n1,0,a/b.mp3\n", "1 lines below .*rock"),
        (HEADER, "0 lines below"),
        (HEADER + "1\t0\ta/b-c-1.mp3\n2\t1\n", "line 3 has 2 columns, not 3"),
        (HEADER + '1\t0\t"a/b-c-1.mp3\n' + "2\t1\ta/b-c-2.mp3\n" * 9000, "field"),  # a quote that never closes
        (HEADER + "1\t0\ta/\udcff.mp3\n", "it is not UTF-8"),
    ],
)
def test_a_damaged_csv_is_refused_with_its_path(tmp_path, content, words):
    (tmp_path / "annotations_final.csv").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=rf"annotations_final\.csv: .*{words}.* mp3_path between tabs\. Fetch"):
        magnatagatune.read(tmp_path)


@pytest.mark.parametrize("merge", [False, True])
def test_tags_that_mean_the_same_are_joined_when_asked(tmp_path, merge):
    tags = ["drums", "sitar", "drum", "woman", "female vocals"]
    annotations(tmp_path, tags, [("a/a-b-1.mp3", ["drums", "sitar"]), ("d/c-d-1.mp3", ["drum", "woman"])])
    listing = magnatagatune.read(tmp_path, merge_synonyms=merge)
    assert listing.classes == (("drum", "female", "sitar") if merge else tuple(sorted(tags)))
    assert listing.splits["train"][0].labels == (("drum", "sitar") if merge else ("drums", "sitar"))
    assert listing.splits["test"][0].labels == (("drum", "female") if merge else ("drum", "woman"))


def bristol(folder, stem, rows):
    """Write a label file with the Bristol columns; `rows` are (path, label, part)."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=["file_path", "label", "part"]).to_pickle(folder / f"annotations/{stem}_labels.pkl")


def one_hot(*tags):
    return np.array([float(tag in tags) for tag in TAGS])


def test_bristol_label_files_and_flat_arrays_are_read(tmp_path):
    folder, rng = tmp_path / "bristol", np.random.default_rng(0)
    train = [(f"train/{part}/ann-{part}-1.npy", one_hot("drum", "sitar"), part) for part in "0bc"]
    bristol(folder, "train", train)
    val = [("val/d/bob-x-1.npy", one_hot("ambient", "vocal"), "d"), ("val/e/eve-x-1.npy", one_hot(), "e")]
    bristol(folder, "val", val)
    names = [row[0] for row in train + val]
    waves = rng.uniform(-0.9, 0.9, (5, 349_500)).astype(np.float32)
    touch(folder / "samples", *names)
    for name, wave in zip(names, waves, strict=True):
        np.save(folder / "samples" / name, wave)
    loaded = data.load(TASKS["magnatagatune"], str(folder), tmp_path)
    assert (loaded.classes, loaded.problems) == (TAGS, [])
    assert [part.names.tolist() for part in loaded.splits.values()] == [names[:2], names[2:3], names[3:]]
    assert loaded.test.groups.tolist() == ["bob-x", "eve-x"]
    np.testing.assert_array_equal(loaded.test.targets, [one_hot("ambient", "vocal"), one_hot()])
    np.testing.assert_allclose(loaded.valid.take([0])[0], waves[2], atol=1 / 32767)


def test_bristol_files_outside_and_odd_labels_are_listed(tmp_path):
    odd = [("../up.npy", one_hot(), "d"), ("/abs.npy", one_hot(), "d"), ("a/two.npy", np.zeros(2), "d")]
    odd += [("a/none.npy", None, "d"), ("a/word.npy", "rock", "d")]
    bristol(tmp_path, "val", [*odd, ("d/a-b-1.npy", one_hot("drum"), "d")])
    listing = magnatagatune.read(tmp_path)
    assert list(problems(listing)) == [row[0] for row in odd]
    assert problems(listing)["a/two.npy"] == "its label is not 50 numbers"
    assert items(listing) == {"d/a-b-1.npy": ("test", ("drum",), "a-b")}


def test_the_real_label_file_has_50_tags_for_4392_clips_of_parts_d_to_f(real):
    listing = data.read(TASKS["magnatagatune"], real / "magnatagatune" / "bristol")
    assert (list(listing.splits), len(listing.splits["test"]), listing.problems) == (["test"], 4392, [])
    used = Counter(tag for item in listing.splits["test"] for tag in item.labels)
    assert (real / "magnatagatune/bristol/columns.txt").read_text().split("\n")[:50] == list(TAGS)
    frame = read_columns(real / "magnatagatune/bristol/annotations/val_labels.pkl", magnatagatune.COLUMNS)
    assert Counter(frame["part"]).keys() == set("def")
    assert used == dict(zip(TAGS, np.stack(frame["label"]).sum(axis=0), strict=True))
