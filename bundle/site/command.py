"""Build the pages: results, confusion matrices, clips to hear, executed notebooks. They need no network."""

from __future__ import annotations

import argparse
import html
import json
import os
import re
import shutil
import sys
from pathlib import Path

from bundle.results import ROOT

PAGES = Path(__file__).resolve().parent / "pages"
ASSETS = ("style.css", "script.js")
OUT = ROOT / "report" / "site"
LATEST = ROOT / "runs" / "latest"


def add_arguments(verbs) -> None:
    """Declare `python -m bundle site`."""
    parser = verbs.add_parser("site", help="build the pages", description=__doc__)
    parser.add_argument("--run", type=Path, help="folder of executed notebooks (default: runs/latest)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the pages (%(default)s)")
    parser.add_argument("--audio", action="store_true", help="copy clips of recordings too: mind their licence")
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


def build(out: Path, run: Path, bundle: Path = ROOT, audio: bool = False) -> str:
    """Write the pages into `out`, whole or not at all; returns a line on what was written.

    Parameters
    ----------
    out : Path
        Their folder. One that stands there already is replaced when it holds such pages.
    run : Path
        Executed notebooks, `<run>/<task>/NN_name.ipynb`.
    bundle : Path
        Where report/ and weights/ are.
    audio : bool
        Copy clips of recordings, too.

    Raises
    ------
    FileNotFoundError
        If there are no results.
    FileExistsError
        If `out` holds something else.
    """
    from bundle.site import parts as site_parts

    out, run = out.resolve(), run.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (out / ASSETS[0]).is_file():
        raise FileExistsError(
            f"{out}: holds no pages built before, expected an empty or new folder. Give another --out."
        )
    fresh, old = (out.with_name(f".{out.name}.{word}.{os.getpid()}") for word in ("new", "old"))
    shutil.rmtree(fresh, ignore_errors=True)  # of a process that was killed
    fresh.mkdir(parents=True)
    try:
        cards = {path.relative_to(bundle / "weights").with_suffix(""): path for path in bundle.glob("weights/*/*.md")}
        for name, path in sorted(cards.items()):
            write(fresh, f"cards/{name.as_posix()}.html", name.as_posix(), markdown(path.read_text(encoding="utf-8")))
        studies = bundle / "report" / "results" / "README.md"
        if studies.is_file():
            write(fresh, "studies.html", "Studies", markdown(studies.read_text(encoding="utf-8")))
        shown = []
        for one in site_parts.evaluations(bundle / "report" / "results"):
            clips, why_none = site_parts.examples(one, fresh, audio)
            parts = {"matrices": site_parts.matrices(one), "tags": site_parts.tags(one)}
            shown.append({"of": one, "clips": clips, "why_none": why_none, **parts})
        content = {
            "shown": shown,
            "notebooks": notebooks(fresh, run),
            "cards": sorted(cards),
            "studies": studies.is_file(),
            "reports": reports(fresh, bundle / "report"),
            "clip_seconds": site_parts.CLIP_SECONDS,
        }
        write(fresh, "index.html", "Audio classification: results", template="index.html", **content)
        for name in ASSETS:
            shutil.copyfile(PAGES / name, fresh / name)
        if out.exists():
            out.rename(old)
        fresh.rename(out)
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        for folder in (fresh, old):
            shutil.rmtree(folder, ignore_errors=True)
    files = [path for path in out.rglob("*") if path.is_file()]
    pages, clips = (sum(path.suffix == suffix for path in files) for suffix in (".html", ".flac"))
    size = sum(path.stat().st_size for path in files) / 2**20
    missing = "" if content["notebooks"] else f"; no executed notebooks in {run}: `python -m bundle run` makes them"
    return f"{out / 'index.html'}: {pages} pages, {clips} clips, {size:.1f} MiB{missing}"


def write(folder: Path, name: str, title: str, body: str = "", template: str = "page.html", **content) -> None:
    """Write one page of the site; `name` is its path in it."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = environment.get_template(template).render(
        title=title, up="../" * name.count("/"), body=Markup(body), **content
    )
    path.write_text(text, encoding="utf-8")


def notebooks(folder: Path, run: Path) -> list[dict]:
    """Write the page of every executed notebook; what the index says of each."""
    import nbformat

    rows = []
    for path in sorted(run.glob("*/[0-9][0-9]_*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        results = path.parent / "results" / f"{path.stem}.json"
        content = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else None
        score = content["metrics"][content["headline"]] if content else None
        title = re.match(r"#\s*(.+)", notebook.cells[0].source)
        title = title[1] if title else path.stem
        page = f"notebooks/{path.parent.name}/{path.stem}.html"
        body = page_of(notebook, {str(run): run.name, str(ROOT): "."})
        write(folder, page, f"{title} ({path.parent.name})", body)
        rows.append({"page": page, "title": title, "folder": path.parent.name, "results": content, "score": score})
    return rows


def page_of(notebook, places: dict[str, str]) -> str:
    """HTML of an executed notebook, without a page around it; `places` replaces paths that only this machine has."""
    from nbconvert import HTMLExporter

    for cell in notebook.cells:
        heard = "clip"
        drawn = re.findall(r"save_figure\(\w+, \"(\w+)\"\)", cell.source)
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":
                heard = (output.text.strip() or heard).splitlines()[0]
            elif "data" in output:
                output.data.pop("application/vnd.jupyter.widget-view+json", None)  # would ask the network for its code
                if "image/png" in output.data:
                    name = drawn.pop(0).replace("_", " ") if drawn else "drawn by the code above"
                    output.setdefault("metadata", {})["alt"] = f"Figure: {name}. The text below says what it shows."
                label = f'<audio aria-label="{html.escape(heard)}" '
                if "text/html" in output.data:
                    output.data["text/html"] = output.data["text/html"].replace("<audio ", label)
    body = HTMLExporter(template_name="basic", exclude_anchor_links=True).from_notebook_node(notebook)[0]
    for place, word in places.items():
        body = body.replace(place, word)
    return tables(body)


def markdown(text: str) -> str:
    """HTML of a Markdown file."""
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    return tables(MarkdownWithMath(renderer=IPythonRenderer(escape=True, exclude_anchor_links=True)).render(text))


def tables(body: str) -> str:
    """Give every table a caption (the words set off before it), scopes of its headings, and a box to scroll in."""
    parts = re.split(r"(<table[^>]*>)", body)
    for index in range(1, len(parts), 2):
        before = "".join(parts[:index])
        named = re.findall(r"<(?:h\d|strong)[^>]*>(.*?)</(?:h\d|strong)>", before) or ["Table"]
        caption = re.sub(r"<[^>]+>", "", named[-1])
        parts[index] = f'<div class="scroll">{parts[index]}<caption class="hidden">{caption}</caption>'
        parts[index + 1] = parts[index + 1].replace("<th>", '<th scope="col">').replace("</table>", "</table></div>")
    return "".join(parts)


def reports(folder: Path, report: Path) -> list[dict]:
    """Copy the documents that `python -m bundle report` made, PDF or HTML; what the index says of each."""
    rows = []
    for path in sorted(report.glob("*/*")):
        if path.suffix in (".pdf", ".html") and path.stem == path.parent.name:
            name = f"reports/{path.parent.name}/{path.name}"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
            kind = path.suffix[1:].upper()
            rows.append({"file": name, "title": path.parent.name, "kind": kind, "bytes": path.stat().st_size})
    return rows
