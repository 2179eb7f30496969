"""python -m bundle site: the book says what the results say, opens from disk, and gives away no sound and no path."""

import argparse
import base64
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_output

from bundle.__main__ import main
from bundle.results import RESULTS, ROOT, read, readme_table
from bundle.run import command as run
from bundle.site import command as site

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NOTEBOOK = ROOT / "notebooks" / "01_data_exploration.ipynb"
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # a PNG
SOUND = base64.b64encode(b"RIFF" + b"sound" * 20).decode()


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A run of the demo and of recordings, with outputs of every kind that notebooks have."""
    folder = tmp_path_factory.mktemp("run").resolve()
    for data in ("demo", "recordings"):
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        path = folder / data / NOTEBOOK.name
        notebook.metadata.papermill = {"parameters": {"DATA": data}, "output_path": str(path)}
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for cell in code:
            cell.outputs = []
        code[0].outputs = [new_output("stream", text=f"written to {path.parent}, from {ROOT}/data\n" + "wide " * 60)]
        code[1].source = 'save_figure(figure, "class_balance")'
        player = f'<audio controls><source src="data:audio/wav;base64,{SOUND}">'
        widget = {"text/plain": "a bar", "application/vnd.jupyter.widget-view+json": {"model_id": "0"}}
        code[1].outputs = [new_output("display_data", {"image/png": DOT, "text/plain": "<Figure>"})]
        shown = [new_output("display_data", content) for content in ({"text/html": player}, widget)]
        code[2].outputs = [new_output("stream", text="a <clip> & more\n"), *shown]
        code[3].outputs = [new_output("error", ename="E", evalue="e", traceback=["\x1b[0;31mE\x1b[0m: wrong"])]
        path.parent.mkdir()
        nbformat.write(notebook, path)
    return folder


@pytest.fixture(scope="module")
def pages(executed, tmp_path_factory):
    """The pages of that run, by name, as the command builds them."""
    pytest.importorskip("jupyter_book", reason="jupyter-book is not installed (requirements-site.txt)")
    out = tmp_path_factory.mktemp("out").resolve() / "site"
    program = (
        "import sys, pathlib; from bundle.site.command import build; print(build(*map(pathlib.Path, sys.argv[1:])))"
    )
    done = subprocess.run([sys.executable, "-c", program, out, executed], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), "Jupyter Book fails or Sphinx warns"
    found = {path.relative_to(out).as_posix(): path for path in out.rglob("*.html") if "_static" not in path.parts}
    assert done.stdout == f"{out}/index.html: {len(found)} pages\n"
    return found


def parse(path: Path) -> BeautifulSoup:
    """The elements of a page."""
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def test_pages_open_from_disk_without_an_error_and_fit_a_telephone(pages):
    if not CHROMIUM:
        pytest.skip("no Chromium here (Debian: apt install chromium): pages are not opened")
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (requirements-test.txt)")
    problems, asked = [], []
    with driver.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 360, "height": 740})
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        chosen = [name for name in pages if not name.startswith("cards/")] + ["cards/nsynth-demo/mel_cnn.html"]
        assert len(chosen) == 7
        for name in chosen:
            page.goto(pages[name].as_uri())
            assert page.title().endswith("Audio classification"), name
            assert page.evaluate("document.documentElement.scrollWidth") == 360, name
            assert problems == [], name
        browser.close()
    assert len(asked) > 2 * len(chosen)
    assert {urlsplit(url).scheme for url in asked} <= {"file", "data"}


def test_every_link_leads_to_a_file_and_every_fragment_to_a_place(pages):
    parsed = {path: parse(path) for path in pages.values()}
    followed = set()
    for path, page in parsed.items():
        for element in page.select("[href], [src]"):
            link = urlsplit(element.get("href") or element.get("src") or "")
            if link.scheme == "data" or link.netloc == "colab.research.google.com":  # to click, not asked by the page
                continue
            assert link.scheme + link.netloc == "", f"{path}: {element}"
            target = (path.parent / unquote(link.path)).resolve() if link.path else path
            assert target.is_file(), f"{path}: {element}"
            assert not link.fragment or parsed[target].find(id=link.fragment), f"{path}: {element}"
            followed.add(target.name)
    assert followed >= {"ieee.pdf", "slides.pdf", "studies.html", "mel_cnn_en-es.html", "01_data_exploration.html"}


def test_the_index_shows_the_results(pages):
    rows = [line.strip("| ").split(" | ") for line in readme_table(read(RESULTS)).splitlines()[2:]]
    assert len(rows) == 3
    page = parse(pages["index.html"])
    assert [cell.get_text(strip=True) for cell in page.select("td")] == [cell for row in rows for cell in row]
    assert "say nothing about real recordings" in page.get_text()
    assert "The notebooks are one run’s" in page.get_text()


def test_notebooks_name_figures_and_sounds_and_show_no_path_of_this_machine(pages, executed):
    page = parse(pages[f"notebooks/demo/{NOTEBOOK.stem}.html"])
    assert [player["aria-label"] for player in page.select("audio")] == ["a <clip> & more"]
    alts = [image.get("alt") for image in page.select("img")]
    assert alts == ["Figure: class balance. The text below says what it shows."]
    assert f"written to {executed.name}/demo, from ./data" in page.get_text()
    for path in pages["index.html"].parent.rglob("*"):
        for word in (str(executed.parent), str(ROOT), "widget-view") if path.is_file() else ():
            assert word.encode() not in path.read_bytes(), path


def test_recordings_are_heard_only_when_asked(pages, executed, tmp_path):
    for folder, heard in (("demo", True), ("recordings", False)):
        text = pages[f"notebooks/{folder}/{NOTEBOOK.stem}.html"].read_text(encoding="utf-8")
        assert (SOUND in text, "Sound left out: this is a recording" in text) == (heard, not heard)
    unknown = nbformat.read(executed / "demo" / NOTEBOOK.name, as_version=4)
    del unknown.metadata["papermill"]  # nothing says on what data it was run
    nbformat.write(unknown, tmp_path / "unknown.ipynb")
    assert SOUND not in site.notebook_text(tmp_path / "unknown.ipynb", {}, audio=False)
    assert SOUND in site.notebook_text(tmp_path / "unknown.ipynb", {}, audio=True)


def test_pages_are_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch, capsys):
    ends = {"with": 0}  # what the replaced Jupyter Book, which writes one page, ends with

    def write(command, **_):
        (command[-1] / "_build" / "html").mkdir(parents=True)
        shutil.copy(command[-1] / "index.md", command[-1] / "_build" / "html" / "index.html")
        return SimpleNamespace(returncode=ends["with"])

    out, none = tmp_path / "site", tmp_path / "none"
    monkeypatch.setattr(site.subprocess, "run", write)
    monkeypatch.setattr(site, "OUT", out)
    assert main(["site", "--run", str(none)]) == 0
    assert f"no executed notebooks in {none}: `python -m bundle run` makes them" in capsys.readouterr().out
    assert "No notebook had been run" in (out / "index.html").read_text(encoding="utf-8")
    (out / "left over").write_text("")
    ends["with"] = 2
    assert main(["site"]) == 1
    said = capsys.readouterr().err
    assert "Jupyter Book ended with exit code 2" in said
    assert "python -m pip install -r requirements-site.txt" in said
    monkeypatch.setattr(site, "RESULTS", tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no results, expected <task>-<data>/"):
        site.build(out, none)
    monkeypatch.setattr(site, "RESULTS", RESULTS)
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "left over"]
    ends["with"] = 0
    site.build(out, none)
    assert [path.name for path in out.iterdir()] == ["index.html"]
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_run_builds_the_pages_when_asked(tmp_path, monkeypatch, capsys):
    parser = argparse.ArgumentParser()
    run.add_arguments(parser.add_subparsers())
    built = []
    monkeypatch.setattr(run, "execute", lambda *given, **named: [])
    monkeypatch.setattr(run, "prepare", lambda *given: None)
    monkeypatch.setattr(site, "build", lambda *given: built.append(given) or "index.html: 1 page")
    for asked in ([], ["--site"]):
        options = parser.parse_args(["run", "--notebook", "01", "--out", str(tmp_path), *asked])
        assert run.command(options) == 0
    assert built == [(site.OUT, tmp_path, False)]
    assert "index.html: 1 page" in capsys.readouterr().out
