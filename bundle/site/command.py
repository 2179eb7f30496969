"""Build the pages, a Jupyter Book: results, studies, executed notebooks, model cards, reports. They need no network."""

from __future__ import annotations

import argparse
import html
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bundle.results import RESULTS, ROOT, read, readme_table, studies_page

BOOK = Path(__file__).resolve().parent / "book"
OUT = ROOT / "report" / "site"
LATEST = ROOT / "runs" / "latest"
MARK = ".pages"  # an empty file in a folder that we may replace
SILENT = "Sound left out: this is a recording. Where its licence allows, build the pages with --audio."


def add_arguments(verbs) -> None:
    """Declare `python -m bundle site`."""
    parser = verbs.add_parser("site", help="build the pages", description=__doc__)
    parser.add_argument("--run", type=Path, help="folder of executed notebooks (default: runs/latest)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the pages (%(default)s)")
    parser.add_argument("--audio", action="store_true", help="keep players of recordings: mind their licence")
    parser.set_defaults(call=command)


def command(options: argparse.Namespace) -> int:
    """Build the pages; 0 when they are there, 1 when something is missing, 2 when the command line makes no sense."""
    if options.run and not options.run.is_dir():
        print(f"--run: found no folder {options.run}, expected one that `python -m bundle run` wrote.", file=sys.stderr)
        return 2
    try:
        print(build(options.out, options.run or LATEST, audio=options.audio))
    except (OSError, ValueError) as error:
        print(f"The pages were not built: {error}", file=sys.stderr)
        return 1
    return 0


def build(out: Path, run: Path, audio: bool = False) -> str:
    """Write the pages into `out`, whole or not at all; returns a line on what was written.

    Parameters
    ----------
    out : Path
        Their folder. One that stands there already is replaced when it holds such pages.
    run : Path
        Executed notebooks, `<run>/<task>/NN_name.ipynb`. Where there are none, those of the bundle are shown.
    audio : bool
        Keep the players of recordings, too; those of the rendered demo data are always kept.

    Raises
    ------
    FileExistsError
        If `out` holds something else.
    FileNotFoundError
        If there are no results, or no Jupyter Book.
    ChildProcessError
        If Jupyter Book fails; it has printed why.
    """
    out, run = out.resolve(), run.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (out / MARK).is_file():
        raise FileExistsError(
            f"{out}: holds no pages built before, expected an empty or new folder. Remove it, or give another --out."
        )
    require_jupyter_book()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        book, pages, old = (Path(scratch) / name for name in ("book", "book/_build/html", "old"))
        executed = write_sources(book, run, audio)
        program = "from jupyter_book.cli.main import main; main()"
        done = subprocess.run([sys.executable, "-c", program, "build", "--quiet", book], stdout=subprocess.DEVNULL)
        if done.returncode:
            raise ChildProcessError(f"Jupyter Book ended with exit code {done.returncode}; it says why above.")
        (pages / MARK).touch()
        try:
            if out.exists():
                out.rename(old)
            pages.rename(out)
        finally:
            if old.exists() and not out.exists():
                old.rename(out)
    count = len(set(out.rglob("*.html")) - set(out.glob("_static/*")))
    missing = "" if executed else f"; no executed notebooks in {run}: `python -m bundle run` makes them"
    return f"{out / 'index.html'}: {count} pages{missing}"


def require_jupyter_book() -> None:
    """Raise FileNotFoundError where there is no Jupyter Book 1; version 2 is another program."""
    try:
        found = importlib.metadata.version("jupyter-book")
    except importlib.metadata.PackageNotFoundError:
        found = "none"
    if not found.startswith("1."):
        raise FileNotFoundError(
            f"jupyter-book: found {found}, expected version 1. "
            "Install it: python -m pip install -r requirements-site.txt"
        )


def write_sources(book: Path, run: Path, audio: bool) -> bool:
    """Write the Markdown and notebooks of the book into a new folder; returns whether the notebooks were executed."""
    import jinja2

    shutil.copytree(BOOK, book)
    executed = sorted(run.glob("*/[0-9][0-9]_*.ipynb"))
    chapters: dict[str, list[str]] = {}
    for path in executed or sorted(ROOT.glob("notebooks/[0-9][0-9]_*.ipynb")):
        name = f"notebooks/{path.parent.name}/{path.name}"
        chapters.setdefault(f"Notebooks: {path.parent.name}" if executed else "Notebooks", []).append(name)
        write(book / name, notebook_text(path, {str(run): run.name, str(ROOT): "."}, audio))
    for path in ROOT.glob("weights/*/*.md"):
        write(book / "cards" / path.parent.name / path.name, path.read_text(encoding="utf-8"))
    reports = [path for path in sorted(ROOT.glob("report/*/*")) if re.search(r"/(\w+)/\1\.(pdf|html)$", str(path))]
    (book / "reports").mkdir()
    for path in reports:
        shutil.copyfile(path, book / "reports" / path.name)
    results = read(RESULTS)
    index = jinja2.Template((book / "index.md").read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined)
    write(book / "index.md", index.render(table=readme_table(results), executed=executed, reports=reports))
    write(book / "studies.md", studies_page(results))
    parts = [{"caption": title, "chapters": [{"file": name} for name in names]} for title, names in chapters.items()]
    cards = {"file": "cards", "sections": [{"glob": "cards/*/*"}]}
    parts.append({"caption": "Results", "chapters": [{"file": "studies"}, cards]})
    write(book / "_toc.yml", json.dumps({"format": "jb-book", "root": "index", "parts": parts}))
    return bool(executed)


def write(path: Path, text: str) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def notebook_text(path: Path, places: dict[str, str], audio: bool) -> str:
    """A notebook's text for the book.

    Figures and players get names for those who cannot see them. What would ask the network for its code goes; the sound
    of recordings goes, too, unless `audio` is set. `places` replaces paths that only this machine has.
    """
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    parameters = notebook.metadata.pop("papermill", {}).get("parameters", {})
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        heard = "clip"
        drawn = ", ".join(re.findall(r"save_figure\(\w+, \"(\w+)\"", cell.source)).replace("_", " ")
        alt = f"Figure: {drawn or 'drawn by the code above'}. The text below says what it shows."
        cell.metadata["mystnb"] = {"image": {"alt": alt}}
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":
                heard = (output.text.strip() or heard).splitlines()[0]
            elif "<audio " in output.get("data", {}).get("text/html", ""):
                player = output.data["text/html"].replace("<audio ", f'<audio aria-label="{html.escape(heard)}" ')
                output.data = {"text/html": player if audio or parameters.get("DATA") == "demo" else SILENT}
            elif "data" in output:
                output.data.pop("application/vnd.jupyter.widget-view+json", None)
    text = nbformat.writes(notebook)
    for place, word in places.items():
        text = text.replace(place, word)
    return text
