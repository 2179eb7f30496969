"""A clip's score depends on the clip alone; predict.py scores folders of recordings with weights of one's choice."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from sklearn.svm import SVC

from helpers import audio, features, inference, models, weights
from helpers.data.listing import Item
from helpers.data.pack import Pack
from helpers.tasks import TASKS

PREDICT = Path(__file__).resolve().parent.parent / "predict.py"
SHORT = {
    name: replace(task, clip_samples=12_000, window_samples=4_096, mel=(256, 128, 16)) for name, task in TASKS.items()
}
by_task = pytest.mark.parametrize("task", SHORT.values(), ids=lambda task: task.name)


def sound(samples, seed=0):
    """A tone in noise, another for each seed."""
    rng = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * rng.uniform(0.01, 0.2) * np.arange(samples))
    return (0.2 * tone + 0.05 * rng.standard_normal(samples)).astype(np.float32)


def network(task, kind="MelCNN", classes=None):
    return models.build(models.config_for(task, kind, len(classes or task.classes)), seed=3)


def machine(task):
    """An SVM on pooled features that has seen four sounds."""
    rows = features.pooled(np.stack([sound(4_000, seed) for seed in range(6)]), task)
    return SVC().fit(rows, [0, 1, 2, 0, 1, 2])


@by_task
@pytest.mark.parametrize("make", [network, machine])
def test_scores_depend_neither_on_the_batch_nor_on_the_order_nor_on_the_neighbours(task, make):
    if make is machine and task.multi_label:
        task = replace(task, multi_label=False)
    model = make(task)
    waves = [sound(length, seed) for seed, length in enumerate([4_000, 12_000, 900, 12_000, 6_500, 4_000, 31_000])]
    alone = np.concatenate([inference.probabilities(model, [wave], task) for wave in waves])
    assert alone.shape == (7, 3 if make is machine else len(task.classes))
    for batch in (1, 2, 5, 64):
        found = inference.probabilities(model, iter(waves), task, batch)
        np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-5)
    turned = inference.probabilities(model, waves[::-1], task, 3)[::-1]
    np.testing.assert_allclose(turned, alone, rtol=1e-5, atol=1e-5)
    assert np.abs(alone - alone[0])[1:].max(axis=1).min() > 1e-4  # other clips do have other scores


@by_task
def test_a_long_clips_score_is_the_mean_over_its_windows(task):
    model, wave = network(task), sound(3 * task.window_samples)
    windows = inference.probabilities(model, wave.reshape(3, -1), task)
    np.testing.assert_allclose(inference.probabilities(model, [wave], task)[0], windows.mean(axis=0), atol=1e-5)
    assert np.ptp(windows, axis=0).max() > 1e-4
    total = windows.sum(axis=1)
    assert not np.allclose(total, 1) if task.multi_label else np.allclose(total, 1)


@by_task
def test_raw_networks_take_clips_of_any_length_too(task):
    found = inference.probabilities(network(task, "RawCNN"), [sound(10), sound(4_000), sound(50_000)], task)
    assert found.shape == (3, len(task.classes))
    assert np.isfinite(found).all()


def test_prediction_neither_trains_nor_drops_nor_needs_a_gradient():
    task = SHORT["nsynth"]
    model, clip = network(task).train(), [sound(4_000)]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (inference.probabilities(model, clip, task) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_machine_of_two_classes_ranks_by_its_margin():
    task = SHORT["languages"]
    waves = [sound(4_000, seed) for seed in range(8)]
    rows = features.pooled(np.stack(waves), task)
    model = SVC().fit(rows, [0, 1] * 4)
    found = inference.probabilities(model, waves, task)
    assert found.shape == (8, 2)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(found.argmax(axis=1), model.predict(rows))
    np.testing.assert_array_equal(np.argsort(found[:, 1]), np.argsort(model.decision_function(rows)))


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_a_pack_is_predicted_like_its_clips(batch):
    task = SHORT["nsynth"]
    waves = np.rint(np.stack([sound(12_000, seed) for seed in range(5)]) * 20_000).astype(np.int16)
    names = np.array(list("abcde"))
    pack = Pack(waves, np.arange(5), np.zeros(5, int), names, names, names).select(np.array([4, 0, 2]))
    expected = inference.probabilities(network(task), waves[[4, 0, 2]].astype(np.float32) / 32_767, task)
    np.testing.assert_allclose(inference.predict_pack(network(task), pack, task, batch), expected, atol=1e-5)


def write(path, wave, rate):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate)


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_bad_items_are_listed_and_the_rest_predicted(batch, tmp_path):
    task, model = SHORT["nsynth"], network(SHORT["nsynth"])
    lengths = {"a": 4_000, "c": 12_000, "e": 700, "g": 4_000}
    for seed, (name, length) in enumerate(lengths.items()):
        write(tmp_path / f"{name}.wav", sound(length, seed), task.rate)
    (tmp_path / "b.wav").touch()
    (tmp_path / "d.wav").write_text("no audio")
    write(tmp_path / "f.wav", np.zeros(4_000), task.rate)
    items, problems = [Item(name, tmp_path / f"{name}.wav", (), "") for name in "abcdefgh"], []
    found = dict(inference.predict_items(model, iter(items), task, problems, batch))
    assert [item.name for item in found] == list(lengths)
    reasons = {problem.name: problem.reason for problem in problems}
    assert list(reasons) == ["b", "d", "f", "h"]
    for name, words in (("b", "0 bytes"), ("d", "cannot be decoded"), ("f", "silent"), ("h", "missing")):
        assert words in reasons[name]
    waves = [audio.decode(item.path, task.rate)[0] for item in found]
    np.testing.assert_allclose(
        np.stack(list(found.values())), inference.probabilities(model, waves, task), rtol=1e-5, atol=1e-5
    )


# --- predict.py ---


def untrained(folder, task, classes=None):
    """Weights of an untrained network, as --weights wants them."""
    classes = classes or task.classes
    info = {"config": models.config_for(task, "MelCNN", len(classes)), "task": task.name, "classes": classes}
    weights.save(folder, "small", network(task, classes=classes), info | {"data": "toy", "seed": 3})
    return folder / "small.json"


def predict(tmp_path, task, data, *more):
    """Run predict.py from another folder; returns the finished process and the rows of its table."""
    command = [sys.executable, str(PREDICT), "--task", task, "--data", str(data), "--out", "table.csv", *map(str, more)]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    table = elsewhere / "table.csv"
    assert set(elsewhere.iterdir()) <= {table}  # nothing half-written stays
    return done, list(csv.DictReader(table.open(encoding="utf-8"))) if table.is_file() else []


def test_notes_are_scored_by_their_names_and_a_bad_one_is_left_out(tmp_path):
    task, notes = TASKS["nsynth"], tmp_path / "notes"
    names = ["bass_synthetic_001-040-075", "organ_electronic_002-060-100", "synth_lead_synthetic_003-072-025"]
    for seed, name in enumerate(names):
        write(notes / f"{name}.wav", sound(16_000, seed), task.rate)
    (notes / "flute_acoustic_004-060-075.wav").write_bytes(b"RIFF")
    made = untrained(tmp_path / "made", task)
    done, rows = predict(tmp_path, "nsynth", notes, "--weights", made)
    assert done.returncode == 0, done.stderr
    assert "left out: flute_acoustic_004-060-075: cannot be decoded" in done.stderr
    assert done.stderr.count("left out:") == 1
    assert [(row["file"], row["label"]) for row in rows] == list(
        zip(names, ["bass", "organ", "synth_lead"], strict=True)
    )
    expected = inference.probabilities(
        weights.load(made.parent, "small", task)[0],
        [audio.decode(notes / f"{name}.wav", task.rate)[0] for name in names],
        task,
    )
    np.testing.assert_allclose([[float(row[label]) for label in task.classes] for row in rows], expected, atol=1e-5)
    assert [row["prediction"] for row in rows] == [task.classes[place] for place in expected.argmax(axis=1)]
    right = np.mean([row["prediction"] == row["label"] for row in rows])
    assert f"small (toy) on {notes}: top1 {right:.3f} (" in done.stdout
    assert ", n 3, chance 0.091; top3 " in done.stdout
    assert "; 1 left out; " in done.stdout


def test_folders_of_languages_are_scored_by_the_test_split_alone(tmp_path):
    task, speech = TASKS["languages"], tmp_path / "speech"
    for seed, name in enumerate(["train/de/x", "test/en/a__speaker__1", "test/es/a__other__1", "test/es/a__other__2"]):
        write(speech / f"{name}.flac", sound(9_000 + seed, seed), task.rate)
    made = untrained(tmp_path / "made", task, ("es", "en"))
    done, rows = predict(tmp_path, "languages", speech, "--weights", made)
    assert done.returncode == 0, done.stderr
    assert [(Path(row["file"]).parent.as_posix(), row["label"]) for row in rows] == [
        ("test/en", "en"), ("test/es", "es"), ("test/es", "es"),
    ]  # fmt: skip
    assert ", n 3, chance 0.500; 0 left out" in done.stdout


@pytest.mark.parametrize("task", ["nsynth", "magnatagatune"])
def test_plain_audio_is_predicted_without_scores(task, tmp_path):
    for name, rate in (("one.wav", 44_100), ("deeper/two.ogg", 8_000)):
        write(tmp_path / "plain" / name, np.stack([sound(9_000), sound(9_000)], axis=1), rate)
    done, rows = predict(tmp_path, task, tmp_path / "plain", "--weights", untrained(tmp_path / "made", TASKS[task]))
    assert done.returncode == 0, done.stderr
    assert sorted(row["file"] for row in rows) == ["deeper/two.ogg", "one.wav"]
    assert {row["label"] for row in rows} == {""}
    assert "no labels, no scores, n 2; 0 left out" in done.stdout


@pytest.mark.parametrize(
    ("data", "chosen", "words"),
    [
        ("nowhere", "small", "found no folder"),
        ("empty", "small", "found an empty folder, expected audio files"),
        ("bad", "small", "none of 1 recordings could be read"),
        ("bad", "large", "no such weights (there: small)"),
        ("foreign", "small", "labels nl are not among the weights' classes (en, es). Choose other weights"),
    ],
)
def test_what_cannot_be_predicted_is_said_in_words(data, chosen, words, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(PREDICT.parent)
    import predict as program

    made = untrained(tmp_path / "made", TASKS["languages"], ("en", "es"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/x.wav").touch()
    write(tmp_path / "foreign/test/nl/b.flac", sound(8_000), 8_000)
    options = ["--data", tmp_path / data, "--weights", made.with_stem(chosen), "--out", tmp_path / "table.csv"]
    monkeypatch.setattr(sys, "argv", ["predict.py", "--task", "languages", *map(str, options)])
    assert program.main() == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.glob("*.csv"))


def test_a_missing_folder_ends_the_program_with_2(tmp_path):
    done, rows = predict(tmp_path, "nsynth", tmp_path / "none", "--weights", untrained(tmp_path, TASKS["nsynth"]))
    assert done.returncode == 2
    assert "predict.py: DATA: found no folder" in done.stderr
    assert not rows
    assert not done.stdout


def test_help_names_every_option(tmp_path):
    done, _ = predict(tmp_path, "nsynth", "anywhere", "--help")
    assert done.returncode == 0
    assert not [option for option in ("--task", "--data", "--weights", "--out") if option not in done.stdout]


def test_damaged_labels_are_not_taken_for_a_folder_without_labels(tmp_path):
    task, notes = TASKS["nsynth"], tmp_path / "notes"
    write(notes / "audio/bass_acoustic_000-036-075.wav", sound(9_000), task.rate)
    (notes / "examples.json").write_text('{"bass')
    done, rows = predict(tmp_path, "nsynth", notes, "--weights", untrained(tmp_path / "made", task))
    assert (done.returncode, rows) == (2, [])
    assert "not valid JSON" in done.stderr
