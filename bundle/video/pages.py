"""Pictures of HTML pages by headless Chromium: the film's pieces, and sections of executed notebooks."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path

import numpy as np

TALLEST = 16_000  # pixels: Chromium's pictures end a little above
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # pages are made of files alone
)  # fmt: skip
PARTS = {"piece": ".piece", "cell": ".jp-Cell", "prompt": ".jp-InputPrompt", "output": ".jp-Cell-outputWrapper"}
MEASURE = """<script>addEventListener("load", () => {
  const found = {};
  for (const [name, selector] of Object.entries(%s))
    found[name] = [...document.querySelectorAll(selector)].map(part => {
      const box = part.getBoundingClientRect();
      const full = part.scrollHeight > part.clientHeight + 1 || part.scrollWidth > part.clientWidth + 1;
      return [box.left, box.top, box.right, box.bottom, full, part.innerText.slice(0, 60)];
    });
  document.body.dataset.boxes = JSON.stringify(found);
});</script>"""
NOTEBOOK_STYLE = """<style>
  body { background: #fff; margin: 0; padding: 12px 10px !important; }
  .jp-Notebook { padding: 0; } .jp-Cell { padding: 5px 8px; } .jp-InputPrompt, .jp-OutputPrompt { min-width: 56px; flex: 0 0 56px; }
  .jp-MarkdownOutput, .jp-RenderedHTMLCommon { font-family: Film; font-size: 16px; line-height: 1.5; }
  pre, .jp-OutputArea-output pre { font-family: FilmMono !important; font-size: 14px !important; white-space: pre-wrap !important; }
  .jp-InputPrompt { font-family: FilmMono; font-size: 13px; } .jp-RenderedHTMLCommon :is(h1, h2) { margin-top: 4px; }
  .anchor-link { display: none; }
</style>"""  # noqa: E501


@dataclass(frozen=True)
class Picture:
    """A page's pixels, (height, width, 3) uint8, and where its parts are: by name, rows (left, top, right, bottom)."""

    pixels: np.ndarray
    boxes: dict[str, list[tuple[int, int, int, int]]]


def chromium() -> str:
    """Path of Chromium.

    Raises
    ------
    FileNotFoundError
        If there is none; the message says how to install it.
    """
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if not path:
        raise FileNotFoundError(
            f"Chromium, which draws the film's pages, is missing (looked for {', '.join(PROGRAMS)}). Debian: "
            "apt install chromium; elsewhere install Chromium or Chrome and set CHROMIUM to its path."
        )
    return path


def shoot(page: str, width: int, tallest: int = TALLEST, scale: float = 1.0) -> Picture:
    """Draw an HTML page.

    Parameters
    ----------
    page : str
        Complete HTML; files are named by file: addresses.
    width, tallest : int
        Of the picture, in pixels; below the lowest part it is cut off.
    scale : float
        Pixels per CSS pixel: text is larger, and fewer words stand in a line.

    Raises
    ------
    RuntimeError
        If Chromium draws nothing.
    ValueError
        If a piece's text does not fit into it, or the page is too tall.
    """
    from PIL import Image

    page = page.replace("</head>", f"<style>{fonts()}</style></head>", 1)
    page = page.replace("</body>", MEASURE % json.dumps(PARTS) + "</body>", 1)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        source, target = Path(scratch) / "page.html", Path(scratch) / "page.png"
        source.write_text(page, encoding="utf-8")
        size = f"--window-size={round(width / scale)},{round(tallest / scale)}"
        command = [chromium(), *QUIET, f"--user-data-dir={scratch}/profile", f"--force-device-scale-factor={scale}"]
        command += [size, f"--screenshot={target}", "--dump-dom", source.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300)
        found = re.search(r'<body[^>]* data-boxes="([^"]*)"', done.stdout)
        if not found or not target.is_file():
            raise RuntimeError(f"{command[0]} drew no page (exit code {done.returncode}): {done.stderr.strip()[-300:]}")
        pixels = np.asarray(Image.open(target).convert("RGB"))
    rows = json.loads(unescape(found[1]))
    for *_, full, text in rows["piece"]:
        if full:
            raise ValueError(f"The film's script: {text!r} … is too long for its place on the screen. Shorten it.")
    boxes = {name: [tuple(round(edge * scale) for edge in row[:4]) for row in part] for name, part in rows.items()}
    lowest = max((bottom for part in boxes.values() for *_, bottom in part), default=0)
    if lowest > tallest:
        raise ValueError(f"A page is {lowest} pixels tall, at most {tallest} are drawn: show a shorter section.")
    return Picture(pixels[:lowest], boxes)


def fonts() -> str:
    """CSS of the typefaces that matplotlib ships."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    faces = (
        ("Film", "normal", "DejaVuSans"),
        ("Film", "bold", "DejaVuSans-Bold"),
        ("FilmMono", "normal", "DejaVuSansMono"),
    )
    return "".join(
        f"@font-face {{ font-family: {name}; font-weight: {weight}; src: url('{(folder / file).as_uri()}.ttf'); }}"
        for name, weight, file in faces
    )


def as_html(text: str) -> str:
    """Plain text as HTML; an interval and a percentage stay in one line."""
    return escape(text).replace("–", "&NoBreak;–&NoBreak;").replace(" %", "&nbsp;%")


def pieces(parts: list[tuple[str, str]], width: int, height: int) -> list[np.ndarray]:
    """Pictures of pieces of one size, each (its classes in video.css, its HTML); as many pages as it takes."""
    style = Path(__file__).with_name("video.css").read_text(encoding="utf-8")
    style += f".piece {{ width: {width}px; height: {height}px; }}"
    found: list[np.ndarray] = []
    while len(found) < len(parts):
        chunk = parts[len(found) : len(found) + TALLEST // height]
        page = f"<!doctype html><html lang=en><head><meta charset=utf-8><style>{style}</style></head><body>"
        page += "".join(f'<div class="piece {classes}">{content}</div>' for classes, content in chunk)
        picture = shoot(page + "</body></html>", width, height * len(chunk))
        found += [picture.pixels[top:bottom, left:right] for left, top, right, bottom in picture.boxes["piece"]]
    return found


def section(notebook: Path, heading: str):
    """The cells of an executed notebook from a heading to the next one, as a notebook.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such notebook or heading, or its cells were not executed.
    """
    import nbformat

    if not notebook.is_file():
        raise FileNotFoundError(f"{notebook}: found no executed notebook. Make it with python -m bundle run.")
    whole = nbformat.read(notebook, as_version=4)
    kept, inside, headings = [], False, []
    for cell in whole.cells:
        if cell.cell_type != "markdown":
            kept += [cell] * inside
            continue
        for part in re.split(r"^(?=#{1,3} )", cell.source, flags=re.MULTILINE):
            if mark := re.match(r"#{1,3} (.*)", part):
                headings.append(mark[1].strip())
                inside = headings[-1] == heading
            if inside and part.strip():
                kept.append(copy.deepcopy(cell))
                kept[-1].source = part
    if not kept:
        raise ValueError(f"{notebook}: found no section {heading!r}; there are: {'; '.join(headings)}.")
    if any(cell.cell_type == "code" and cell.execution_count is None for cell in kept):
        raise ValueError(f"{notebook}: section {heading!r} was not executed to its end. python -m bundle run")
    whole.cells = kept
    return whole


def draw_section(notebook: Path, heading: str, width: int, scale: float) -> Picture:
    """A section of an executed notebook, as nbconvert shows it."""
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter(template_name="lab").from_notebook_node(section(notebook, heading))
    page = re.sub(r"<script[^>]*></script>|<script[^>]*src=.*?</script>", "", page, flags=re.DOTALL)
    return shoot(page.replace("</head>", NOTEBOOK_STYLE + "</head>", 1), width, scale=scale)
