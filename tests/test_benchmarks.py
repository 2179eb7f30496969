"""The bench's recipes are what they say they are, its rows run, and its page says what was measured."""

import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from benchmarks import pages, recipes, rows, scale, timing
from helpers.models import build, config_for

BENCHMARKS = Path(pages.__file__).parent


def sizes(model):
    return [parameter.numel() for parameter in model.parameters()]


def test_the_usual_networks_have_their_published_size():
    assert sum(sizes(recipes.short_chunk(11))) == pytest.approx(3.67e6, rel=0.01)
    assert sum(sizes(recipes.MfccCNN(6, 8000))) == pytest.approx(131e3, rel=0.01)
    ours, theirs = build(config_for(rows.TAGS, "RawCNN", 50)), recipes.raw_network(50, rows.TAGS.window_samples)
    assert sizes(theirs) == sizes(ours)


def test_the_usual_raw_network_is_the_papers():
    task = rows.TAGS
    ours, theirs = build(config_for(task, "RawCNN", 50)), recipes.raw_network(50, task.window_samples)
    pairs = zip(theirs.state_dict().items(), ours.parameters(), strict=True)
    theirs.load_state_dict({name: value.reshape(own.shape) for (name, own), value in pairs})
    wave = torch.randn(2, task.window_samples, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(theirs(ours.level.gain * wave), ours(wave), rtol=1e-4, atol=1e-5)


def test_the_usual_features_are_what_they_are_called():
    wave = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    assert recipes.features_75(wave, 16000).shape == (75,)
    ours = recipes.MfccCNN(6, 8000).mfcc(torch.from_numpy(wave)[None])[0].numpy()
    power = recipes.mel_power(wave, 8000, 1024, 256, 64)
    np.testing.assert_allclose(ours, librosa.feature.mfcc(S=np.log(power + 1e-6), n_mfcc=20), atol=1e-2)


def test_a_ratio_is_their_time_per_clip_over_ours(monkeypatch):
    clock = iter([0.0, 1.0, 1.0, 5.0, 5.0, 6.0, 6.0, 8.0])
    rests = []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(timing.time, "sleep", rests.append)
    found = timing.compare(lambda: range(10), lambda: range(2), repeats=2)
    assert found == {
        "median": 15.0, "low": 10.0, "high": 20.0, "repeats": 2,  # (2 s, 1 s per clip) over 0.1 s
        "ours_ms_per_clip": 100.0, "theirs_ms_per_clip": 1500.0,
    }  # fmt: skip
    assert rests == [0.3] * 4


def test_a_watched_process_that_fails_is_an_error_and_memory_is_counted():
    with pytest.raises(timing.subprocess.CalledProcessError):
        timing.watched([sys.executable, "-c", "raise SystemExit(3)"])
    program = "import time; print('x' * 2**20); held = bytearray(200 * 2**20); time.sleep(0.5)"
    assert timing.watched([sys.executable, "-c", program])["anonymous_mib"] > 190


def test_every_row_runs_and_is_one_of_the_page(toy, load_toy, tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(timing, "PAUSE", 0)
    monkeypatch.setattr(rows, "compare", lambda ours, theirs, repeats=1: timing.compare(ours, theirs, 1))
    monkeypatch.setattr(rows, "watched", lambda command, **_: commands.append(command) or {"seconds": 1.0})
    paths = sorted((toy / "nsynth" / "nsynth-valid" / "audio").glob("*.wav"))[:2]
    clips, notes = load_toy("magnatagatune"), load_toy("nsynth")
    clips, notes = (replace(loaded, train=loaded.train.select(np.arange(4))) for loaded in (clips, notes))
    found = [
        *rows.starting(paths[0]), rows.decoding(paths), *rows.describing(paths), *rows.predicting(paths, tmp_path),
        *rows.small_networks(), rows.packing(paths, tmp_path), rows.raw_training(clips, tmp_path),
        rows.mel_training(notes),
    ]  # fmt: skip
    committed = json.loads((BENCHMARKS / "results.json").read_text())["rows"]
    for ours, theirs in itertools.zip_longest(found, committed):
        assert ours.keys() == theirs.keys()
        assert [ours[key] for key in ("name", "against", "unit", "aim")] == [
            theirs[key] for key in ("name", "against", "unit", "aim")
        ]
    timing.watched(next(command for command in commands if str(paths[0]) in command), cwd=rows.ROOT)


def test_memory_and_cost_are_measured_for_every_step(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "watched", lambda command, **_: {"seconds": 1.0})
    (found,) = scale.measure(tmp_path, (30,))
    assert found["steps"].keys() == {"pack", "train", "open", "predict"}
    assert found["steps"]["pack"]["clips"] == found["notes"] > found["steps"]["predict"]["clips"] > 0
    compile(scale.PROGRAM, "program", "exec")


def test_the_page_is_what_the_results_say():
    results = json.loads((BENCHMARKS / "results.json").read_text())
    assert (BENCHMARKS / "README.md").read_text() == pages.page(results)
    for row in results["rows"]:
        assert row["low"] <= row["median"] <= row["high"]


def test_an_aim_that_is_missed_and_memory_that_grows_are_said():
    row = {"name": "x", "against": "y", "unit": "×", "aim": 2, "median": 1.5, "low": 1.25, "high": 1.75, "repeats": 3}
    assert pages.cells(row) == ("x", "y", "1.5 × (1.25 to 1.75)", "at least 2 ×: missed", "–", "3")
    assert pages.cells(row | {"aim": 1})[3] == "at least 1 ×: reached"
    assert pages.cells(row | {"unit": "s"})[3] == "at most 2 s: reached"
    assert pages.cells(row | {"aim": 1, "unit": "s"})[3] == "at most 1 s: missed"
    assert pages.cells(row | {"aim": None, "ours_ms_per_clip": 2, "theirs_ms_per_clip": 3})[3:5] == ("–", "2, 3")

    def size(notes, memory):
        return {"notes": notes, "steps": {"pack": {"anonymous_mib": memory, "clips": notes}}}

    assert pages.growth([size(1000, 100.0), size(3048, 102.0)], "pack") == "pack +2%, reached"
    assert pages.growth([size(1000, 100.0), size(3000, 111.0)], "pack") == "pack +11%, missed"
