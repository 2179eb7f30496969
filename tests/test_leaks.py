"""Nothing but the sound of the training clips tells a model a label: the test split, silence and metadata do not."""

import functools
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from helpers import data, experiment, features, inference, metrics, models, probes, svm, training, weights
from helpers.data.pack import Pack, digest_rows
from helpers.tasks import TASKS
from tests.test_notebooks import run_here

ROOT = Path(__file__).resolve().parent.parent
EVERY = sorted(path.relative_to(ROOT).with_suffix("") for path in (ROOT / "weights").glob("*-demo/*.json"))
NAMES = [str(path) for path in EVERY if (ROOT / path).with_suffix(".md").is_file()]  # not the studies of the tuning


def poisoned(pack):
    """The same clips with noise for waves and with labels dealt out anew."""
    rng = np.random.default_rng(7)
    waves = rng.integers(-20_000, 20_000, (len(pack), pack.waves.shape[1])).astype(np.int16)
    digests = np.array(digest_rows(waves))
    return replace(pack, waves=waves, rows=np.arange(len(pack)), targets=rng.permutation(pack.targets), digests=digests)


def few(pack, clips, seed=0):
    return pack.select(np.sort(np.random.default_rng(seed).permutation(len(pack))[:clips]))


# --- the test split takes no part ---


@pytest.fixture
def train(load_toy, tmp_path, monkeypatch):
    """Train on a few toy clips through `experiment`, with the test split as it is and poisoned."""
    fabric = training.Fabric
    monkeypatch.setattr(training, "Fabric", lambda **given: fabric(**{**given, "accelerator": "cpu"}))

    def train(task, kind, options, clips=(16, 8, 8), trials=0, epochs=3):
        """By state of the test split: (description of the weights, saved tensors, what tuning found)."""
        loaded = load_toy(task)
        parts = {name: few(loaded.splits[name], count) for name, count in zip(data.SPLITS, clips, strict=True)}
        parameters = {"MODE": "train", "SEED": 3, "CLASSES": "", "TRIALS": trials}
        settings = training.Settings(epochs=epochs, batch=8, learning_rate=5e-3, seed=3)
        found = []
        for name, test in (("clean", parts["test"]), ("poisoned", poisoned(parts["test"]))):
            dataset, out = replace(loaded, **parts | {"test": test}), tmp_path / name
            run = experiment.Experiment("03", parameters, dataset.task, dataset, tmp_path, out, time.perf_counter())
            config, how, tuned = models.config_for(dataset.task, kind, len(dataset.classes), **options), settings, None
            if trials:
                config, how, tuned = run.tuned("mel_cnn", config, settings)
            _, info = run.train_or_load("probe", config, how)
            found.append((info, torch.load(out / "weights" / run.folder / "probe.pt", weights_only=True), tuned))
        return found

    return train


@pytest.mark.parametrize(
    ("task", "kind", "options"),
    [
        ("magnatagatune", "MelCNN", {"width": 4, "dropout": 0.3}),
        ("languages", "RawCNN", {"length": 512, "stride": 512}),
    ],
)
def test_a_poisoned_test_split_changes_no_weight_and_no_epoch(task, kind, options, train):
    (info, kept, _), (other, same, _) = train(task, kind, options)
    assert kept.keys() == same.keys()
    assert not [name for name in kept if not torch.equal(kept[name], same[name])]
    assert (info["best_epoch"], info["curves"]) == (other["best_epoch"], other["curves"])
    assert info["scores"] != other["scores"]  # the poison did arrive


def test_a_poisoned_test_split_changes_nothing_in_the_tuning_of_a_network(train):
    (info, kept, found), (other, same, again) = train(
        "languages", "MelCNN", {"width": 4}, (102, 30, 48), trials=2, epochs=6
    )  # enough that test clips would give other validation scores
    scores = [[trial["score"] for trial in one["record"]["trials"]] for one in (found, again)]
    assert found["settings"] == again["settings"]
    assert scores[0] == scores[1]
    assert len(scores[0]) == 2
    assert not [name for name in kept if not torch.equal(kept[name], same[name])]
    assert info["scores"] != other["scores"]


def poison_speech(folder):
    """Turn the test clips of the languages layout into noise and give each the name of another language."""
    rng = np.random.default_rng(0)
    test = folder / "test"
    for path in sorted(test.rglob("*.wav")):
        soundfile.write(path, 0.3 * rng.standard_normal(40_000), 8000, subtype="PCM_16")
    languages = sorted(path.name for path in test.iterdir())
    for name in languages:
        (test / name).rename(test / f"{name}.moved")
    for name, following in zip(languages, languages[1:] + languages[:1], strict=True):
        (test / f"{name}.moved").rename(test / following)


@functools.lru_cache(maxsize=4)
def described(task, folder):
    """Training and test clips as pooled features, (clips, features) each, with the loaded data."""
    loaded = data.load(TASKS[task], folder, ROOT)
    table = [
        np.concatenate([features.pooled(pack.take(slice(i, i + 16)), loaded.task) for i in range(0, len(pack), 16)])
        for pack in (loaded.train, loaded.valid, loaded.test)
    ]
    return loaded, table


def test_a_poisoned_test_split_changes_nothing_in_the_svm_of_notebook_02(toy, tmp_path):
    found = {}
    for name in ("clean", "poisoned"):
        folder = tmp_path / name / "speech"
        shutil.copytree(toy / "languages", folder)
        if name == "poisoned":
            poison_speech(folder)
        given = {"TASK": "languages", "DATA": str(folder), "MODE": "train", "TRIALS": 2}
        results = run_here("02_baseline_svm", folder / "o", **given)
        model, info = weights.load(folder / "o/weights/languages-speech", "svm", TASKS["languages"])
        study = json.loads((folder / "o/results/tuning_svm.json").read_text())
        trials = [(trial["settings"], trial["score"]) for trial in study["trials"]]
        found[name] = model, (info["training"], trials), results["metrics"]["top1"]["value"]
    (clean, tuning, score), (other, same_tuning, poisoned_score) = found.values()
    assert tuning == same_tuning
    assert len(tuning[1]) == 2
    for name, array in clean.arrays.items():  # support vectors and the statistics of the standardisation, too
        np.testing.assert_array_equal(array, other.arrays[name])
    assert score > poisoned_score + 0.2  # the poison did arrive


# --- groups ---


def groups_in_two(loaded):
    """Groups that training shares with a later split."""
    later = set(loaded.valid.groups) | set(loaded.test.groups)
    return (set(loaded.train.groups) & later) - {""}


@pytest.mark.parametrize("where", ["toy", "demo"])
@pytest.mark.parametrize("task", TASKS)
def test_training_shares_no_group_and_no_recording(task, where, load_toy):
    loaded = load_toy(task) if where == "toy" else data.load(TASKS[task], "demo", ROOT)
    assert all((pack.groups != "").all() for pack in loaded.splits.values())
    assert not groups_in_two(loaded)
    later = set(loaded.valid.digests) | set(loaded.test.digests)
    assert not set(loaded.train.digests) & later


def test_a_speaker_on_both_sides_stops_the_run(toy, tmp_path):
    shutil.copytree(toy / "languages", tmp_path / "languages")
    known = sorted((tmp_path / "languages/train/de").glob("*.wav"))[0]
    rng = np.random.default_rng(0)
    foreign = tmp_path / "languages/test/de" / known.name.replace("__0", "__9")
    soundfile.write(foreign, 0.1 * rng.standard_normal(40_000), 8000)  # new words of a voice that is trained on
    speaker = known.stem.rsplit("__", 1)[0].replace("+", r"\+")
    with pytest.raises(ValueError, match=rf"1 groups lie both in '.*' and in 'test', expected none \(first: {speaker}"):
        data.load(TASKS["languages"], str(tmp_path / "languages"), tmp_path)


# --- permuted labels ---


@pytest.mark.parametrize("task", ["magnatagatune", "languages"])
def test_an_svm_of_permuted_labels_is_at_chance(task, toy):
    loaded, (known, _, asked) = described(task, str(toy / task))
    truth = loaded.test.targets

    def score(labels):
        model = svm.make(cost=10, gamma=2e-3, clips=len(known)).fit(known, labels)
        values = svm.decisions(model, asked, len(loaded.classes))
        if loaded.task.multi_label:
            return metrics.point_scores(values, truth)["roc_auc"] - 0.5
        balanced = metrics.balanced_scores(values, truth)[0]["balanced_accuracy"]
        return balanced["value"] - balanced["chance"]

    permuted = [score(np.random.default_rng(seed).permutation(loaded.train.targets)) for seed in range(16)]
    error = np.std(permuted, ddof=1) / np.sqrt(len(permuted))
    assert error < 0.03
    assert abs(np.mean(permuted)) < 3 * error  # one run wanders, since clips of a group err together; the mean may not
    assert score(loaded.train.targets) > 0.1  # there is something to learn


# --- silence ---


@pytest.mark.parametrize("name", NAMES)
def test_silence_is_answered_alike_whatever_its_label_and_neighbours(name, toy):
    path = ROOT / name
    task = TASKS[path.parent.name.removesuffix("-demo")]
    model, info = weights.load(path.parent, path.name, task)
    loaded, _ = described(task.name, str(toy / task.name))
    classes = [list(loaded.classes).index(label) for label in info["classes"]]
    heard = few(loaded.test, 12).take(slice(None))  # sorted by label, as the listing is
    silence = np.zeros_like(heard)
    mixed = np.stack([heard, silence], axis=1).reshape(-1, heard.shape[1])
    answers = inference.probabilities(model, mixed, task, batch=5)
    alone = inference.probabilities(model, silence[:1], task)
    np.testing.assert_allclose(answers[1::2], np.repeat(alone, len(silence), axis=0), atol=1e-5)
    assert np.ptp(answers[::2], axis=0).max() > 0.01  # sounds are told apart
    blind, truth = np.round(answers[1::2], 4), few(loaded.test, 12).targets
    if task.multi_label:
        assert metrics.point_scores(blind, truth)["roc_auc"] == 0.5
    else:
        kept = np.isin(truth, classes)
        truth = np.searchsorted(np.sort(classes), truth[kept])
        found = metrics.balanced_scores(blind[kept], truth)[0]["balanced_accuracy"]
        assert found["value"] in (0, pytest.approx(found["chance"]))  # one class, right or absent


# --- metadata ---


def clips(level, labels, names=None, samples=400, seed=0):
    """Noise at `level` (clips,) dB re full scale, each clip a group of its own."""
    rng = np.random.default_rng(seed)
    waves = rng.uniform(-1, 1, (len(labels), samples)) * np.sqrt(3) * 10 ** (np.asarray(level)[:, None] / 20)
    waves = np.rint(waves * 32_767).astype(np.int16)
    names = np.array(names if names is not None else [f"clip {n:03}" for n in rng.permutation(len(labels))])
    return Pack(waves, np.arange(len(labels)), labels, names, np.full(len(labels), ""), names)


def guessed(make, classes=("low", "mid", "top"), tags=False):
    """The probe on two packs from `make(labels, rng)`: which kinds of metadata leak."""
    packs = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.arange(240) % 3)
        pack = make(labels, rng)
        packs.append(replace(pack, targets=np.eye(3, dtype=np.float32)[pack.targets]) if tags else pack)
    return probes.metadata(*packs, classes)


def innocent(labels, rng):
    return clips(rng.uniform(-40, -10, len(labels)), labels, seed=rng.integers(99))


LEAKS = {
    "none": innocent,
    "level": lambda labels, rng: clips(-20 - 6 * labels, labels, seed=rng.integers(99)),
    "order": lambda labels, rng: innocent(np.sort(labels), rng),
    "name": lambda labels, rng: replace(
        innocent(labels, rng), names=np.array([f"take {'x' * (3 + label)}" for label in labels])
    ),
}


@pytest.mark.parametrize("tags", [False, True], ids=["one label", "tags"])
@pytest.mark.parametrize("kind", LEAKS)
def test_the_probe_finds_what_leaks_and_nothing_else(kind, tags):
    found = guessed(LEAKS[kind], tags=tags)
    assert set(found) == {"name", "order", "level"}
    assert [name for name, score in found.items() if score["leaks"]] == [kind] * (kind != "none")
    for name, score in found.items():
        assert score["score"] == ("roc_auc" if tags else "balanced_accuracy")
        assert score["chance"] == pytest.approx(0.5 if tags else 1 / 3)
        assert score["low"] <= score["value"] <= score["high"]
        assert score["n"] == 240
        assert set(score["per_class"]) == {"low", "mid", "top"}
        if name == kind:
            assert score["value"] > 0.95
        else:
            assert abs(score["value"] - score["chance"]) < 0.1


@pytest.mark.parametrize(
    ("name", "classes", "left"),
    [
        ("nsynth-train/synth_lead_synthetic_011-060-075", TASKS["nsynth"].classes, "_synthetic_011-060-075"),
        ("train/de/espeak__de+Alex__0014.wav", TASKS["languages"].classes, "espeak__+Alex__0014"),
        ("test/nl/nathalie__nathalie__0020.ogg", TASKS["languages"].classes, "nathalie__nathalie__0020"),
        ("7/new age-01-bass_drums-0-29.mp3", TASKS["magnatagatune"].classes, "-01-_drums-0-29"),
    ],
)
def test_the_label_is_cut_out_of_a_name_and_nothing_else(name, classes, left):
    assert probes.without_label(name, classes) == left


def test_the_words_of_the_label_in_a_name_do_not_count_as_a_leak():
    named = lambda labels, rng: replace(  # noqa: E731
        innocent(labels, rng), names=np.array([f"x/{('low', 'mid', 'top')[label]}_take" for label in labels])
    )
    assert not guessed(named)["name"]["leaks"]


def test_level_and_peak_are_read_from_the_pack_a_few_clips_at_a_time(monkeypatch):
    pack = clips(np.linspace(-50, -10, 50), np.zeros(50, int))
    asked, whole = [], pack.waves

    class Watched:
        def __getitem__(self, rows):
            asked.append(len(rows))
            return whole[rows]

    found = probes.levels(replace(pack, waves=Watched(), rows=pack.rows[::-1]))
    np.testing.assert_allclose(found[:, 0], np.linspace(-10, -50, 50), atol=0.6)
    peaks = np.abs(whole[::-1].astype(int)).max(axis=1)
    np.testing.assert_allclose(found[:, 1], 20 * np.log10(peaks / 32_767), atol=1e-4)
    assert max(asked) <= probes.CHUNK
    assert sum(asked) == 50


def test_silent_clips_have_a_level():
    pack = clips(np.full(3, -400.0), np.zeros(3, int))
    assert probes.levels(pack).tolist() == [[-180, -180]] * 3


def test_of_many_clips_some_are_drawn(monkeypatch):
    monkeypatch.setattr(probes, "CLIPS", 60)
    found = guessed(LEAKS["order"])
    assert {score["n"] for score in found.values()} == {60}
    assert found["order"]["leaks"]


def test_a_class_that_training_lacks_is_never_guessed_and_tags_without_contrast_have_no_scores():
    labels = np.arange(90) % 3
    train, test = (innocent(labels, np.random.default_rng(seed)) for seed in (1, 2))
    found = probes.metadata(train.select(labels != 1), test, ("low", "mid", "top"))
    assert all(score["per_class"]["mid"] == 0 for score in found.values())
    constant = np.repeat([[1.0, 0.0]], 90, axis=0).astype(np.float32)
    train, test = (replace(pack, targets=constant) for pack in (train, test))
    assert probes.metadata(train, test, ("a", "b")) == {}
