"""The address of the bundle in its notebooks: their set-up cell and the buttons that open them in Colab.

It stands in pyproject.toml and nowhere else; python -m bundle.colab writes the rest from it when a fork has changed it.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
SETUP = """\
# Set-up, the same in all notebooks: $BUNDLE, ./bundle, here or above; else bundle.zip, here or on Drive, or the release
import os
import sys

HOMES = (os.environ.get("BUNDLE") or "bundle", ".", "..", "../..", sys.prefix + "/..")
BRING = "unzip -q bundle.zip || unzip -q drive/MyDrive/bundle.zip || {fetch}"  # noqa: E501
if not any(os.path.isfile(home + "/bundle/install.py") for home in HOMES) and os.system(BRING):
    raise FileNotFoundError("No bundle here: upload bundle.zip beside this notebook, or set BUNDLE to its folder.")
BUNDLE = next(os.path.abspath(home) for home in HOMES if os.path.isfile(home + "/bundle/install.py"))
sys.path.insert(0, BUNDLE)"""
FETCH = "GIT_TERMINAL_PROMPT=0 git clone -qb {release} {repository} bundle"
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
LINK = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\(([^)]*)\)")


def address(root: Path = ROOT) -> dict[str, str]:
    """ "repository" (https://github.com/OWNER/NAME) and "release" (a tag), from pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["bundle"]


def setup_cell(root: Path = ROOT) -> str:
    """Source of the set-up cell."""
    return SETUP.format(fetch=FETCH.format(**address(root)))


def button(name: str, root: Path = ROOT) -> str:
    """Markdown of the button that opens a notebook in Colab."""
    found = address(root)
    place = found["repository"].removeprefix("https://github.com/")
    path = f"{place}/blob/{found['release']}/notebooks/{name}.ipynb"
    return f"[![Open in Colab]({BADGE})](https://colab.research.google.com/github/{path})"


def write(root: Path = ROOT) -> None:
    """Write set-up cells and buttons into notebooks and README."""
    for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        title = notebook.cells[0]
        rest = LINK.sub("", title.source).strip()
        title.source = f"{button(path.stem, root)}\n\n{rest}"
        next(cell for cell in notebook.cells if "setup" in cell.metadata.get("tags", ())).source = setup_cell(root)
        nbformat.write(notebook, path)
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(LINK.sub(lambda _: button("01_data_exploration", root), text), encoding="utf-8")


if __name__ == "__main__":
    write()
