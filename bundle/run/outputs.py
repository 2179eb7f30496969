"""Execute the notebooks as they are and keep their outputs in them: python -m bundle.run.outputs (make notebooks).

A reader in GitHub or Colab then meets figures under the words. Sound, paths of this machine and the states of widgets
are left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat

from bundle.results import ROOT
from bundle.run.one import execute
from helpers.files import replacing

SOUND = "Run this cell to hear the clip."


def clean(notebook: nbformat.NotebookNode, places: dict[str, str]) -> None:
    """Take out of an executed notebook what others cannot use; `places` replaces paths that only this machine has."""
    notebook.metadata.pop("papermill", None)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            if "<audio " in output.get("data", {}).get("text/html", ""):
                output.data = {"text/plain": SOUND}
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
            for place, word in places.items():
                if "text" in output:
                    output.text = output.text.replace(place, word)


def renew(path: Path) -> None:
    """Execute one notebook in its folder, with the parameters it has, and put its outputs into it."""
    notebook = execute(path, None, {})
    clean(notebook, {str(ROOT): "."})
    with replacing(path) as temporary:
        nbformat.write(notebook, temporary)


def main() -> None:
    """Renew those whose names begin as the command line says; all without a word."""
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        if len(sys.argv) == 1 or path.name.startswith(tuple(sys.argv[1:])):
            print(path.name, flush=True)
            renew(path)


if __name__ == "__main__":
    main()
