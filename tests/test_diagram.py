"""Architecture diagrams are drawn from the network itself: shapes, options, parameters."""

import matplotlib
import pytest
import torch

from helpers import diagram, models, plots
from helpers.tasks import TASKS


def drawn(task: str, kind: str, samples: int = 0, **options):
    """Blocks of a fresh network, with the network."""
    network = models.build(models.config_for(TASKS[task], kind, len(TASKS[task].classes), **options))
    torch.manual_seed(0)
    return diagram.blocks(network, torch.randn(samples or TASKS[task].window_samples)), network


def shapes(blocks) -> list[tuple]:
    return [block.shape for block in blocks]


@pytest.mark.parametrize("kind", models.KINDS)
def test_every_parameter_of_the_network_is_in_one_block(kind):
    blocks, network = drawn("magnatagatune", kind)
    assert sum(block.parameters for block in blocks) == models.count_parameters(network)
    assert blocks[0].shape == (TASKS["magnatagatune"].window_samples,)
    assert blocks[-1].shape == (50,)
    if kind == "SampleCNN":
        assert next(block.details for block in blocks if block.title == "pooling") == ["global", "mean"]


def test_the_mel_network_is_what_it_is():
    blocks, _ = drawn("nsynth", "MelCNN")
    assert [block.title for block in blocks] == [
        "waveform", "level", "log mel", "standardise", *4 * ["conv 3 × 3"], "pooling", "dense",
    ]  # fmt: skip
    assert shapes(blocks)[4:] == [(16, 32, 63), (32, 16, 32), (64, 8, 16), (112, 8, 16), (224,), (11,)]
    assert blocks[4].details == ["batch norm", "ReLU", "max-pool 2"]
    assert "and maximum" in blocks[-2].details
    assert blocks[-1].details == ["dropout 0.3", "classes"]


def test_another_first_layer_width_or_length_of_clip_is_shown():
    long, short = (drawn("magnatagatune", "RawCNN", length=n, stride=n)[0] for n in (1024, 256))
    assert (long[2].title, short[2].title) == ("conv 1024", "conv 256")
    assert (shapes(long)[2], shapes(short)[2]) == ((32, 35), (32, 137))
    assert shapes(drawn("nsynth", "MelCNN", width=32)[0])[4] == (32, 32, 63)
    one, two = (shapes(drawn("nsynth", "MelCNN", samples=samples)[0]) for samples in (64_000, 128_000))
    assert (one[2], two[2]) == ((64, 126), (64, 251))
    assert one[-2:] == two[-2:]


def test_options_are_shown_as_they_are():
    plain, _ = drawn("nsynth", "MelCNN", log=False, batch_norm=False, dropout=0.0)
    said = [word for block in plain for word in (block.title, *block.details)]
    assert "mel power" in said
    assert not {"log mel", "batch norm", "dropout 0"} & set(said)


def test_the_network_is_left_as_it_was():
    _, network = drawn("nsynth", "RawCNN")
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    diagram.blocks(network, torch.randn(64_000))
    assert network.training
    assert not any(layer._forward_hooks for layer in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("kind", models.KINDS)
def test_the_drawing_names_the_parameters_and_its_words_stay_in_their_boxes(kind):
    _, network = drawn("magnatagatune", kind)
    with matplotlib.rc_context(plots.STYLE):
        figure = diagram.architecture(network, torch.randn(TASKS["magnatagatune"].window_samples))
        figure.draw_without_rendering()
    (ax,) = figure.axes
    assert f"{kind}: {models.count_parameters(network):,} trained parameters" in ax.texts[-1].get_text()
    boxes = [patch.get_window_extent() for patch in ax.patches if isinstance(patch, diagram.FancyBboxPatch)]
    assert len(boxes) == len(diagram.blocks(network, torch.randn(TASKS["magnatagatune"].window_samples)))
    for text in [text for text in ax.texts[:-1] if text.get_text()]:
        extent = text.get_window_extent()
        assert any(box.x0 <= extent.x0 and extent.x1 <= box.x1 for box in boxes), text.get_text()
