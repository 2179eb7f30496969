"""Pictures of pages by headless Chromium: the film's frames, and sections of executed notebooks."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jinja2
import numpy as np

from bundle.report.templates import FILTERS, KNOWN
from bundle.video.film import CONTENT, FACE, HEIGHT, WIDTH
from bundle.video.script import PARTS, Scene

TALLEST = 16_000  # pixels: Chromium's pictures end a little above
TOO_FULL = """() => {
  const full = part => part.scrollHeight > part.clientHeight + 1 || part.scrollWidth > part.clientWidth + 1;
  return [...document.querySelectorAll("body > *")].filter(full).map(part => part.innerText.slice(0, 60));
}"""
KEEP_SECTION = """heading => {
  const found = [];
  for (const cell of document.querySelectorAll(".jp-Cell")) {
    const text = cell.querySelector(".jp-RenderedMarkdown");
    for (const part of text ? [...text.children] : []) {
      if (/^H[123]$/.test(part.tagName)) found.push(part.textContent.replace("¶", "").trim());
      if (found.at(-1) != heading) part.remove();
    }
    if (text ? !text.children.length : found.at(-1) != heading) cell.remove();
  }
  return found;
}"""
BOXES = """cells => cells.map(cell => [cell, ...cell.querySelectorAll(".jp-InputPrompt, .jp-Cell-outputWrapper")].map(
  part => { const box = part.getBoundingClientRect(); return [box.left, box.top, box.right, box.bottom]; }))"""


@contextmanager
def chromium() -> Iterator:
    """Playwright's browser.

    Raises
    ------
    FileNotFoundError
        If there is no Chromium; the message says how to install it.
    RuntimeError
        If it draws nothing.
    """
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


@contextmanager
def opened(browser, html: str, width: int, height: int, scale: float = 1.0) -> Iterator:
    """A page in the film's style, without a network, on a screen of so many pixels; `scale` of them are one of CSS."""
    import matplotlib

    style = Path(__file__).with_name("video.css").read_text(encoding="utf-8")
    fonts = Path(matplotlib.get_data_path(), "fonts", "ttf").as_uri()
    screen = {"width": round(width / scale), "height": round(height / scale)}
    with (
        tempfile.TemporaryDirectory() as scratch,
        browser.new_page(viewport=screen, device_scale_factor=scale, offline=True) as page,
    ):
        path = Path(scratch, "page.html")  # a page that is no file may not show files
        path.write_text(html, encoding="utf-8")
        page.goto(path.as_uri())
        page.add_style_tag(content=style.replace("FONTS", fonts))
        page.evaluate("document.fonts.ready.then(() => 0)")
        yield page


def pixels(picture: bytes) -> np.ndarray:
    """A PNG's pixels, (height, width, 3) uint8."""
    from PIL import Image

    return np.array(Image.open(io.BytesIO(picture)).convert("RGB"))


def stills(browser, scene: Scene, **shown) -> list[bytes]:
    """A scene's frames as PNG, one for each caption, without what moves.

    Raises
    ------
    ValueError
        If a text does not fit into its place.
    """
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=True, finalize=unbroken)
    environment.filters |= FILTERS
    environment.globals |= {**KNOWN, "PARTS": PARTS, "CONTENT": CONTENT, "FACE": FACE}
    template = environment.from_string(Path(__file__).with_name("frame.html").read_text(encoding="utf-8"))
    pictures = []
    for caption in scene.captions:
        with opened(browser, template.render(shown, scene=scene, caption=caption), WIDTH, HEIGHT) as page:
            for text in page.evaluate(TOO_FULL):
                raise ValueError(f"The film's script: {text!r} … is too long for its place on the screen. Shorten it.")
            pictures.append(page.screenshot())
    return pictures


def unbroken(value):
    """An interval and a percentage stay in one line."""
    return value.replace("–", "\u2060–\u2060").replace(" %", "\u00a0%") if isinstance(value, str) else value


def section(browser, notebook: Path, heading: str, width: int, scale: float) -> tuple[np.ndarray, list]:
    """An executed notebook from a heading to the next one, as nbconvert shows it.

    Returns
    -------
    picture : ndarray, (height, width, 3) uint8
    boxes : list
        For each cell rows (left, top, right, bottom) in pixels: its own, its number's, its output's.

    Raises
    ------
    ValueError
        If there is no such heading, its cells were not executed, or there are too many of them.
    """
    from nbconvert import HTMLExporter

    html, _ = HTMLExporter(template_name="lab").from_filename(notebook)
    with opened(browser, html, width, 100, scale) as page:
        headings = page.evaluate(KEEP_SECTION, heading)
        if heading not in headings:
            raise ValueError(f"{notebook}: found no section {heading!r}; there are: {'; '.join(headings)}.")
        if page.locator(".jp-InputPrompt", has_text="[ ]").count():
            raise ValueError(f"{notebook}: section {heading!r} was not executed to its end. python -m bundle run")
        picture = pixels(page.screenshot(full_page=True))
        boxes = page.locator(".jp-Cell").evaluate_all(BOXES)
    if len(picture) > TALLEST:
        raise ValueError(f"{notebook}: section {heading!r} is too long for a picture: show a shorter one.")
    return picture, [[[round(edge * scale) for edge in box] for box in cell] for cell in boxes]
