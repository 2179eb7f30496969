"""The film's scenes: each a function from seconds since its start to a picture, drawn once, then cut and masked."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from bundle.report.facts import METRICS, Results
from bundle.video.film import FPS, RATE
from bundle.video.pages import Picture, as_html, draw_section
from bundle.video.script import Scene, named
from helpers.tasks import TASKS

WIDTH, HEIGHT = 1488, 812  # pixels, of what a scene draws
TEXT = 1.5  # enlargement of a notebook's page
RUNNING, DONE = (230, 159, 0), (0, 114, 178)  # colours of the bar beside the active cell
LEVEL = 0.1  # root mean square of all sounds, of full scale
Frames = Callable[[float], np.ndarray]


def body(scene: Scene, facts: dict[str, str], run: Path, results: Results) -> str:
    """HTML of a scene that stands still, "" for one that moves.

    Raises
    ------
    FileNotFoundError
        If the run has no such figure.
    """
    if scene.kind == "card":
        return "<ul>" + "".join(f"<li>{as_html(point)}</li>" for point in scene.points) + "</ul>"
    if scene.kind == "table":
        return table(named(results.notebooks, scene.target, "task")["05_evaluation"], facts)
    if scene.kind != "figure":
        return ""
    task, _, name = scene.target.partition("/")
    named(results.notebooks, task, "task")
    path = (run / task / "figures" / results.folder_of(task).name / f"{name}.png").resolve()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: found no figure. python -m bundle run draws it.")
    return f'<img src="{path.as_uri()}" alt="">'


def table(found: dict, facts: dict[str, str]) -> str:
    """Every model of 05_evaluation on the test split, the best first: scores with intervals, chance, size."""
    names = [name for name in METRICS if any(key.endswith(f"_{name}") for key in found["metrics"])]
    scores = {model: [found["metrics"][f"{model}_{name}"] for name in names] for model in found["weights_digest"]}
    rows, chance = "", next(iter(scores.values()))
    for model in sorted(scores, key=lambda model: -scores[model][0]["value"]):
        cells = [facts[f"{found['task']}.{model}.title"]]
        cells += ["{value:.3f} ({low:.3f}–{high:.3f})".format(**score) for score in scores[model]]
        cells += [f"{found['costs'][model]['parameters']:,.0f}"]
        rows += f"<tr{' class=first' * (not rows)}>" + "".join(f"<td>{as_html(cell)}</td>" for cell in cells) + "</tr>"
    head = "".join(f"<th>{title}</th>" for title in ("model", *(METRICS[name] for name in names), "learned numbers"))
    by_chance = ", ".join(f"{METRICS[name]} {score['chance']:.3f}" for name, score in zip(names, chance, strict=True))
    about = f"{facts[found['task'] + '.data']}, test split, {chance[0]['n']:,} clips; in brackets 95 % intervals; "
    return f"<table><caption>{as_html(about)}by chance: {by_chance}</caption><tr>{head}</tr>{rows}</table>"


def cells(scene: Scene, run: Path) -> Frames:
    """Cells of an executed notebook, evaluated one after the other: before its turn a cell has no number, no output."""
    name, _, heading = scene.target.partition(": ")
    picture = draw_section(run / f"{name}.ipynb", heading, WIDTH, TEXT)
    page = np.full((max(len(picture.pixels), HEIGHT) + 60, WIDTH, 3), 255, np.uint8)
    page[: len(picture.pixels)] = picture.pixels
    boxes, hidden = picture.boxes["cell"], [parts_of(box, picture) for box in picture.boxes["cell"]]
    weights = np.array([np.clip((bottom - top) / HEIGHT, 0.25, 1.5) for _, top, _, bottom in boxes])
    starts = np.concatenate([[0], np.cumsum(weights) / weights.sum()]) * (scene.seconds - 0.8)
    scroll = scroll_path(boxes, starts, len(page), scene.seconds)

    def frame(moment: float) -> np.ndarray:
        top = scroll[min(int(moment * FPS), len(scroll) - 1)]
        view = page[top : top + HEIGHT].copy()
        for box, parts, (start, end) in zip(boxes, hidden, pairwise(starts), strict=True):
            evaluated = moment >= start + 0.4 * (end - start)
            for left, upper, right, lower in () if evaluated else parts:
                view[max(upper - top, 0) : max(lower - top, 0), left:right] = 255
            if start <= moment < end:
                colour = RUNNING if parts and not evaluated else DONE
                view[max(box[1] - top, 0) : max(box[3] - top, 0), :8] = colour
        return view

    return frame


def parts_of(box: tuple, picture: Picture) -> list[tuple]:
    """The number and the output that lie inside a code cell's box."""
    inside = [part for name in ("prompt", "output") for part in picture.boxes[name]]
    return [part for part in inside if box[1] <= part[1] and part[3] <= box[3] + 1 and part[3] > part[1]]


def scroll_path(boxes: list[tuple], starts: np.ndarray, height: int, seconds: float) -> np.ndarray:
    """The uppermost row on the screen for each frame: follows the active cell, without jumps."""
    wanted = []
    for moment in np.arange(round(seconds * FPS) + 1) / FPS:
        active = int(np.clip(np.searchsorted(starts, moment, side="right") - 1, 0, len(boxes) - 1))
        top, bottom = boxes[active][1] - 20, boxes[active][3] + 20
        share = np.clip((moment - starts[active]) / (starts[active + 1] - starts[active]), 0, 1)
        spare = bottom - top - HEIGHT
        wanted.append(top + share * spare if spare > 0 else (top + bottom - HEIGHT) / 2)
    window = np.hanning(FPS + 2)[1:-1]  # one second
    padded = np.pad(np.clip(wanted, 0, height - HEIGHT), len(window) // 2, mode="edge")
    return np.round(np.convolve(padded, window / window.sum(), mode="valid")).astype(int)


def curves(scene: Scene, results: Results) -> Frames:
    """Loss and score of trainings, drawn from left to right as they went."""
    import matplotlib

    from helpers import plots

    source, *models = scene.target.split()
    task, _, notebook = source.partition("/")
    found = named(named(results.notebooks, task, "task"), notebook, "notebook")["curves"]
    found = {model: named(found, model, "curves of") for model in models}
    with matplotlib.rc_context({**plots.STYLE, "font.size": 20, "lines.linewidth": 2.5}):
        figure, axes = new_figure(1, 2)
        for number, (model, run) in enumerate(found.items()):
            for ax, step, lines in (
                (axes[0], "step", ("train_loss", "valid_loss")),
                (axes[1], "epoch", ("epoch_train_score", "epoch_valid_score")),
            ):
                for name, (part, dashes) in zip(lines, {"training": "-", "validation": "--"}.items(), strict=True):
                    colour = plots.COLOURS[number if len(models) > 1 else len(ax.lines)]
                    label = f"{model}, {part}"
                    ax.plot(run[step], run[name], dashes, color=colour, label=label)
        axes[0].set(xlabel="Step", ylabel="Loss")
        axes[1].set(xlabel="Epoch", ylabel=METRICS[TASKS[task].headline])
        figure.legend(*axes[1].get_legend_handles_labels(), loc="outside upper center", ncols=max(2, len(models)))
        full = pixels(figure)
        for line in (*axes[0].lines, *axes[1].lines):
            line.set_visible(False)
        empty = pixels(figure)
    spans = [(round(box.x0), round(box.x1)) for box in (ax.get_window_extent() for ax in axes)]

    def frame(moment: float) -> np.ndarray:
        share = moment / (0.6 * scene.seconds)
        if share >= 1:
            return full
        view = empty.copy()
        for left, right in spans:
            edge = round(left + share * (right - left))
            view[:, left:edge] = full[:, left:edge]
        return view

    return frame


def sound(scene: Scene, wave: np.ndarray, results: Results) -> Frames:
    """A clip while it is heard: waveform, mel spectrogram with a moving line, and the five likeliest classes."""
    import matplotlib

    from helpers import features, plots

    name, _, word = scene.target.partition("/")
    found, task = results.notebooks[name]["05_evaluation"], TASKS[name]
    with np.load(results.folder_of(name) / "05_evaluation.npz") as stored:
        clip = list(stored["names"]).index(found["examples"][word])
        said, target = stored["mel_cnn"][clip], stored["targets"][clip]
    true = np.flatnonzero(target) if task.multi_label else [target]
    with matplotlib.rc_context({**plots.STYLE, "font.size": 20, "axes.titlesize": 20}):
        figure, axes = new_figure(1, 3, width_ratios=(1.15, 1.15, 1))
        plots.waveform(axes[0], wave, task.rate, "heard")
        plots.mel_spectrogram(axes[1], features.mel_db(wave, task.rate), task.rate, 512, "seen (dB)")
        top = [*dict.fromkeys([*np.argsort(-said)[:5], *true[:3]])]
        colours = [plots.COLOURS[2] if index in true else plots.COLOURS[7] for index in top]
        axes[2].barh([found["classes"][index] for index in top], said[top], color=colours)
        axes[2].invert_yaxis()
        axes[2].set(xlim=(0, 1), xlabel="Probability (green: true)", title="said")
        still = pixels(figure)
        areas = [ax.get_window_extent() for ax in axes[:2]]
    begin, seconds = playing_from(scene), len(wave) / task.rate

    def frame(moment: float) -> np.ndarray:
        share = (moment - begin) / seconds
        if not 0 <= share <= 1:
            return still
        view = still.copy()
        for area in areas:
            column = round(area.x0 + share * (area.x1 - area.x0))
            view[HEIGHT - round(area.y1) : HEIGHT - round(area.y0), column - 2 : column + 2] = (213, 94, 0)
        return view

    return frame


def playing_from(scene: Scene) -> float:
    """When, in seconds since the scene's start, its clip begins."""
    index = [caption.plays for caption in scene.captions].index(True)
    return sum(caption.seconds for caption in scene.captions[:index]) + 0.3


def new_figure(rows: int, columns: int, **options):
    """An empty figure of a scene's size, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / 100, HEIGHT / 100), dpi=100)
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(h_pad=0.25, w_pad=0.1)  # inches
    return figure, figure.subplots(rows, columns, **options)


def pixels(figure) -> np.ndarray:
    """A figure's picture, (HEIGHT, WIDTH, 3) uint8."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def clip_of(scene: Scene, root: Path, results: Results) -> np.ndarray:
    """The test clip that a [sound] names, (samples,) at its task's rate, at most five seconds.

    Raises
    ------
    ValueError
        If the data here are not those of the results.
    """
    from helpers import data

    name, _, word = scene.target.partition("/")
    found, task = named(results.notebooks, name, "task")["05_evaluation"], TASKS[name]
    example = named(found["examples"], word, "example")
    loaded = data.load(task, found["parameters"]["DATA"], root)
    if loaded.digest != found["data_digest"]:
        raise ValueError(
            f"{results.folder_of(name)}: made from data with digest {found['data_digest'][:12]}, found "
            f"{loaded.digest[:12]} here. Run the notebooks on these data with --keep."
        )
    place = list(loaded.test.names).index(example)
    return loaded.test.take([place])[0][: 5 * task.rate]


def rate_of(scene: Scene) -> int:
    """The sampling rate, in Hz, of the clip that a [sound] names."""
    return TASKS[scene.target.partition("/")[0]].rate


def for_film(wave: np.ndarray, rate: int) -> np.ndarray:
    """A sound at the film's rate and level, its edges faded."""
    from scipy.signal import resample_poly

    wave = resample_poly(np.asarray(wave, dtype=np.float64), RATE, rate)
    edge = min(RATE // 20, len(wave) // 2)
    wave[:edge] *= np.linspace(0, 1, edge)
    wave[len(wave) - edge :] *= np.linspace(1, 0, edge)
    gain = LEVEL / max(np.sqrt(np.mean(wave**2)), 1e-9)
    return (wave * min(gain, 0.9 / max(np.abs(wave).max(), 1e-9))).astype(np.float32)
