"""Pictures of pages by headless Chromium: the film's frames, and sections of executed notebooks."""

from __future__ import annotations

import base64
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundle.report.findings import Findings
from bundle.report.templates import printed, render
from bundle.video import film
from bundle.video.script import PARTS, Scene

ZOOM = 1.5  # of a notebook's page
EXAMPLES = "05_examples"  # the figure of a [sound]
# What a cell does not have before it is evaluated
HIDDEN = ".jp-CodeCell .jp-InputPrompt:visible, .jp-Cell-outputWrapper:visible"
TOO_FULL = """() => {
  const full = part => part.scrollHeight > part.clientHeight + 1 || part.scrollWidth > part.clientWidth + 1;
  return [...document.querySelectorAll("body > *")].filter(full).map(part => part.innerText.slice(0, 60));
}"""


@contextmanager
def chromium() -> Iterator:
    """Playwright's browser; a FileNotFoundError where there is none, a RuntimeError when it draws nothing."""
    from playwright.sync_api import Error, sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not path:
        raise FileNotFoundError(
            "Chromium, which draws the film's pages, is missing (looked for chromium and google-chrome). Debian: apt "
            "install chromium; elsewhere install Chromium or Chrome and set CHROMIUM to its path."
        )
    try:
        with sync_playwright() as driver, driver.chromium.launch(executable_path=path) as browser:
            yield browser
    except Error as error:
        raise RuntimeError(f"{path} drew no page: {error.message}") from error


def draw(
    scenes: list[Scene], folder: Path, run: Path, found: dict[str, Findings], **shown
) -> tuple[list[tuple[Path, float]], list[film.Page]]:
    """Draw into a folder what `film.encode` takes: stills, and the pages of executed notebooks that move over them."""
    stills, moving = [], []
    with chromium() as browser:
        for scene in scenes:
            figure = ""
            if scene.kind == "cells":
                name, _, heading = scene.target.partition(": ")
                picture = folder / f"page {len(moving)}.png"
                boxes = section(browser, picture, run / scene.task / f"{name}.ipynb", heading)
                moving.append(film.Page(picture, boxes, scene.start, scene.seconds))
            elif scene.kind in ("figure", "sound"):
                name = EXAMPLES if scene.kind == "sound" else scene.target
                path = run / scene.task / "figures" / found[scene.task].folder / f"{name}.png"
                figure = base64.b64encode(path.read_bytes()).decode()
            for caption in scene.captions:
                still, of_task = folder / f"{len(stills)}.png", found.get(scene.task)
                frame(browser, still, scene=scene, caption=caption, found=of_task, figure=figure, **shown)
                stills.append((still, caption.seconds))
    return stills, moving


@contextmanager
def opened(browser, html: str, width: int, height: int, zoom: float = 1.0) -> Iterator:
    """A page in the film's style, without a network, on a screen of so many pixels."""
    screen = {"width": round(width / zoom), "height": round(height / zoom)}
    with browser.new_page(viewport=screen, device_scale_factor=zoom, offline=True) as page:
        page.set_content(html)
        page.add_style_tag(path=Path(__file__).with_name("video.css"))
        yield page


def frame(browser, picture: Path, **shown) -> None:
    """Draw a caption's frame of frame.html, without what moves; a ValueError when a text does not fit into it."""
    template, places = Path(__file__).with_name("frame.html"), {"CONTENT": film.CONTENT, "FACE": film.FACE}
    html = render(template, unbroken, {"autoescape": True}, PARTS=PARTS, **places, **shown)
    with opened(browser, html, film.WIDTH, film.HEIGHT) as page:
        for text in page.evaluate(TOO_FULL):
            raise ValueError(f"The film's script: {text!r} … is too long for its place on the screen. Shorten it.")
        page.screenshot(path=picture)


def unbroken(value):
    """An interval and a percentage stay in one line."""
    value = printed(value)
    return value.replace("–", "\u2060–\u2060").replace(" %", "\u00a0%") if isinstance(value, str) else value


def section(browser, picture: Path, notebook: Path, heading: str) -> list[tuple[int, int, int, int]]:
    """Draw an executed notebook from a heading to the next one, as nbconvert shows it.

    Returns
    -------
    list of (left, top, width, height)
        Pixels; the boxes of what is HIDDEN.

    Raises
    ------
    ValueError
        If there is no such heading, or its cells were not executed.
    """
    import nbformat
    from nbconvert import HTMLExporter

    content = nbformat.read(notebook, as_version=4)
    headings, cells = [""], []
    for cell in content.cells:
        text = cell.cell_type == "markdown"
        for part in re.split(r"(?m)^(?=#{1,3} )", cell.source) if text else [cell.source]:
            if text and part.startswith("#"):
                headings.append(part.partition("\n")[0].lstrip("# ").strip())
            if headings[-1] == heading and part.strip():
                cells.append(nbformat.from_dict({**cell, "source": part}))
    if not cells:
        raise ValueError(f"{notebook}: found no section {heading!r}; there are: {'; '.join(headings[1:])}.")
    if any(cell.cell_type == "code" and cell.execution_count is None for cell in cells):
        raise ValueError(f"{notebook}: section {heading!r} was not executed to its end. python -m bundle run")
    content.cells = cells
    html, _ = HTMLExporter().from_notebook_node(content)
    with opened(browser, html, *film.CONTENT[2:], ZOOM) as page:
        page.screenshot(path=picture, full_page=True)
        boxes = [part.bounding_box() for part in page.locator(HIDDEN).all()]
    return [tuple(round(box[edge] * ZOOM) for edge in ("x", "y", "width", "height")) for box in boxes]
