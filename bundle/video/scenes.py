"""What a scene shows: a page that stands still, and over it a function from seconds since its start to a picture."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bundle import results
from bundle.report.findings import Findings
from bundle.video import film
from bundle.video.pages import section
from bundle.video.script import Scene, among
from helpers import plots

WIDTH, HEIGHT = film.CONTENT[2:]  # pixels, of what moves
TEXT = 1.5  # enlargement of a notebook's page
RUNNING, DONE, LINE = (230, 159, 0), (0, 114, 178), (213, 94, 0)  # bar beside the active cell; moving line
LOOK = plots.STYLE | {
    "figure.figsize": (WIDTH / 100, HEIGHT / 100),
    "figure.dpi": 100,
    "figure.constrained_layout.h_pad": 0.25,  # inches
    "figure.constrained_layout.w_pad": 0.1,
    "font.size": 20,
    "axes.titlesize": 20,
}
Frames = Callable[[float], np.ndarray]


def figure(scene: Scene, run: Path, found: Findings) -> str:
    """Address of the figure that a [figure] names.

    Raises
    ------
    FileNotFoundError
        If the run drew none.
    """
    path = run / scene.task / "figures" / found.folder / f"{scene.target}.png"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: found no figure. python -m bundle run draws it.")
    return path.resolve().as_uri()


def cells(scene: Scene, browser, run: Path, found: Findings) -> Frames:
    """Cells of an executed notebook, evaluated one after the other: before its turn a cell has no number, no output."""
    name, _, heading = scene.target.partition(": ")
    notebook = executed(run / scene.task, found.runs[among(found.runs, name, "The film's script: notebook")])
    picture, boxes = section(browser, notebook, heading, WIDTH, TEXT)
    page = np.full((max(len(picture), HEIGHT) + 60, WIDTH, 3), 255, np.uint8)
    page[: len(picture)] = picture
    spans = [(top, bottom) for (_, top, _, bottom), *_ in boxes]
    weights = np.clip([(bottom - top) / HEIGHT for top, bottom in spans], 0.25, 1.5)
    starts = np.concatenate([[0], np.cumsum(weights) / weights.sum()]) * (scene.seconds - 0.8)
    rows = scrolled(spans, starts, len(page), scene.seconds)

    def frame(moment: float) -> np.ndarray:
        first = rows[min(int(moment * film.FPS), len(rows) - 1)]
        view = page[first : first + HEIGHT].copy()

        def paint(left: int, top: int, right: int, bottom: int, colour) -> None:
            view[max(top - first, 0) : max(bottom - first, 0), left:right] = colour

        for (_, *parts), (top, bottom), (start, end) in zip(boxes, spans, pairwise(starts), strict=True):
            evaluated = moment >= start + 0.4 * (end - start)
            for part in () if evaluated else parts:
                paint(*part, 255)
            if start <= moment < end:
                paint(0, top, 8, bottom, DONE if evaluated else RUNNING)
        return view

    return frame


def executed(run: Path, quoted: results.Run) -> Path:
    """The notebook that a run executed, on the data and with the weights whose results the captions quote.

    Raises
    ------
    FileNotFoundError, ValueError
        If it was not executed, or on other data or with other weights.
    """
    path = run / "results" / f"{quoted.notebook}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not executed. Make it: python -m bundle run --task {quoted.task.name}.")
    shown = results.load(path)
    for what in ("data", "weights"):
        if shown[f"{what}_digest"] != quoted.content[f"{what}_digest"]:
            raise ValueError(
                f"{path}: its {what} are not those of {quoted.path}, which the captions quote. Run the notebooks again "
                "(python -m bundle run), or keep that run's results (--keep)."
            )
    return run / f"{quoted.notebook}.ipynb"


def scrolled(spans: list[tuple[int, int]], starts: np.ndarray, height: int, seconds: float) -> np.ndarray:
    """The uppermost row on the screen for each frame: follows the active cell through the page, without jumps."""
    times, rows = [], []
    for (top, bottom), (start, end) in zip(spans, pairwise(starts), strict=True):
        middle, spare = (top + bottom - HEIGHT) / 2, max((bottom - top + 40 - HEIGHT) / 2, 0)
        times += [start, end - 1 / film.FPS]
        rows += [middle - spare, middle + spare]
    wanted = np.interp(np.arange(round(seconds * film.FPS) + 1) / film.FPS, times, rows)
    window = np.hanning(film.FPS + 2)[1:-1]  # one second
    padded = np.pad(np.clip(wanted, 0, height - HEIGHT), len(window) // 2, mode="edge")
    return np.round(np.convolve(padded, window / window.sum(), mode="valid")).astype(int)


def sound(scene: Scene, found: Findings) -> Frames:
    """A clip while it is heard: waveform, mel spectrogram with a moving line, and the five likeliest classes."""
    task, labels, stored = found.task, found.run.labels, found.run.predictions
    clip = list(stored["names"]).index(found.run.content["examples"][scene.target])
    said, target = stored["mel_cnn"][clip], stored["targets"][clip]
    true = np.flatnonzero(target) if task.multi_label else [target]
    top = [*dict.fromkeys([*np.argsort(-said)[:5], *true[:3]])]
    colours = [plots.COLOURS[2] if index in true else plots.COLOURS[7] for index in top]
    with matplotlib.rc_context(LOOK):
        canvas = FigureCanvasAgg(Figure())
        heard, seen, bars = canvas.figure.subplots(1, 3, width_ratios=(1.15, 1.15, 1))
        plots.waveform(heard, scene.clip, task.rate, "heard")
        plots.mel_spectrogram(seen, scene.clip, task.rate, "seen (dB)")
        bars.barh([labels[index] for index in top], said[top], color=colours)
        bars.invert_yaxis()
        bars.set(xlim=(0, 1), xlabel="Probability (green: true)", title="said")
        canvas.draw()
    still = np.array(canvas.buffer_rgba())[..., :3]
    areas = [ax.get_window_extent() for ax in (heard, seen)]
    begin = next(one.heard_from for one in scene.captions if one.plays) - scene.start

    def frame(moment: float) -> np.ndarray:
        share, view = (moment - begin) * task.rate / len(scene.clip), still.copy()
        for area in areas if 0 <= share <= 1 else ():
            column = round(area.x0 + share * (area.x1 - area.x0))
            view[HEIGHT - round(area.y1) : HEIGHT - round(area.y0), column - 2 : column + 2] = LINE
        return view

    return frame
