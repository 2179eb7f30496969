"""The deeper networks have their papers' sizes, and every network can leave the project as TorchScript."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from helpers import features, inference, models
from helpers.tasks import TASKS

SMALL = {
    "RawCNN": {},
    "MelCNN": {"width": 4, "mask": 0.3, "remove_mean": True},
    "SampleCNN": {"width": 4},
}
every = pytest.mark.parametrize("kind", models.KINDS)


def waves(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(task, kind):
    return models.build(models.config_for(TASKS[task], kind, 6, **SMALL[kind])).eval()


def test_the_sample_network_halves_nothing_but_thirds():
    model = network("nsynth", "SampleCNN")
    shapes = []
    for layer in model.blocks:
        layer.register_forward_hook(lambda module, given, out: shapes.append(out.shape[-1]))
    with torch.no_grad():
        model(waves(1, 59_049))
    assert list(dict.fromkeys(shapes)) == [3**power for power in range(9, 1, -1)]


@every
@pytest.mark.parametrize("task", TASKS)
@torch.no_grad()
def test_a_network_gives_finite_logits_that_depend_on_the_clip(task, kind):
    logits = network(task, kind)(waves(3, TASKS[task].window_samples))
    assert logits.shape == (3, 6)
    assert logits.isfinite().all()
    assert not torch.allclose(logits[0], logits[1])


@every
def test_every_trained_number_gets_a_gradient(kind):
    model = network("languages", kind).train()
    model(waves(2, 40_000)).square().sum().backward()
    assert [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


@torch.no_grad()
def test_the_sample_network_takes_other_lengths():
    assert network("languages", "SampleCNN")(waves(1, 55_555)).isfinite().all()


@every
@torch.no_grad()
def test_torchscript_gives_the_same_logits_without_this_project(kind, tmp_path):
    model = network("languages", kind)
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
