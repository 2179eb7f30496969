"""Build the pages, a Jupyter Book: results, studies, executed notebooks, model cards, reports. They need no network."""

from __future__ import annotations

import argparse
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bundle import colab
from bundle.results import RESULTS, ROOT, read, readme_table, studies_page

BOOK = Path(__file__).resolve().parent / "book"
OUT = ROOT / "report" / "site"
SILENT = "Sound left out: this is a recording. Where its licence allows, build the pages with --audio."


def add_arguments(verbs) -> None:
    """Declare `python -m bundle site`."""
    parser = verbs.add_parser("site", help="build the pages", description=__doc__)
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "latest", help="executed notebooks (%(default)s)")
    parser.add_argument("--audio", action="store_true", help="keep players of recordings: mind their licence")
    parser.set_defaults(call=command)


def command(options: argparse.Namespace) -> int:
    """Build the pages in report/site; 0 when they are there, 1 when something is missing."""
    try:
        print(build(OUT, options.run, options.audio))
    except (OSError, ValueError) as error:
        print(f"The pages were not built: {error}", file=sys.stderr)
        return 1
    return 0


def build(out: Path, run: Path, audio: bool = False) -> str:
    """Write the pages into `out`, whole or not at all, in place of what is there; returns a line on what was written.

    Parameters
    ----------
    out : Path
        Their folder.
    run : Path
        Executed notebooks, `<run>/<task>/NN_name.ipynb`. Where there are none, those of the bundle are shown.
    audio : bool
        Keep the players of recordings, too; those of the rendered demo data are always kept.

    Raises
    ------
    FileNotFoundError
        If there are no results.
    ChildProcessError
        If Jupyter Book is missing or fails; it has printed why.
    """
    out, run = out.resolve(), run.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        book = Path(scratch, "book")
        executed = write_sources(book, run, audio)
        program = "from jupyter_book.cli.main import main; main()"
        done = subprocess.run([sys.executable, "-c", program, "build", "--quiet", book], stdout=subprocess.DEVNULL)
        if done.returncode:
            raise ChildProcessError(
                f"Jupyter Book ended with exit code {done.returncode}; it says why above. Version 1 is needed: "
                "python -m pip install -r requirements-site.txt"
            )
        if out.exists():
            out.rename(Path(scratch, "old"))
        (book / "_build" / "html").rename(out)
    count = len(set(out.rglob("*.html")) - set(out.glob("_static/*")))
    missing = "" if executed else f"; no executed notebooks in {run}: `python -m bundle run` makes them"
    return f"{out / 'index.html'}: {count} pages{missing}"


def write_sources(book: Path, run: Path, audio: bool) -> bool:
    """Write the Markdown and notebooks of the book into a new folder; returns whether the notebooks were executed."""
    import jinja2

    shutil.copytree(BOOK, book)
    executed = sorted(run.glob("*/[0-9][0-9]_*.ipynb"))
    chapters: dict[str, list[str]] = {}
    for path in executed or sorted(ROOT.glob("notebooks/[0-9][0-9]_*.ipynb")):
        name = f"notebooks/{path.parent.name}/{path.name}"
        chapters.setdefault(f"Notebooks: {path.parent.name}" if executed else "Notebooks", []).append(name)
        (book / name).parent.mkdir(parents=True, exist_ok=True)
        text = notebook_text(path, {str(run): run.name, str(ROOT): "."}, audio)
        (book / name).write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / "weights", book / "cards", ignore=shutil.ignore_patterns("*.pt", "*.npz", "*.json"))
    reports = [path for path in sorted(ROOT.glob("report/*/*.pdf")) if path.stem == path.parent.name]
    (book / "reports").mkdir()
    for path in reports:
        shutil.copyfile(path, book / "reports" / path.name)
    results = read(RESULTS)
    index = jinja2.Template((book / "index.md").read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined)
    text = index.render(table=readme_table(results), executed=executed, reports=reports)
    (book / "index.md").write_text(text, encoding="utf-8")
    (book / "studies.md").write_text(studies_page(results), encoding="utf-8")
    parts = [{"caption": title, "chapters": [{"file": name} for name in names]} for title, names in chapters.items()]
    cards = {"file": "cards", "sections": [{"glob": "cards/*/*"}]}
    parts.append({"caption": "Results", "chapters": [{"file": "studies"}, cards]})
    (book / "_toc.yml").write_text(json.dumps({"format": "jb-book", "root": "index", "parts": parts}))
    return bool(executed)


def notebook_text(path: Path, places: dict[str, str], audio: bool) -> str:
    """A notebook's text for the book.

    Figures and players get names for those who cannot see them. What would ask the network for its code goes; the sound
    of recordings goes, too, unless `audio` is set. `places` replaces paths that only this machine has.
    """
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    parameters = notebook.metadata.pop("papermill", {}).get("parameters", {})
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells[:1]:  # a page loads no picture from elsewhere
        cell.source = colab.LINK.sub(lambda found: f"[Open in Colab]({found[1]})", cell.source)
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
