"""The bench's recipes are what they say they are, and its pages say what was measured. Nothing is timed here."""

import sys

import librosa
import numpy as np
import pytest
import torch

from benchmarks import pages, profiles, recipes, timing
from helpers.models import build, config_for
from helpers.tasks import TASKS


def row(median: float, aim: float | None, met: bool | None, unit: str = "times as fast") -> dict:
    ratio = {"low": 0.9 * median, "median": median, "high": 1.1 * median}
    measured = {"ratio": ratio, "repeats": 3, "ours_ms_per_clip": 2.0, "theirs_ms_per_clip": 2.0 * median}
    return {
        "name": "front end", "against": "librosa", "unit": unit, "measured": measured, "aim": aim, "met": met,
        "below": False,
    }  # fmt: skip


def test_the_usual_networks_have_their_published_size():
    sizes = [
        sum(parameter.numel() for parameter in model.parameters())
        for model in (recipes.ShortChunk(11), recipes.MfccCNN(6, 8000))
    ]
    assert sizes[0] == pytest.approx(3.67e6, rel=0.01)
    assert sizes[1] == pytest.approx(131e3, rel=0.01)


def test_the_usual_raw_network_is_the_papers():
    task = TASKS["magnatagatune"]
    ours, theirs = build(config_for(task, "RawCNN", 50)), recipes.raw_network(50, task.window_samples)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.parameters(), strict=True)))
    wave = torch.randn(2, task.window_samples, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(theirs(ours.level.gain * wave), ours(wave), rtol=1e-4, atol=1e-5)


def test_the_usual_features_are_75():
    wave = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    assert recipes.features_75(wave, 16000).shape == (75,)


def test_the_mfcc_network_hears_what_librosa_calls_mfccs():
    wave = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    model = recipes.MfccCNN(6, 8000)
    ours = model.cosines @ model.front(torch.from_numpy(wave)[None])[0]
    power = librosa.feature.melspectrogram(
        y=wave, sr=8000, n_fft=1024, hop_length=256, n_mels=64, pad_mode="constant"
    )  # fmt: skip
    expected = librosa.feature.mfcc(S=np.log(power + 1e-6), n_mfcc=20)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-2)


def test_a_ratio_is_their_time_per_clip_over_ours(monkeypatch):
    clock = iter([0.0, 1.0, 1.0, 5.0, 5.0, 6.0, 6.0, 8.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    found = timing.compare(lambda: 10, lambda: 2, repeats=2, warm=False)
    assert found["ratio"] == {"median": 15.0, "low": 10.0, "high": 20.0}  # (2 s, 1 s per clip) over 0.1 s


def test_shares_add_up_to_one_and_the_largest_comes_first():
    assert list(profiles.shares({"a": 1.0, "b": 3.0}).items()) == [("b", 0.75), ("a", 0.25)]


def test_a_watched_process_that_fails_is_an_error_and_memory_is_counted():
    with pytest.raises(timing.subprocess.CalledProcessError):
        timing.watched([sys.executable, "-c", "raise SystemExit(3)"])
    program = "import time; print('x' * 2**20); held = bytearray(200 * 2**20); time.sleep(0.5)"
    assert timing.watched([sys.executable, "-c", program])["anonymous_mib"] > 190


def test_the_page_says_what_was_missed(tmp_path):
    environment = {"cores": 2, "threads": 2, "torch": "2", "gpu": None}
    rows, shares = (
        [row(1.5, 2, False), row(3, 2, True), row(0.5, None, None, "share")],
        {"decode": 0.75, "digest": 0.25},
    )
    pages.write({"rows": rows, "environment": environment, "profiles": {"first pack": shares}}, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "| 1.5 × (1.4 to 1.7) | at least 2 ×: missed | 2, 3 | 3 |" in text
    assert "| 3.0 × (2.7 to 3.3) | at least 2 ×: reached |" in text
    assert "| 50% (45% to 55%) | – |" in text
    assert "| first pack | decode 75%, digest 25% |" in text
    assert (tmp_path / pages.FIGURE).is_file()


def test_memory_that_grows_is_said_with_the_bytes_of_each_recording(tmp_path):
    def size(notes, memory):
        step = {"seconds": 1.0, "anonymous_mib": memory, "resident_mib": 500.0}
        steps = {"pack": step, "open": step, "predict": step, "train": step | {"anonymous_mib": 400.0 + notes / 1e3}}
        return {"notes": notes, "clips": {"train": notes // 2}, "predicted": notes // 2, "steps": steps}

    pages.write({"scale": [size(1000, 100.0), size(2**10 + 1000, 101.0), size(2**11 + 1000, 102.0)]}, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "(aim: within 10%): pack +2%, 1,024 bytes a recording, reached; train +1%, 1,049 bytes" in text
    assert "predict +2%, 2,048 bytes a recording, reached." in text
    pages.write({"scale": [size(1000, 100.0), size(3000, 111.0)]}, tmp_path)
    assert "pack +11%, 5,767 bytes a recording, missed;" in (tmp_path / "README.md").read_text()
