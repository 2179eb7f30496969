"""Training repeats bit by bit, also after an interruption, and keeps the epoch that validation chose."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import experiment, features, models, training
from helpers.augment import Augment
from helpers.data import Dataset
from helpers.data.pack import Pack, digest_rows
from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
CLASSES = ("low", "middle", "high")
TASK = replace(
    TASKS["nsynth"], classes=CLASSES, rate=8_000, clip_samples=2_048, window_samples=2_048, mel=(256, 128, 16)
)
TAGGING = replace(TASK, multi_label=True, headline="roc_auc", keep_level=True, window_samples=1_024)
SETTINGS = training.Settings(epochs=3, batch=8, learning_rate=5e-3)
NETWORKS = {"MelCNN": {"width": 4, "dropout": 0.3}, "RawCNN": {"length": 64, "stride": 64, "dropout": 0.3}}
both = pytest.mark.parametrize("kind", NETWORKS)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    """Equal bits are promised on a CPU only."""
    fabric = training.Fabric
    monkeypatch.setattr(training, "Fabric", lambda **given: fabric(**{**given, "accelerator": "cpu"}))


def tones(clips, seed, task=TASK, noise=0.3):
    """Tones of three pitches in noise; with tags, tag and pitch go together."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(clips) % 3)
    pitch = np.array([250, 700, 1800])[labels] * rng.uniform(0.9, 1.1, clips)
    seconds = np.arange(task.clip_samples) / task.rate
    waves = 0.3 * np.sin(2 * np.pi * pitch[:, None] * seconds) + noise * rng.standard_normal((clips, task.clip_samples))
    waves = np.rint(np.clip(waves, -1, 1) * 32_767).astype(np.int16)
    names = np.array([f"{seed}-{clip}" for clip in range(clips)])
    targets = np.eye(3, dtype=np.float32)[labels] if task.multi_label else labels.astype(np.int64)
    return Pack(waves, np.arange(clips), targets, names, names, np.array(digest_rows(waves)))


def network(kind="MelCNN", task=TASK, **options):
    return models.build(models.config_for(task, kind, 3, **(NETWORKS[kind] | options)), seed=1)


def fit(kind="MelCNN", settings=SETTINGS, folder=None, task=TASK, train=None, **options):
    train = train or tones(44, 0, task)
    return training.fit(network(kind, task, **options), train, tones(20, 1, task), task, settings, folder)


def assert_identical(first, second):
    for one, other in ((first.best, second.best), (first.last, second.last)):
        assert one.keys() == other.keys()
        assert not [name for name in one if not torch.equal(one[name], other[name])]
    assert first.curves == second.curves
    assert first.best_epoch == second.best_epoch


def interrupt_after(monkeypatch, epochs, **given):
    """Train, and stop while epoch `epochs` + 1 is under way."""
    evaluate, calls = training.evaluate, []

    def stopping(*given):
        calls.append(1)
        if len(calls) > 2 * epochs:
            raise KeyboardInterrupt
        return evaluate(*given)

    with monkeypatch.context() as patch:
        patch.setattr(training, "EVERY", 6)  # evaluated once in each epoch of 6 steps, and at its end
        patch.setattr(training, "evaluate", stopping)
        with pytest.raises(KeyboardInterrupt):
            fit(**given)


@both
@pytest.mark.parametrize("task", [TASK, TAGGING], ids=["one label", "tags"])
def test_the_same_seed_gives_the_same_bits_and_another_does_not(kind, task):
    before = torch.get_rng_state()
    first = fit(kind, task=task)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)  # the caller's random state is left alone, and does not matter
    assert_identical(first, fit(kind, task=task))
    other = fit(kind, replace(SETTINGS, seed=1), task=task)
    assert any(not torch.equal(first.last[name], other.last[name]) for name in first.last)


EVERYTHING = Augment(level_db=6, equaliser_db=6, band_limit=0.5, speed=0.1, noise=0.5, mixup=0.3)
RUNS = {
    "mel": {"kind": "MelCNN"},
    "raw": {"kind": "RawCNN"},
    "all options": {"settings": replace(SETTINGS, augment=EVERYTHING, balance="classes"), "mask": 0.2},
    "tags": {"settings": replace(SETTINGS, augment=EVERYTHING, balance="classes"), "task": TAGGING},
}


@pytest.mark.parametrize(("name", "epochs"), [("mel", 1), ("mel", 2), ("raw", 2), ("all options", 1), ("tags", 1)])
def test_an_interrupted_run_continues_as_if_there_had_been_no_interruption(name, epochs, tmp_path, monkeypatch):
    interrupt_after(monkeypatch, epochs, folder=tmp_path / "run", **RUNS[name])
    monkeypatch.setattr(training, "EVERY", 6)
    began, epoch = [], training.train_epoch
    monkeypatch.setattr(training, "train_epoch", lambda *given: began.append(given[7]) or epoch(*given))
    resumed = fit(folder=tmp_path / "run", **RUNS[name])
    assert began == list(range(epochs, SETTINGS.epochs))  # it did continue
    assert_identical(resumed, fit(**RUNS[name]))
    assert_identical(fit(folder=tmp_path / "run", **RUNS[name]), resumed)  # nothing is lost before it is stored
    assert began == list(range(epochs, SETTINGS.epochs)) + list(range(SETTINGS.epochs))
    training.forget(tmp_path / "run")
    assert os.listdir(tmp_path / "run") == ["tensorboard"]
    assert list((tmp_path / "run/tensorboard").iterdir())


CHANGES = {
    "settings": {"settings": replace(SETTINGS, learning_rate=1e-3)},
    "recordings": {"train": tones(44, 5)},
    "labels": {"train": replace(tones(44, 0), targets=tones(44, 0).targets[::-1].copy())},
    "stride": {"kind": "RawCNN", "stride": 32},
    "dropout": {"dropout": 0.0},
    "logarithm": {"log": False},
    "mask": {"mask": 0.2},
    "augmentation": {"settings": replace(SETTINGS, augment=Augment(noise=0.5))},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_checkpoint_of_another_run_is_not_resumed(change, tmp_path, monkeypatch):
    interrupt_after(monkeypatch, 1, kind=CHANGES[change].get("kind", "MelCNN"), folder=tmp_path)
    assert (tmp_path / "checkpoint.pt").is_file()
    assert_identical(fit(folder=tmp_path, **CHANGES[change]), fit(**CHANGES[change]))


@pytest.mark.parametrize("stored", [b"", b"not a checkpoint", {"epoch": 2}])
def test_a_damaged_checkpoint_is_named_and_passed_over(stored, tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(stored) if isinstance(stored, bytes) else torch.save(stored, path)
    with pytest.warns(UserWarning, match=r"checkpoint.pt: not a checkpoint \(.*\); training starts anew"):
        assert training.read_checkpoint(path, "this run") is None


@both
def test_loss_goes_down_until_a_few_clips_are_known_by_heart(kind):
    curves = fit(
        kind, replace(SETTINGS, epochs=60, augment=Augment(shift_seconds=0.0)), train=tones(12, 0), dropout=0.0
    ).curves
    assert curves["epoch_train_loss"][-1] < 0.2 * curves["epoch_train_loss"][0]
    assert curves["epoch_train_score"][-1] == 1


def best_epoch(curves):
    """The epoch with the best validation score, among equal ones the one of lowest loss."""
    merits = list(zip(curves["epoch_valid_score"], (-loss for loss in curves["epoch_valid_loss"]), strict=True))
    return 1 + merits.index(max(merits))


def test_the_best_epoch_is_the_one_of_best_validation_score():
    model, train, valid = network(dropout=0.0), tones(24, 0), tones(20, 1)
    train = replace(train, targets=np.random.default_rng(0).permutation(train.targets))  # the longer, the worse
    done = training.fit(model, train, valid, TASK, replace(SETTINGS, epochs=8, precision="32-true"))
    losses = done.curves["epoch_valid_loss"]
    assert all(torch.equal(value, done.last[name]) for name, value in model.state_dict().items())
    assert done.best_epoch == best_epoch(done.curves) < 8
    for state, expected in ((done.best, losses[done.best_epoch - 1]), (done.last, losses[-1])):
        model.load_state_dict(state)
        assert training.evaluate(model, valid, TASK)[0] == pytest.approx(expected, rel=1e-5)


def test_every_epoch_has_its_own_order_and_the_learning_rate_rises_and_falls(monkeypatch):
    made, seen, schedule, take = [], [], torch.optim.lr_scheduler.OneCycleLR, Pack.take
    monkeypatch.setattr(
        torch.optim.lr_scheduler, "OneCycleLR", lambda *given: (made.append(schedule(*given)), made[0])[1]
    )
    note = lambda clips: isinstance(clips, np.ndarray) and seen.append((sorted(clips), made[0].get_last_lr()[0]))  # noqa: E731
    monkeypatch.setattr(Pack, "take", lambda pack, clips: (note(clips), take(pack, clips))[1])
    training.fit(network(), tones(12, 0), tones(9, 1), TASK, replace(SETTINGS, epochs=2))
    batches, rates = zip(*seen, strict=True)
    assert sorted(batches[0] + batches[1]) == sorted(batches[2] + batches[3]) == list(range(12))
    assert batches[0] != batches[2]
    assert rates[0] < rates[1] <= SETTINGS.learning_rate
    assert rates[3] < 0.001 * rates[1]


def test_curves_have_a_point_per_epoch_and_per_ten_steps():
    curves = fit(settings=replace(SETTINGS, epochs=4)).curves  # 6 steps per epoch
    assert curves["epoch"] == [1, 2, 3, 4]
    assert curves["step"] == [10, 20]
    lengths = dict.fromkeys(training.EPOCH_CURVES, 4) | dict.fromkeys(training.STEP_CURVES, 2)
    assert {name: len(curve) for name, curve in curves.items()} == lengths


@pytest.mark.parametrize("change", [{"epochs": 0}, {"epochs": -1}, {"batch": 0}, {"learning_rate": 0.0}])
def test_settings_that_are_not_positive_are_refused(change):
    with pytest.raises(ValueError, match=r"EPOCHS, batch, learning rate: expected positive"):
        fit(settings=replace(SETTINGS, **change))


def test_training_and_validation_that_share_a_recording_are_refused():
    train, valid = tones(12, 0), tones(9, 1)
    valid.digests[-1] = train.digests[3]
    with pytest.raises(ValueError, match="training and validation share recordings"):
        training.fit(network(), train, valid, TASK, SETTINGS)


@pytest.mark.parametrize("task", [TASK, TAGGING], ids=["one label", "tags"])
def test_evaluation_does_not_depend_on_the_batch(task):
    model, pack = network(task=task).train(), tones(20, 1, task)
    loss, probabilities = training.evaluate(model, pack, task, batch=7)
    whole_loss, whole = training.evaluate(model, pack, task)
    assert model.training
    assert loss == pytest.approx(whole_loss, rel=1e-5)
    np.testing.assert_allclose(probabilities, whole, rtol=1e-5, atol=1e-6)
    windows = models.window_logits(model.eval(), pack.take(slice(None)), task)
    assert loss == pytest.approx(float(training.loss_of(windows, torch.from_numpy(pack.targets)).detach()), rel=1e-5)


def trained(tmp_path, epochs):
    """An experiment in train mode on tones, and what `train_or_load` wants."""
    dataset = Dataset(TASK, "tones", CLASSES, tones(60, 0), tones(21, 1), tones(30, 2), [], [], "0" * 64)
    parameters = {"MODE": "train", "SEED": 1, "CLASSES": ""}
    run = experiment.Experiment("03_raw", parameters, TASK, dataset, tmp_path, tmp_path / "out", time.perf_counter())
    return run, models.config_for(TASK, "MelCNN", 3, **NETWORKS["MelCNN"]), replace(SETTINGS, epochs=epochs)


def test_the_weights_of_the_best_epoch_are_kept(tmp_path, monkeypatch):
    fit_alone, best = training.fit, network().state_dict()
    monkeypatch.setattr(training, "fit", lambda *given: replace(fit_alone(*given), best=best))
    run, *given = trained(tmp_path, epochs=1)
    model, _ = run.train_or_load("mel_cnn", *given)
    assert all(torch.equal(value, best[name]) for name, value in model.state_dict().items())


def test_a_trained_network_is_saved_with_settings_scores_and_curves_and_comes_back(tmp_path):
    run, config, settings = trained(tmp_path, epochs=12)
    model, info = run.train_or_load("mel_cnn", config, settings)
    assert not model.training
    assert info["settings"] == asdict(settings)
    assert info["scores"]["top1"]["value"] > 0.6
    assert info["final_epoch"].keys() == info["scores"].keys()
    assert info["best_epoch"] == best_epoch(info["curves"])
    loading = replace(run, parameters=run.parameters | {"MODE": "infer"})
    again, _ = loading.train_or_load("mel_cnn", config, settings)
    np.testing.assert_array_equal(run.predict(model), run.predict(again))


LONG = replace(SETTINGS, epochs=8, precision="32-true")
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from pathlib import Path
from tests.test_training import LONG, fit, tones
torch.set_num_threads(1)
done = fit(settings=LONG, train=tones(400, 0), folder=Path(sys.argv[2]) / "run")
torch.save(vars(done), Path(sys.argv[2]) / "done.pt")
"""


def test_a_training_killed_in_the_middle_ends_with_the_same_weights(tmp_path):
    def start():
        command = [sys.executable, "-c", PROGRAM, str(ROOT), str(tmp_path)]
        return subprocess.Popen(command, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})

    first, checkpoint = start(), tmp_path / "run/checkpoint.pt"
    while first.poll() is None and not checkpoint.is_file():
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert not (tmp_path / "done.pt").exists()
    assert start().wait() == 0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = fit(settings=LONG, train=tones(400, 0))
    torch.set_num_threads(threads)
    assert_identical(training.Fit(**torch.load(tmp_path / "done.pt", weights_only=True)), whole)
    assert set(os.listdir(tmp_path / "run")) == {"tensorboard", training.CHECKPOINT}


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


@pytest.mark.parametrize("balance", ["", "loss", "classes", "groups", "tags"])
def test_classes_tags_or_groups_are_drawn_equally_often_where_asked_for(balance):
    uneven = np.array([0] * 240 + [1] * 50 + [2] * 10)
    pack = replace(tones(300, 0), targets=uneven, groups=np.array([f"speaker {one}" for one in uneven]))
    if balance == "tags":
        balance, pack = "classes", replace(pack, targets=np.eye(3, dtype=np.float32)[uneven])
    order = training.draw_order(pack, balance, np.random.default_rng(0))
    assert len(order) == 300
    if balance in ("", "loss"):
        assert sorted(order) == list(range(300))
    else:
        assert np.bincount(uneven[order]).min() > 70


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
