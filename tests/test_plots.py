"""Figures say what the arrays say: counts, rates, bands, regions, intervals; and print well."""

import io

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from helpers import plots


@pytest.fixture(autouse=True)
def style():
    with matplotlib.rc_context(plots.STYLE):
        yield


def axes():
    return Figure().subplots()


def words(ax) -> dict[tuple, str]:
    """Texts of an axes by their place."""
    return {text.get_position(): text.get_text() for text in ax.texts}


def test_a_confusion_matrix_shows_counts_rates_and_a_colour_bar():
    ax = plots.confusion(axes(), np.array([[9, 1], [2, 6]]), ["a", "b"])
    assert words(ax) == {(0, 0): "9\n90 %", (1, 0): "1\n10 %", (0, 1): "2\n25 %", (1, 1): "6\n75 %"}
    assert np.allclose(ax.images[0].get_array(), [[90, 10], [25, 75]])
    assert [other.get_ylabel() for other in ax.figure.axes if other is not ax] == [plots.SHARE]


def test_many_classes_show_rates_on_the_diagonal_only():
    ax = plots.confusion(axes(), np.full((11, 11), 2), [f"class {n}" for n in range(11)])
    assert [place for place, word in words(ax).items() if "%" in word] == [(n, n) for n in range(11)]


def test_a_class_without_clips_is_said_to_have_none():
    ax = plots.confusion(axes(), np.array([[4, 0, 0], [0, 0, 0], [1, 0, 3]]), ["a", "b", "c"])
    noted = {place[1] for place, word in words(ax).items() if word == "no clips of this class"}
    assert noted == {1}


def test_several_confusion_matrices_share_one_colour_bar():
    figure = Figure()
    plots.confusions(figure, {"one": np.eye(2, dtype=int), "two": 5 * np.eye(2, dtype=int)}, ["a", "b"])
    assert [ax.get_title() for ax in figure.axes] == ["one", "two", ""]
    assert figure.axes[2].get_ylabel() == plots.SHARE


def test_a_band_is_the_mean_and_its_deviation():
    ax = plots.curves(axes(), [1, 2, 3], {"a": [5.0, 6.0, 7.0]}, "Epoch", "Loss", {"a": [1.0, 0.5, 2.0]})
    corners = ax.collections[0].get_paths()[0].vertices
    for step, low, high in ((1, 4.0, 6.0), (2, 5.5, 6.5), (3, 5.0, 9.0)):
        there = corners[corners[:, 0] == step][:, 1]
        assert (there.min(), there.max()) == (low, high)


def test_a_region_has_the_colour_of_the_nearest_mean():
    points = np.array([[-3.0, 0.0], [-1.0, 0.0], [1.0, 1.0], [3.0, -1.0]])
    ax = plots.scatter_classes(axes(), points, np.array([0, 0, 2, 2]), ["a", "b", "c"], regions=True)
    image = ax.images[0]
    left, right = image.get_array()[:, 0], image.get_array()[:, -1]
    assert set(left) == {0}
    assert set(right) == {1}
    assert image.cmap(image.norm(1.0)) == to_rgba(plots.COLOURS[2])  # of class c: b has no points
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "c"]


def test_a_forest_is_sorted_and_says_which_differences_are_clear():
    changes = {
        "worse": {"value": -0.2, "low": -0.3, "high": -0.1},
        "unclear": {"value": 0.01, "low": -0.1, "high": 0.12},
        "better": {"value": 0.3, "low": 0.2, "high": 0.4},
    }
    ax = plots.forest(axes(), changes, "difference")
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["better", "unclear", "worse"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row is on top
    points = [line for line in ax.lines if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() == "white" for line in points] == [False, True, False]
    assert ax.texts[2].get_text() == "-0.200 (-0.300 to -0.100)"
    assert any(line.get_linestyle() == ":" and set(line.get_xdata()) == {0} for line in ax.lines)


def test_a_mel_spectrogram_is_in_decibels_below_its_loudest_point():
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    image = plots.mel_spectrogram(axes(), tone, 16_000)
    level = image.get_array()  # (mels, frames)
    assert (level.max(), image.get_clim()) == (0, (-80, 0))
    edges = image.get_coordinates()[:, 0, 1]  # of the bands, in Hz
    loudest = level[:, 10].argmax()
    assert edges[loudest] < 1000 < edges[loudest + 1]


def test_a_figure_has_no_type_3_fonts_and_the_same_bytes_again():
    def saved() -> bytes:
        content = io.BytesIO()
        ax = plots.confusion(axes(), np.array([[9, 1], [2, 6]]), ["a", "b"])
        ax.figure.savefig(content, format="pdf", metadata={"CreationDate": None})
        return content.getvalue()

    assert b"/Type3" not in saved()
    assert saved() == saved()
