"""python -m bundle site: the pages say what the results say, work from disk, by keyboard, in light and dark."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from IPython.display import Audio
from nbformat.v4 import new_output

from bundle.run import command as run
from bundle.site import command as site
from bundle.site import parts as site_parts
from helpers import metrics
from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync", "--mute-audio"]
MODELS = ("mel_cnn", "svm")


def results_of(dataset, parameters: dict, notebook: str, folder: Path) -> dict:
    """Write results as a notebook would, with invented predictions."""
    draw, targets = np.random.default_rng(0), dataset.test.targets.copy()
    if targets.ndim == 2:
        targets[:, 0] = 0  # a tag that cannot be scored
    member = targets if targets.ndim == 2 else np.eye(len(dataset.classes))[targets]
    values = {model: 0.3 * member + draw.random(member.shape) for model in MODELS}
    values = {model: (value / value.sum(axis=1, keepdims=True)).astype(np.float32) for model, value in values.items()}
    scores = {
        f"{model}_{name}": score
        for model, value in values.items()
        for name, score in metrics.scores(value, targets, dataset.test.groups).items()
    }
    results = {
        "notebook": notebook, "task": dataset.task.name, "data": dataset.name, "mode": "infer", "metrics": scores,
        "parameters": {"CLASSES": ""} | parameters, "headline": f"mel_cnn_{dataset.task.headline}",
        "classes": list(dataset.classes), "data_digest": dataset.digest, "weights_digest": dict.fromkeys(MODELS, ""),
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / f"{notebook}.json").write_text(json.dumps(results))
    clips = {"names": dataset.test.names, "groups": dataset.test.groups, "targets": targets}
    np.savez(folder / f"{notebook}.npz", **clips, **values)
    return results


def execute(source: Path, target: Path) -> None:
    """A notebook with outputs of every kind ours have, as if it had been executed."""
    notebook = nbformat.read(source, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    figure = plt.figure(figsize=(2, 1))
    image = target.parent / "figure.png"
    image.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(image)
    plt.close(figure)
    drawn = {"image/png": base64.b64encode(image.read_bytes()).decode(), "text/plain": "<Figure>"}
    heard = {"text/html": Audio(np.sin(np.arange(2000) / 5), rate=8000)._repr_html_(), "text/plain": "<Audio>"}
    code[0].outputs = [new_output("stream", text=f"written to {target.parent}/results\n")]
    code[1].outputs = [new_output("stream", text="a <clip> & more\n" + "wide " * 60), new_output("display_data", heard)]
    code[2].outputs = [new_output("display_data", drawn), new_output("display_data", {
        "text/html": "<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>",
        "application/vnd.jupyter.widget-view+json": {"model_id": "0"},
    })]  # fmt: skip
    code[3].outputs = [new_output("error", ename="E", evalue="e", traceback=["\x1b[0;31mE\x1b[0m: wrong"])]
    code[4].outputs = [new_output("stream", name="stderr", text="a warning")]
    nbformat.write(notebook, target)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, load_toy, toy):
    """A bundle with results on the toy data (as recordings) and on "demo", cards, a report, and a run."""
    folder = tmp_path_factory.mktemp("bundle")
    results = folder / "report" / "results"
    for task in TASKS:
        results_of(load_toy(task), {"DATA": str(toy / task)}, "05_evaluation", results / f"{task}-{task}")
    some = load_toy("languages", "en,es")
    results_of(some, {"DATA": "demo", "CLASSES": "en,es"}, "04_mel_cnn", results / "languages-demo-en-es")
    shutil.copy(ROOT / "report/results/README.md", results)
    for name in ("mel_cnn", "mel_cnn_en-es"):
        card = folder / "weights" / "languages-languages" / f"{name}.md"
        card.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "weights/languages-demo" / card.name, card)
    (folder / "report" / "ieee").mkdir()
    (folder / "report" / "ieee" / "ieee.pdf").write_bytes(b"%PDF-1.4\n")
    for source in (ROOT / "notebooks" / f"{run.NOTEBOOKS[number]}.ipynb" for number in (0, 2, 4)):
        execute(source, folder / "runs" / "first" / "languages" / source.name)
    kept = folder / "runs" / "first" / "languages" / "results"
    shutil.copytree(results / "languages-languages", kept)
    return folder


@pytest.fixture(scope="module")
def pages(bundle):
    """The pages of that bundle with its clips; by name the HTML of each."""
    out = bundle / "report" / "site"
    said = site.build(out, bundle / "runs" / "first", bundle, audio=True)
    assert said.startswith(f"{out}/index.html: 7 pages, ")
    return {path.relative_to(out).as_posix(): path for path in out.rglob("*.html")}


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    if not CHROMIUM:
        pytest.skip("no Chromium here (Debian: apt install chromium): pages are not opened")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (requirements-test.txt)"
    )
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, request):
    """An empty page; indirect parameters are the browser's, such as its colour scheme."""
    context = browser.new_context(**getattr(request, "param", {}))
    yield context.new_page()
    context.close()


class Elements(HTMLParser):
    """All elements of a page in order: (name, attributes)."""

    def __init__(self, path: Path):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def values(self, name: str) -> list[str]:
        """Every value of an attribute."""
        return [attributes[name] for _, attributes in self.found if name in attributes]


def test_every_page_opens_without_an_error_and_without_the_network(pages, page):
    problems, asked = [], []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    for name, path in pages.items():
        page.goto(path.as_uri())
        assert page.title(), name
        assert problems == [], name
    assert len(asked) > 2 * len(pages)
    assert {urlsplit(url).scheme for url in asked} <= {"file", "data"}


def test_every_link_leads_to_a_file_and_every_fragment_to_a_place(pages):
    followed = 0
    for path in pages.values():
        for link in Elements(path).values("href") + Elements(path).values("src"):
            parts = urlsplit(link)
            if parts.scheme == "data":
                continue
            assert parts.scheme == "", f"{path}: {link}"
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path}: {link}"
            assert not parts.fragment or parts.fragment in Elements(target).values("id"), f"{path}: {link}"
            followed += 1
    assert followed > 80


def test_every_page_is_built_for_screen_readers(pages):
    for name, path in pages.items():
        elements = Elements(path)
        tags = [tag for tag, _ in elements.found]
        levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h\d", tag)]
        assert levels[0] == 1, name
        assert levels.count(1) == 1, name
        assert all(after <= before + 1 for before, after in pairwise(levels)), name
        assert elements.found[0] == ("html", {"lang": "en"}), name
        assert [tags.count(tag) for tag in ("main", "header", "nav")] == [1, 1, 1], name
        assert tags.count("table") == tags.count("caption"), name
        assert len(elements.values("id")) == len(set(elements.values("id"))), name
        for tag, attributes in elements.found:
            assert tag != "th" or attributes.get("scope") in ("col", "row"), name
            assert tag != "img" or attributes["alt"].startswith("Figure: "), name
            assert tag != "audio" or attributes.get("aria-label"), name


def test_figures_and_sounds_of_notebooks_have_names_and_paths_do_not_show(pages, bundle):
    text = pages["notebooks/languages/05_evaluation.html"].read_text(encoding="utf-8")
    assert 'aria-label="a &lt;clip&gt; &amp; more"' in text
    assert "written to first/languages/results" in text
    for name, path in pages.items():
        assert str(bundle) not in path.read_text(encoding="utf-8"), name


def test_the_index_shows_the_results_and_says_when_they_are_rendered(pages, bundle, page):
    page.goto(pages["index.html"].as_uri())
    rows = page.locator("table >> nth=0").locator("tbody tr").all_inner_texts()
    assert len(rows) == 4 * len(MODELS)
    seen = 0
    for path in sorted((bundle / "report/results").glob("*/0*.json")):
        results = json.loads(path.read_text())
        title = f"{results['task']} {results['parameters']['CLASSES']}".strip()
        data = "rendered demo" if "demo" in path.parent.name else results["data"]
        for model in MODELS:
            score = results["metrics"][f"{model}_{TASKS[results['task']].headline}"]
            (row,) = [row.split("\t") for row in rows if row.split("\t")[:3] == [title, data, model]]
            assert row[4:8] == [
                f"{score['value']:.3f}", f"{score['low']:.3f} – {score['high']:.3f}", f"{score['chance']:.3f}",
                str(score["n"]),
            ]  # fmt: skip
            seen += 1
    assert seen == len(rows)
    assert "say nothing about real recordings" in page.inner_text("main")
    assert page.locator("h2", has_text="en, es only; rendered demo data").count() == 1
    for link in ("cards/languages-languages/mel_cnn.html", "reports/ieee/ieee.pdf", "studies.html"):
        assert page.locator(f"a[href='{link}']").count() == 1 + link.startswith("cards")


def test_players_play(pages, page):
    page.goto(pages["index.html"].as_uri())
    played = page.evaluate("""async () => {
      const heard = [];
      for (const player of document.querySelectorAll("audio")) {
        player.muted = true;
        await player.play();
        while (player.currentTime === 0) await new Promise((resume) => setTimeout(resume, 5));
        heard.push([player.duration, player.getAttribute("aria-label")]);
        player.pause();
      }
      return heard;
    }""")
    assert len(played) > 30
    assert {round(seconds, 3) for seconds, _ in played} == {4.0, 5.0, 10.0}
    assert "de, hardest clip" in [label for _, label in played]


def test_clips_are_what_the_model_heard(pages, bundle, load_toy):
    import soundfile

    out = pages["index.html"].parent
    test = load_toy("nsynth").test
    files = sorted((out / "audio" / "nsynth-nsynth").iterdir())
    assert len(files) > 10
    for path in files:
        wave, rate = soundfile.read(path, dtype="float32")
        assert rate == 16_000
        assert np.abs(wave - test.take([int(path.stem)])[0]).max() < 1e-4


def test_tables_sort_by_mouse_and_by_keyboard(pages, page):
    page.goto(pages["index.html"].as_uri())
    table = page.locator("table.sortable", has_text="ROC-AUC by tag")
    head = table.locator("th", has_text="svm")
    column = 4

    def shown() -> list[str]:
        return table.locator(f"tbody tr > :nth-child({column})").all_inner_texts()

    before = shown()
    missing, values = before.count("–"), sorted(float(text) for text in before if text != "–")
    assert missing
    assert [text for text in before if text != "–"] != [f"{value:.3f}" for value in values]
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert shown() == [f"{value:.3f}" for value in values] + ["–"] * missing
    page.keyboard.press("Enter")  # the button has the focus
    assert head.get_attribute("aria-sort") == "descending"
    assert shown() == [f"{value:.3f}" for value in values[::-1]] + ["–"] * missing
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    assert table.locator("[aria-sort]").all_inner_texts() == ["Tag"]
    tags = table.locator("tbody th").all_inner_texts()
    assert tags == sorted(TASKS["magnatagatune"].classes)


def test_a_cell_is_read_in_words_by_mouse_and_by_keyboard(pages, bundle, page):
    page.goto(pages["index.html"].as_uri())
    stored = np.load(bundle / "report/results/nsynth-nsynth/05_evaluation.npz")
    counts, classes = metrics.confusion(stored["mel_cnn"], stored["targets"]), TASKS["nsynth"].classes

    def words(true: int, predicted: int) -> str:
        clips = counts[true].sum()
        share = f"{counts[true, predicted]} of {clips} ({100 * counts[true, predicted] / clips:.0f} %)"
        return f"true {classes[true]}, predicted {classes[predicted]}: {share if clips else 'no test clip'}"

    matrix = page.locator("section", has=page.locator("#nsynth-nsynth")).locator("details").first
    readout, cells = matrix.locator(".readout"), matrix.locator("[role=grid] td[style]")
    assert cells.count() == len(classes) ** 2
    assert [int(text) for text in cells.all_inner_texts()] == counts.ravel().tolist()
    cells.nth(2 * len(classes) + 1).hover()
    assert readout.inner_text() == words(2, 1)
    matrix.locator("summary").focus()
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement.tagName") != "TD":  # a box that scrolls stops the Tab key, too
        page.keyboard.press("Tab")
    assert readout.inner_text() == words(0, 0)
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowUp", "ArrowUp", "ArrowLeft"):
        page.keyboard.press(key)
    assert readout.inner_text() == words(0, 1)
    assert page.evaluate("document.activeElement.ariaLabel") == words(0, 1)
    page.keyboard.press("End")
    assert readout.inner_text() == words(0, len(classes) - 1)
    lead = classes.index("synth_lead")
    cells.nth(lead * len(classes)).hover()
    assert readout.inner_text() == "true synth_lead, predicted bass: no test clip"


CONTRAST = """() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return context.getImageData(0, 0, 1, 1).data;
  };
  const luminance = (colour) => {
    const linear = (v) => v <= 10 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = [...rgba(colour)].map(linear);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  for (const details of document.querySelectorAll("details")) { details.removeAttribute("name"); details.open = true; }
  const found = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest("audio, script")) continue;
    let box = element;
    while (box.parentElement && rgba(getComputedStyle(box).backgroundColor)[3] === 0) box = box.parentElement;
    const pair = [getComputedStyle(element).color, getComputedStyle(box).backgroundColor];
    const [one, other] = pair.map(luminance);
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    found.set(pair.join(" on "), [ratio, luminance(pair[1]), element.outerHTML.slice(0, 80)]);
  }
  return [...found.entries()];
}"""


@pytest.mark.parametrize("page", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True)
def test_text_stands_out_in_light_and_in_dark(pages, page):
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    kinds = set()
    for name, path in pages.items():
        page.goto(path.as_uri())
        for pair, (ratio, background, element) in page.evaluate(CONTRAST):
            assert ratio >= 4.5, f"{name}: {pair} has {ratio:.2f}: {element}"
            assert (background < 0.2) == dark, f"{name}: {pair}: {element}"
            kinds.add(pair)
    assert len(kinds) > 12


@pytest.mark.parametrize("page", [{"viewport": {"width": 360, "height": 740}}], indirect=True)
def test_nothing_sticks_out_of_a_narrow_window(pages, page):
    for name, path in pages.items():
        page.goto(path.as_uri())
        page.evaluate(
            "document.querySelectorAll('details').forEach((d) => { d.removeAttribute('name'); d.open = true; })"
        )
        assert page.evaluate("document.documentElement.scrollWidth") == 360, name
    page.goto(pages["index.html"].as_uri())
    page.wait_for_function("document.querySelectorAll('.scroll[tabindex=\"0\"][role=region]').length > 3")


def test_the_keyboard_reaches_the_content_first(pages, page):
    page.goto(pages["index.html"].as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_recordings_are_not_copied_unasked_and_notebooks_may_be_missing(bundle, tmp_path):
    said = site.build(tmp_path / "site", tmp_path / "none", bundle)
    assert ": 4 pages, 0 clips" in said
    assert "no executed notebooks in" in said
    text = (tmp_path / "site/index.html").read_text(encoding="utf-8")
    assert "<audio" not in text
    assert text.count("Not copied: these data are recordings") == 3
    assert "python -m bundle run --site" in text


def test_clips_of_other_data_than_the_results_are_left_out(bundle, tmp_path):
    (one,) = (one for one in site_parts.evaluations(bundle / "report/results") if one.folder == "nsynth-nsynth")
    one.results["data_digest"] = "0" * 64
    rows, reason = site_parts.examples(one, tmp_path, audio=True)
    assert rows == []
    assert "are not those of the results (digest 000000000000)" in reason
    assert not list(tmp_path.iterdir())


def test_a_build_that_fails_leaves_the_pages_as_they_were(bundle, tmp_path):
    out = tmp_path / "site"
    site.build(out, tmp_path / "none", bundle)
    before = sorted(out.rglob("*"))
    with pytest.raises(FileNotFoundError, match=r"no results, expected <task>-<data>/05_evaluation\.json"):
        site.build(out, tmp_path / "none", tmp_path / "empty")
    incomplete = tmp_path / "incomplete"
    shutil.copytree(bundle / "report/results/nsynth-nsynth", incomplete / "report/results/nsynth-nsynth")
    (incomplete / "report/results/nsynth-nsynth/05_evaluation.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected the predictions behind 05_evaluation\.json"):
        site.build(out, tmp_path / "none", incomplete)
    assert sorted(out.rglob("*")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["incomplete", "site"]
    (out / "left over").write_text("")
    site.build(out, tmp_path / "none", bundle)
    assert sorted(out.rglob("*")) == before


def test_a_folder_with_other_things_is_left_alone(bundle, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds no pages built before, expected an empty or new folder"):
        site.build(tmp_path, tmp_path / "none", bundle)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_that_is_not_there_is_refused(tmp_path):
    command = [sys.executable, "-m", "bundle", "site", "--run", "nowhere", "--out", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "--run: found no folder nowhere, expected one that `python -m bundle run` wrote" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_run_builds_the_pages_when_asked(bundle, tmp_path, monkeypatch, capsys):
    import argparse

    parser = argparse.ArgumentParser()
    run.add_arguments(parser.add_subparsers())
    built = []
    monkeypatch.setattr(run, "execute", lambda *given, **named: [])
    monkeypatch.setattr(run, "prepare", lambda *given: None)
    monkeypatch.setattr(site, "build", lambda out, folder, **given: built.append((out, folder)) or "index.html: 1 page")
    for asked in ([], ["--site"]):
        (tmp_path / "out").mkdir(exist_ok=True)
        options = parser.parse_args(["run", "--notebook", "01", "--out", str(tmp_path / "out"), *asked])
        assert run.command(options) == 0
    assert built == [(site.OUT, tmp_path / "out")]
    assert "index.html: 1 page" in capsys.readouterr().out
