"""Networks map windows to logits, agree in size with the papers, and are built from a seed and a checked description.

Every one can leave the project as TorchScript.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from helpers import features, inference, models
from helpers.tasks import TASKS

SMALL = {"RawCNN": {}, "MelCNN": {"width": 4, "mask": 0.3, "remove_mean": True}, "SampleCNN": {"width": 4}}
every = pytest.mark.parametrize("kind", models.KINDS)
by_name = pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
ROWS = [{"length": length, "stride": stride} for length, stride in models.PUBLISHED_ROWS]
WITHOUT_LEVEL = [task for task in TASKS.values() if not task.keep_level]


def waves(*shape, seed=0):
    """Noise at -20 dB."""
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(task, kind, **options):
    return models.build(models.config_for(task, kind, len(task.classes), **options)).eval()


def small(task, kind):
    return network(task, kind, **SMALL[kind])


def test_the_published_rows_are_the_five_of_the_papers_table():
    assert set(models.PUBLISHED_ROWS) == {(1024, 1024), (1024, 512), (512, 512), (512, 256), (256, 256)}
    assert models.PUBLISHED_ROWS[256, 256] == max(models.PUBLISHED_ROWS.values()) == 0.8487


@every
@by_name
@torch.no_grad()
def test_a_network_gives_finite_logits_that_depend_on_the_clip(task, kind):
    for options in ROWS if kind == "RawCNN" else [SMALL[kind]]:
        logits = network(task, kind, **options)(waves(3, task.window_samples))
        assert logits.shape == (3, len(task.classes))
        assert logits.isfinite().all()
        assert not torch.allclose(logits[0], logits[1])


@by_name
@pytest.mark.parametrize("stride", [1, 7, 256])
@pytest.mark.parametrize("length", [1, 5, 1000])
@torch.no_grad()
def test_filters_shorter_and_longer_than_the_stride_keep_one_frame_per_stride(task, length, stride):
    small = dict(models.config_for(task, "RawCNN", 3, length=length, stride=stride), window_samples=16 * stride + 5)
    model = models.build(small).eval()
    frames = []
    model.filters.register_forward_hook(lambda module, given, out: frames.append(out.shape))
    assert model(waves(2, 16 * stride + 5)).shape == (2, 3)
    assert frames == [(2, 32, 1, -(-(16 * stride + 5) // stride))]


@by_name
@torch.no_grad()
def test_the_longest_stride_works_and_others_are_refused(task):
    longest = task.window_samples // 16
    assert network(task, "RawCNN", stride=longest)(waves(1, task.window_samples)).shape == (1, len(task.classes))
    for length, stride in ((256, longest + 1), (0, 256), (256, 0), (-1, 256), (256, -256)):
        words = rf"LENGTH {length}, STRIDE {stride}: expected positive .* STRIDE at most {longest},"
        with pytest.raises(ValueError, match=words):
            network(task, "RawCNN", length=length, stride=stride)


def test_raw_cnn_has_the_papers_layers():
    model = network(TASKS["magnatagatune"], "RawCNN", length=512, stride=256)
    first, *later = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    assert (first.out_channels, first.kernel_size, first.stride) == (32, (1, 512), (1, 256))
    assert [(layer.out_channels, layer.kernel_size, layer.stride) for layer in later] == [(32, (1, 8), (1, 1))] * 2
    assert [layer.kernel_size for layer in model.modules() if isinstance(layer, nn.MaxPool2d)] == [(1, 4)] * 2
    dense = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in dense] == [100, 50]
    assert not any(isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)) for layer in model.modules())
    assert all(layer.p == 0 for layer in model.modules() if isinstance(layer, nn.Dropout))


@torch.no_grad()
def test_raw_cnn_takes_weights_without_the_height_of_its_filters():
    task = TASKS["nsynth"]
    model, wave = network(task, "RawCNN", batch_norm=True), waves(2, task.window_samples)
    kept = {name: value.squeeze(2) if value.dim() == 4 else value for name, value in model.state_dict().items()}
    assert kept["filters.weight"].shape == (32, 1, 256)
    other = models.build(models.config_for(task, "RawCNN", 11, batch_norm=True), seed=1).eval()
    other.load_state_dict(kept)
    torch.testing.assert_close(other(wave), model(wave), rtol=0, atol=0)
    assert kept["filters.weight"].shape == (32, 1, 256)  # the caller's tensors are left alone


def test_parameters_of_one_row_are_as_counted_by_hand():
    # 34,950 samples / 256 -> 137 frames, / 4 -> 34, / 4 -> 8
    by_hand = (32 * 256 + 32) + 2 * (32 * 32 * 8 + 32) + (32 * 8 * 100 + 100) + (100 * 50 + 50)
    assert models.count_parameters(network(TASKS["magnatagatune"], "RawCNN", length=256, stride=256)) == by_hand
    assert by_hand == 55_422


@by_name
@pytest.mark.parametrize("samples", [1, 100, 511, 512, 16_000, 70_001])
@torch.no_grad()
def test_mel_cnn_accepts_any_length(task, samples):
    logits = small(task, "MelCNN")(waves(2, samples))
    assert logits.shape == (2, len(task.classes))
    assert logits.isfinite().all()


@by_name
def test_mel_cnn_with_and_without_the_logarithm_differ_in_nothing_else(task):
    with_log, without = (network(task, "MelCNN", log=log) for log in (True, False))
    assert models.count_parameters(with_log) == models.count_parameters(without)
    for name, value in with_log.state_dict().items():
        torch.testing.assert_close(value, without.state_dict()[name], rtol=0, atol=0, msg=name)
    assert with_log.front.log
    assert not without.front.log


@every
@torch.no_grad()
def test_networks_hear_the_gain_where_it_is_part_of_the_label_only(kind):
    for task in TASKS.values():
        model, wave = network(task, kind), waves(2, task.window_samples)
        expected = model(wave)
        spread = (expected[0] - expected[1]).abs().max()
        for changed in (wave * 0.1, wave * 8, wave + 0.2)[: 1 if task.keep_level else 3]:
            assert bool((model(changed) - expected).abs().max() < 0.05 * spread) is not task.keep_level


@pytest.mark.parametrize("keep", [True, False])
def test_level_is_unit_power_or_a_fixed_gain_and_leaves_silence(keep):
    level, wave = models.Level(keep), waves(4, 5_000) + 0.1
    if keep:
        torch.testing.assert_close(level(wave), wave * 10)
    else:
        torch.testing.assert_close(level(wave).square().mean(-1), torch.ones(4), rtol=1e-3, atol=0)
    assert not level(torch.zeros(2, 1000)).any()


@every
def test_build_is_seeded_and_leaves_the_global_random_state_alone(kind):
    config = models.config_for(TASKS["nsynth"], kind, 11)
    before = torch.get_rng_state()
    first, again, other = (models.build(config, seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"kind": None, "classes": 2}, "model kind: found None, expected one of RawCNN, MelCNN"),
        ({"kind": "SVM", "classes": 2}, "model kind: found 'SVM', expected one of RawCNN, MelCNN"),
        ({"kind": "MelCNN", "classes": 2}, "configuration of MelCNN: .*rate"),
        ({"kind": "SampleCNN", "classes": 2, "lenght": 3}, "configuration of SampleCNN: .*lenght"),
    ],
)
def test_a_wrong_configuration_is_refused_and_left_as_it_is(config, words):
    kept = dict(config)
    with pytest.raises(ValueError, match=words):
        models.build(config)
    assert config == kept


@by_name
def test_configuration_comes_from_the_task(task):
    mel, raw = (models.config_for(task, kind, 2) for kind in ("MelCNN", "RawCNN"))
    assert (mel["rate"], mel["n_fft"], mel["hop"], mel["mels"]) == (task.rate, *task.mel)
    assert raw["window_samples"] == task.window_samples
    assert mel["keep_level"] is raw["keep_level"] is task.keep_level
    assert models.config_for(task, "MelCNN", 2, mels=8)["mels"] == 8


@torch.no_grad()
def test_logits_of_a_clip_are_those_of_its_windows_in_order():
    task = TASKS["magnatagatune"]
    model, clips = network(task, "MelCNN", width=4), waves(2, 3 * task.window_samples).numpy()
    found = models.window_logits(model, clips, task)
    assert found.shape == (2, 3, 50)
    for window in range(3):
        cut = clips[:, window * task.window_samples : (window + 1) * task.window_samples]
        torch.testing.assert_close(found[:, window], model(torch.from_numpy(cut)), rtol=1e-4, atol=1e-5)
    assert np.ptp(found.numpy(), axis=1).max() > 1e-3  # the windows do differ


def test_the_sample_network_halves_nothing_but_thirds():
    model = network(TASKS["nsynth"], "SampleCNN", width=4)
    shapes = []
    for layer in model.blocks[:-1]:
        layer.register_forward_hook(lambda module, given, out: shapes.append(out.shape[-1]))
    with torch.no_grad():
        model(waves(1, 59_049))
    assert list(dict.fromkeys(shapes)) == [3**power for power in range(9, 1, -1)]


@every
def test_every_trained_number_gets_a_gradient(kind):
    model = small(TASKS["languages"], kind).train()
    model(waves(2, 40_000)).square().sum().backward()
    assert [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


@every
@torch.no_grad()
def test_torchscript_gives_the_same_logits_without_this_project(kind, tmp_path):
    model = small(TASKS["languages"], kind)
    path = inference.export(model, tmp_path / "folder" / "model.torchscript")
    clips = waves(3, 40_000)
    np.save(tmp_path / "clips.npy", clips.numpy())
    program = (
        "import sys, numpy, torch; model = torch.jit.load(sys.argv[1]).to('cpu'); clips = numpy.load('clips.npy');"
        "out = torch.cat([model(torch.from_numpy(clip[None])) for clip in clips]).detach().numpy();"
        "numpy.save('out.npy', out); assert 'helpers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-I", "-c", program, str(path)], cwd=tmp_path, check=True)
    eager = torch.cat([model(clip[None]) for clip in clips]).numpy()  # one clip at a time, as that course grades
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), eager)
    assert [file.name for file in path.parent.iterdir()] == ["model.torchscript"]


def test_stripes_hide_up_to_their_share_of_bands_or_frames():
    mel = torch.ones(200, 40, 60)
    for axis, size in ((1, 40), (2, 60)):
        keep = features.stripes(mel, axis, 0.3)
        assert keep.shape == ((200, 40, 1) if axis == 1 else (200, 1, 60))
        hidden = (keep == 0).flatten(1)
        assert 0.1 < hidden.float().mean() < 0.2  # half of the share on average
        assert hidden.sum(dim=1).max() <= 0.3 * size + 1
        edges = (hidden[:, 1:] != hidden[:, :-1]).sum(dim=1) + hidden[:, 0] + hidden[:, -1]
        assert set(edges.tolist()) <= {0, 2}  # one stripe


@torch.no_grad()
def test_masks_work_while_training_only():
    task = TASKS["languages"]
    plain, masked = (models.build(models.config_for(task, "MelCNN", 6, mask=mask, dropout=0.0)) for mask in (0.0, 0.5))
    clip = waves(4, 40_000)
    torch.testing.assert_close(plain.eval()(clip), masked.eval()(clip))
    assert not torch.allclose(masked.train()(clip), plain.train()(clip))


@torch.no_grad()
def test_without_its_band_means_a_network_does_not_hear_an_equaliser():
    task = TASKS["languages"]
    clip = waves(1, 40_000)
    response = torch.linspace(1, 3, 20_001)  # a microphone's colour
    coloured = torch.fft.irfft(torch.fft.rfft(clip) * response, n=40_000)
    gaps = []
    for remove_mean in (False, True):
        model = models.build(models.config_for(task, "MelCNN", 6, remove_mean=remove_mean)).eval()
        gaps.append(float((model(clip) - model(coloured)).abs().max()))
    assert gaps[1] < 0.2 * gaps[0]


@torch.no_grad()
def test_the_front_end_is_exact_under_autocast():
    front = features.MelSpectrogram(16_000, 1024, 512, 64)
    clip = waves(2, 16_000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = front(clip)
    torch.testing.assert_close(found, front(clip))


def test_probabilities_sum_to_one_for_one_label_and_are_free_for_many():
    logits = waves(3, 4, 5) * 50
    torch.testing.assert_close(models.to_probabilities(logits, False).sum(-1), torch.ones(3, 4))
    torch.testing.assert_close(models.to_probabilities(logits, True), 1 / (1 + torch.exp(-logits)))
