"""Balance, mixup, precision and augmentation do what they say; a killed training goes on as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import features, training
from helpers.augment import Augment
from tests.test_training import SETTINGS, TAGGING, TASK, assert_identical, fit, tones

EVERYTHING = Augment(level_db=6, equaliser_db=6, band_limit=0.5, speed=0.1, noise=0.5, mixup=0.3)


@pytest.mark.parametrize("task", [TASK, TAGGING], ids=["one label", "tags"])
def test_an_augmented_run_is_resumed_bit_by_bit(task, tmp_path, monkeypatch):
    settings = replace(SETTINGS, augment=EVERYTHING, balance="classes")
    whole = fit(settings=settings, task=task, mask=0.2)
    evaluate, calls = training.evaluate, []

    def stopping(*given):
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return evaluate(*given)

    monkeypatch.setattr(training, "evaluate", stopping)
    with pytest.raises(KeyboardInterrupt):
        fit(settings=settings, task=task, folder=tmp_path, mask=0.2)
    monkeypatch.setattr(training, "evaluate", evaluate)
    assert_identical(fit(settings=settings, task=task, folder=tmp_path, mask=0.2), whole)


PROGRAM = """
import sys
sys.path[:0] = sys.argv[2:3]
import torch
from pathlib import Path
from dataclasses import replace
from tests.test_training import SETTINGS, fit, tones
torch.set_num_threads(1)
done = fit(settings=replace(SETTINGS, epochs=8), train=tones(400, 0), folder=Path(sys.argv[1]) / "run")
torch.save([done.best, done.last, done.curves], Path(sys.argv[1]) / "done.pt")
"""


def test_a_training_killed_in_the_middle_ends_with_the_same_weights(tmp_path):
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
    root = str(training.Path(__file__).resolve().parent.parent)

    def start(name):
        return subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path / name), root])

    first = start("killed")
    checkpoint = tmp_path / "killed/run/checkpoint.pt"
    while first.poll() is None and not checkpoint.is_file():
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed/done.pt").exists()
    assert start("killed").wait() == 0
    assert start("whole").wait() == 0
    killed, whole = (torch.load(tmp_path / name / "done.pt", weights_only=True) for name in ("killed", "whole"))
    for one, other in zip(killed[:2], whole[:2], strict=True):
        assert all(torch.equal(one[name], other[name]) for name in other)
    assert killed[2] == whole[2]
    assert os.listdir(tmp_path / "killed/run") == ["tensorboard"]


def test_rare_classes_weigh_more_in_the_loss():
    targets = np.array([0] * 6 + [1] * 3 + [3])
    np.testing.assert_allclose(training.class_weights(targets, 5), [10 / 18, 10 / 9, 10 / 3, 10 / 3, 10 / 3])
    tags = np.zeros((100, 4), np.float32)
    tags[:20, 0] = tags[0, 1] = tags[:90, 2] = 1
    np.testing.assert_allclose(training.class_weights(tags, 4), [4, 20, 1, 1])


def test_a_weighted_loss_counts_all_classes_alike():
    targets = torch.tensor([0] * 9 + [1])
    logits = torch.zeros(10, 1, 2)
    logits[9] = torch.tensor([3.0, -3.0])  # the rare clip is quite wrong
    weight = torch.from_numpy(training.class_weights(targets.numpy(), 2))
    plain, weighted = training.loss_of(logits, targets), training.loss_of(logits, targets, weight)
    common, rare = np.log(2), np.log1p(np.exp(6))
    assert float(plain) == pytest.approx(0.9 * common + 0.1 * rare, rel=1e-5)
    assert float(weighted) == pytest.approx(0.5 * common + 0.5 * rare, rel=1e-5)


@pytest.mark.parametrize("balance", ["classes", "groups"])
def test_classes_or_groups_are_drawn_equally_often(balance):
    pack = tones(300, 0)
    uneven = np.array([0] * 240 + [1] * 50 + [2] * 10)
    pack = replace(pack, targets=uneven, groups=np.array([f"speaker {one}" for one in uneven]))
    drawn = uneven[training.draw_order(pack, balance, np.random.default_rng(0))]
    assert len(drawn) == 300
    assert np.bincount(drawn).min() > 70


def test_clips_with_rare_tags_are_drawn_more_often():
    pack = tones(300, 0, TAGGING)
    tags = np.zeros((300, 3), np.float32)
    tags[:200, 0] = tags[200:290, 1] = tags[290:, 2] = 1
    drawn = tags[training.draw_order(replace(pack, targets=tags), "classes", np.random.default_rng(0))]
    assert drawn.sum(axis=0).min() > 70


@pytest.mark.parametrize("balance", ["", "loss"])
def test_without_balanced_sampling_every_clip_comes_once(balance):
    order = training.draw_order(tones(30, 0), balance, np.random.default_rng(0))
    assert sorted(order) == list(range(30))


def test_an_unknown_balance_is_refused():
    with pytest.raises(ValueError, match="balance: found 'class', expected '', 'loss', 'classes' or 'groups'"):
        fit(settings=replace(SETTINGS, balance="class"))


@pytest.mark.parametrize("changed", [{"augment": Augment(mixup=0.3)}, {"balance": "loss"}, {"balance": "groups"}])
def test_every_option_changes_the_training(changed):
    pack = tones(44, 0)
    pack = pack.select(np.flatnonzero(pack.targets < 2)[:-8])  # uneven
    plain, other = fit(train=pack), fit(settings=replace(SETTINGS, **changed), train=pack)
    assert any(not torch.equal(plain.last[name], other.last[name]) for name in plain.last)


def test_mixup_mixes_labels_as_it_mixes_clips(monkeypatch):
    monkeypatch.setattr(training, "mixup", lambda clips, augment, draw: (1e-6, draw.permutation(clips)))
    settings = replace(SETTINGS, epochs=60, augment=Augment(shift_seconds=0))
    curves = fit(settings=settings, train=tones(40, 0), dropout=0.0).curves
    assert curves["epoch_valid_score"][-1] > 0.8  # the clip laid over all others has nearly all of the weight


def test_precision_is_chosen_by_the_device(monkeypatch):
    for able, chosen in (({}, "32-true"), ({"avx512_bf16": True}, "bf16-mixed"), ({"amx_bf16": True}, "bf16-mixed")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert training.best_precision() == chosen


def test_bfloat16_changes_little_and_the_weights_stay_float32():
    fits = [fit(settings=replace(SETTINGS, epochs=20, precision=kind)) for kind in ("32-true", "bf16-mixed")]
    assert [one.precision for one in fits] == ["32-true", "bf16-mixed"]
    assert all(value.dtype != torch.bfloat16 for value in fits[1].last.values())
    losses = [np.array(one.curves["epoch_train_loss"]) for one in fits]
    assert not np.array_equal(*losses)
    np.testing.assert_allclose(losses[1], losses[0], atol=0.15)


def test_mixed_precision_does_not_round_the_waveforms(monkeypatch):
    seen = []

    def forward(front, wave, real=features.MelSpectrogram.forward):
        seen.append(wave.dtype)
        return real(front, wave)

    monkeypatch.setattr(features.MelSpectrogram, "forward", forward)
    fit(settings=replace(SETTINGS, epochs=1, precision="bf16-mixed"))
    assert set(seen) == {torch.float32}
