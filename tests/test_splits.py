"""Splits keep groups whole, and missing ones are made the same way each time; shown on the layouts of languages."""

from collections import Counter

import numpy as np
import pytest
import soundfile

from helpers import data
from helpers.data.listing import check_groups, hold_out
from helpers.tasks import LANGUAGES, TASKS

TASK = TASKS["languages"]


def speak(folder, *names, seed=None):
    """Write five seconds of noise under each name; other noise for each, unless a seed is given."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(list(name.encode()) if seed is None else seed)
        soundfile.write(folder / name, 0.1 * rng.standard_normal(40_000), 8000)


def write_arrays(folder, split, targets, seed=0):
    rng = np.random.default_rng([seed, *split.encode()])
    folder.mkdir(exist_ok=True)
    inputs = np.tile(rng.uniform(-0.5, 0.5, (len(targets), 40)), 1000)
    np.save(folder / f"inputs_{split}_fp16.npy", inputs.astype(np.float16))
    np.save(folder / f"targets_{split}_int8.npy", np.array(targets, dtype=np.int8))


def draw(seed):
    """Groups of one class each, of very different sizes, a few clips without a group."""
    rng = np.random.default_rng(seed)
    stratum = rng.integers(0, 4, size=15)
    owner = rng.choice(15, size=80, p=rng.dirichlet(np.full(15, 0.7)))
    return [f"g{index}" if rng.random() > 0.1 else "" for index in owner], stratum[owner]


@pytest.mark.parametrize("seed", range(30))
def test_hold_out_divides_no_group_and_takes_a_part_of_every_class(seed):
    groups, strata = draw(seed)
    held = hold_out(groups, strata)
    named = np.array([group or f"clip {index}" for index, group in enumerate(groups)])
    assert not set(named[held]) & set(named[~held])
    for stratum in set(strata.tolist()):
        part = held[strata == stratum]
        if len(set(named[strata == stratum])) == 1:
            assert not part.any(), "a class with a single group stays together"
        else:
            assert part.any(), "nothing of a class is held out"
            assert not part.all(), "nothing of a class is left"


def test_hold_out_takes_a_fifth_of_the_clips_of_every_class():
    groups, strata = [f"g{index // 2}" for index in range(400)], np.arange(400) // 100
    assert [hold_out(groups, strata)[strata == stratum].sum() for stratum in range(4)] == [20, 20, 20, 20]
    assert hold_out(["a"] * 50 + ["b"] * 49, [0] * 99).tolist() == [False] * 50 + [True] * 49, "the smaller of two"


def test_a_group_of_two_classes_is_not_held_out_where_a_class_would_have_nothing_left(monkeypatch):
    """Two people speak class 0, and one of them is the only one who speaks class 1."""
    for seed in range(20):
        monkeypatch.setattr("helpers.data.listing.SPLIT_SEED", seed)
        assert hold_out(["both", "other", "both"], [0, 0, 1]).tolist() == [False, True, False]


def test_groups_may_be_shared_only_by_the_two_splits_named():
    splits = {"train": ["a"], "valid": ["b"], "test": ["b", ""]}
    check_groups(splits, frozenset({"valid", "test"}))
    for may_share in (frozenset({"train", "test"}), frozenset({"test"}), frozenset()):
        with pytest.raises(ValueError, match="1 groups lie both in 'valid' and in 'test'"):
            check_groups(splits, may_share)


def test_a_folder_without_splits_is_split_by_speaker(tmp_path):
    speakers = [f"{language}/src__{language}{index}" for language in ("de", "en") for index in range(10)]
    names = [f"{speaker}__{number}.wav" for speaker in speakers for number in range(2)]
    speak(tmp_path / "mine", *names)
    loaded = data.load(TASK, str(tmp_path / "mine"), tmp_path, "de,en")
    assert [len(set(part.groups)) for part in loaded.splits.values()] == [12, 4, 4]
    for part in loaded.splits.values():
        assert Counter(part.targets.tolist()) == {0: len(part) / 2, 1: len(part) / 2}, "every class is in every split"
    assert sorted(name for part in loaded.splits.values() for name in part.names) == sorted(names)
    assert sum("split was made here" in note for note in loaded.notes) == 2
    again = data.load(TASK, str(tmp_path / "mine"), tmp_path, "de,en")
    assert again.digest == loaded.digest


def test_equal_samples_under_two_names_stay_on_one_side(tmp_path):
    for index in range(10):
        speak(tmp_path / "mine", f"de/{index}.wav", f"de/copy of {index}.wav", seed=index)
    loaded = data.load(TASK, str(tmp_path / "mine"), tmp_path)
    for part in loaded.splits.values():
        assert set(Counter(name[-5] for name in part.names).values()) == {2}
    assert len(loaded.test) == len(loaded.valid) == 4


@pytest.mark.parametrize("given", [["train", "test"], ["train", "valid", "test"]])
def test_only_a_missing_split_is_made_and_those_given_stay(tmp_path, given):
    names = {split: [f"{split}/de/{index}.wav" for index in range(8 if split == "train" else 2)] for split in given}
    speak(tmp_path / "mine", *(name for part in names.values() for name in part))
    loaded = data.load(TASK, str(tmp_path / "mine"), tmp_path)
    assert loaded.test.names.tolist() == names["test"]
    assert [len(loaded.train), len(loaded.valid)] == ([8, 2] if "valid" in given else [6, 2])
    assert [note for note in loaded.notes if "made here" in note] == [
        "The valid split was made here: about 20 % of the clips, whole groups, shuffled with seed 2023."
    ] * ("valid" not in given)


def test_a_speaker_in_two_given_splits_is_refused(tmp_path):
    names = [f"train/de/src__{name}__1.wav" for name in ("zoe", "anna", "eve")]
    speak(tmp_path / "mine", *names, "valid/de/src__bob__1.wav", *(name.replace("train", "test") for name in names[:2]))
    speak(tmp_path / "mine", names[0], names[1], seed=1)  # not the same recordings
    with pytest.raises(ValueError, match=r"2 groups lie both in 'train' and in 'test'.*first: src__anna"):
        data.load(TASK, str(tmp_path / "mine"), tmp_path)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"train": [0] * 9, "test": []}, r"no clip in the test split \(found train 7, test 0, valid 2; 0 recordings"),
        ({"train": [0] * 9}, r"no clip in the test split \(found train 7, valid 2; 0 recordings"),
        ({"train": [0, 0], "test": [9, -1]}, r"2 recordings left out, first: .*label outside the classes: 9"),
        ({"test": [0, 1]}, r"no clip in the train split \(found test 2"),
        ({"train": [], "valid": [0], "test": [0]}, r"no clip in the train split"),
        ({"train": [0], "test": [0]}, r"no clip in the valid split"),
    ],
)
def test_arrays_that_leave_a_split_empty_are_refused(tmp_path, given, words):
    for split, targets in given.items():
        write_arrays(tmp_path / "arrays", split, targets)
    with pytest.raises(ValueError, match=words):
        data.load(TASK, str(tmp_path / "arrays"), tmp_path)


@pytest.mark.parametrize(("wanted", "order"), [("en,es", ("en", "es")), ("es,en", ("es", "en")), ("", LANGUAGES)])
def test_the_classes_asked_for_are_kept_in_the_order_given(tmp_path, wanted, order):
    for split, seed in (("train", 0), ("valid", 1), ("test", 2)):
        write_arrays(tmp_path / "arrays", split, np.arange(12) % 6, seed)
    loaded = data.load(TASK, str(tmp_path / "arrays"), tmp_path, wanted)
    assert loaded.classes == order
    stored = np.load(tmp_path / "arrays/inputs_test_fp16.npy")
    assert len(loaded.test) == 2 * len(order)
    for clip, (name, target) in enumerate(zip(loaded.test.names, loaded.test.targets, strict=True)):
        row = int(name.split("[")[1][:-1])
        assert LANGUAGES[row % 6] == order[target]
        np.testing.assert_allclose(loaded.test.take([clip])[0], stored[row], atol=1e-4)


@pytest.mark.parametrize("change", ["", "label", "sample", "split", "classes"])
def test_equal_digests_mean_equal_data(tmp_path, change):
    digests = []
    for folder in ("first", "second"):
        other = folder == "second"
        for split in ("train", "valid", "test"):
            labels = [1, 2, 2, 2] if other and change == "label" and split == "train" else [1, 2, 1, 2]
            write_arrays(tmp_path / folder, split, labels, seed=int(other and change == "sample" and split == "test"))
        if other and change == "split":
            for name in ("inputs_{}_fp16.npy", "targets_{}_int8.npy"):
                (tmp_path / folder / name.format("valid")).unlink()
        wanted = "es,en" if other and change == "classes" else "en,es"
        digests.append(data.load(TASK, str(tmp_path / folder), tmp_path, wanted).digest)
    assert (digests[0] == digests[1]) == (change == "")


def test_language_folders_name_the_speaker_or_nobody_and_unknown_ones_are_listed(tmp_path):
    speak(tmp_path, "train/de/src__anna__1.wav", "train/en/deep/er/a_b__c.ogg", "train/it/x.wav", "train/loose.wav")
    listing = data.read(TASK, tmp_path)
    assert listing.classes == LANGUAGES
    assert [(item.name, item.labels, item.group) for item in listing.splits["train"]] == [
        ("train/de/src__anna__1.wav", ("de",), "src__anna"),
        ("train/en/deep/er/a_b__c.ogg", ("en",), ""),
    ]
    assert [(problem.name, problem.reason) for problem in listing.problems] == [
        ("train/it/x.wav", "label outside the classes: it"),
        ("train/loose.wav", "label outside the classes: loose.wav"),
    ]


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("targets", None, "No such file"),
        ("targets", np.zeros(3, np.int8), r"shape \(4, 40000\) with 3 targets"),
        ("targets", np.zeros(4), "targets of type float64"),
        ("targets", b"", ""),
        ("inputs", np.zeros(4, np.float16), r"shape \(4,\) with 4 targets"),
        ("inputs", b"\x93NUMPY cut", ""),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(tmp_path, name, array, words):
    write_arrays(tmp_path, "train", [0, 1, 0, 1])
    (path,) = tmp_path.glob(f"{name}_*")
    path.unlink()
    if array is not None:
        path.write_bytes(array) if isinstance(array, bytes) else np.save(path, array)
    with pytest.raises(ValueError, match=f"inputs_train_fp16.npy: cannot be used with targets.*{words}.*Fetch both"):
        data.read(TASK, tmp_path)


def test_the_real_notes_are_125_without_a_problem(real, tmp_path):
    loaded = data.load(TASKS["nsynth"], str(real / "nsynth"), tmp_path)
    assert (loaded.problems, len(loaded.test), len(loaded.train) + len(loaded.valid)) == ([], 14, 111)
    assert len(set(loaded.train.groups)) + len(set(loaded.valid.groups)) == 100


def test_the_real_speech_is_2636_and_2713_segments_whose_speakers_stay_apart(real):
    listing = data.read(TASK, real / "languages")
    assert {split: len(items) for split, items in listing.splits.items()} == {"train": 2636, "test": 2713}
    assert (listing.problems, {label for item in listing.splits["test"] for label in item.labels}) == (
        [],
        set(LANGUAGES),
    )
    check_groups({split: [item.group for item in items] for split, items in listing.splits.items()})


def test_a_training_clip_that_is_also_tested_is_left_out_and_listed(tmp_path):
    speak(
        tmp_path / "mine",
        *(f"{split}/{name}/{split}.wav" for split in ("train", "valid", "test") for name in ("de", "en")),
    )
    speak(tmp_path / "mine", "train/de/again.wav", "test/de/again.wav", seed=1)
    speak(tmp_path / "mine", "valid/en/twice.wav", "test/en/twice.wav", seed=2)
    loaded = data.load(TASK, str(tmp_path / "mine"), tmp_path)
    assert {name: len(pack) for name, pack in loaded.splits.items()} == {"train": 2, "valid": 2, "test": 4}
    assert sorted((problem.name, problem.reason) for problem in loaded.problems) == [
        ("train/de/again.wav", "the same samples are in the test split"),
        ("valid/en/twice.wav", "the same samples are in the test split"),
    ]
