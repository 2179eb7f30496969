"""Documents: their numbers and words are those of the results, and what a reader would stumble over is refused."""

import json
import re
import shutil

import pytest
from matplotlib.figure import Figure
from pypdf import PdfReader, PdfWriter
from pypdf.generic import DictionaryObject, NameObject

from bundle import __main__
from bundle.report import authors as report_authors
from bundle.report import check as report_check
from bundle.report import command as report
from bundle.report import facts as report_facts
from bundle.report import figures as report_figures
from bundle.report import slides as report_slides
from helpers import plots

ROOT = report.ROOT
RESULTS = ROOT / "report" / "results"
LATEX = pytest.mark.skipif(not shutil.which("latexmk"), reason=f"LaTeX is not installed: {report.PACKAGES}")


@pytest.fixture
def results(tmp_path):
    """A copy of the committed results that a test may change."""
    return shutil.copytree(RESULTS, tmp_path / "results")


@pytest.fixture(scope="module")
def drawn():
    """All figures of the papers, drawn from the committed results once."""
    return report_figures.files(report_facts.read(RESULTS), ("pdf", "png"))


@pytest.fixture
def quick(monkeypatch, drawn):
    """Figures are those of the committed results, and none of the slides': drawing takes longest."""
    monkeypatch.setattr(report_figures, "files", lambda results, forms: drawn)
    monkeypatch.setattr(report_slides, "files", lambda results: {})


@pytest.fixture
def without_latex(monkeypatch, quick):
    """A machine without latexmk."""
    monkeypatch.setattr(shutil, "which", lambda name: None)


def change(path, edit):
    """Let `edit` change the content of a results file."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def words(page):
    """The text of an HTML page, in one line."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page.read_text().partition("<body>")[2]))


def known(folder):
    return report_facts.facts(report_facts.read(folder))


def test_facts_are_those_of_the_results_files(results):
    path = results / "nsynth-demo" / "05_evaluation.json"
    before, stored = known(results), json.loads(path.read_text())["metrics"]
    assert before["nsynth.mel_cnn.score"] == f"{stored['mel_cnn_top1']['value']:.3f}"
    assert before["nsynth.chance"] == f"{stored['mel_cnn_top1']['chance']:.3f}"

    def edit(content):
        content["metrics"]["mel_cnn_top1"] |= {"value": 0.1234, "low": 0.1, "high": 0.15}
        content["metrics"]["difference: mel_cnn - svm"] |= {"value": -0.2, "low": -0.3, "high": -0.1}

    change(path, edit)
    after = known(results)
    assert after["nsynth.mel_cnn.score.full"] == "0.123 (95 % interval 0.100–0.150)"
    assert after["nsynth.mel_cnn-svm.full"] == "−0.200 (95 % interval −0.300 to −0.100)"
    assert after["nsynth.mel_cnn-svm.sign"] == "less"
    assert {key for key in before if before[key] != after.get(key)} <= {
        key for key in after if key.startswith("nsynth.")
    }


def test_figures_follow_the_results(results, drawn):
    def edit(content):
        content["metrics"]["svm_top1"] |= {"value": 0.2, "low": 0.1, "high": 0.3}

    change(results / "nsynth-demo" / "05_evaluation.json", edit)
    after = report_figures.files(report_facts.read(results), ("pdf",))
    changed = {name for name in after if after[name] != drawn[name]}
    assert changed == {"scores-nsynth.pdf"}


def test_the_chance_level_is_that_of_the_headline_score():
    found = known(RESULTS)
    assert (found["magnatagatune.chance"], found["languages.chance"]) == ("0.500", "0.167")


def test_real_data_go_before_rendered_ones_and_are_not_called_rendered(results):
    (results / "nsynth-demo").rename(results / "nsynth-mine")
    change(results / "nsynth-mine" / "05_evaluation.json", lambda content: content.update(data="mine"))
    found = known(results)
    assert "mine" in found["nsynth.data"]
    assert "nsynth.demo" not in found
    shutil.copytree(results / "nsynth-mine", results / "nsynth-other")
    with pytest.raises(ValueError, match="expected one data set for nsynth"):
        known(results)


@pytest.mark.parametrize("document", ["ieee", "neurips"])
def test_other_results_give_other_numbers_and_words_that_stay_true(results, tmp_path, without_latex, capsys, document):
    task = {"ieee": "magnatagatune", "neurips": "nsynth"}[document]
    pages = []
    for low, high in ((0.071, 0.089), (-0.089, -0.071), (-0.009, 0.089)):

        def edit(content, low=low, high=high):
            content["metrics"]["difference: mel_cnn - svm"] |= {"value": (low + high) / 2, "low": low, "high": high}

        change(results / f"{task}-demo" / "05_evaluation.json", edit)
        assert __main__.main(["report", document, "--results", str(results), "--out", str(tmp_path / "out")]) == 0
        pages.append(words(tmp_path / "out" / document / f"{document}.html"))
    for sign, place, page in zip(("+0.08", "−0.08", "+0.04"), range(3), pages, strict=True):
        said = {
            "ieee": (
                "the mel network is better:",
                "the mel network is worse:",
                "the mel network is not clearly different:",
            ),
            "neurips": (
                "clearly beats the support vector machine",
                "is clearly worse than the support vector machine",
                "is not clearly different from the support vector machine",
            ),
        }[document]
        assert sign in page
        assert [sentence in page for sentence in said] == [number == place for number in range(3)]
        assert "rendered demo data" in page.lower()


def test_a_study_that_was_not_run_is_left_out(results, tmp_path, without_latex, capsys):
    for path in results.glob("*/study_*"):
        if "first_layer" not in path.name:
            path.unlink()
    assert __main__.main(["report", "neurips", "--results", str(results), "--out", str(tmp_path / "out")]) == 0
    page = words(tmp_path / "out" / "neurips" / "neurips.html")
    assert "One training may be lucky" not in page
    assert "real speech" not in page
    assert "??" not in page


def test_every_document_has_a_page_without_latex(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    shutil.copytree(ROOT / "report" / "generated", tmp_path / "generated")
    for name, content in (drawn | report_slides.files(report_facts.read(RESULTS))).items():
        if name.endswith(".png"):
            (tmp_path / "generated" / name).write_bytes(content)
    for document in report.DOCUMENTS:
        path, wrong = report.build_page(document, tmp_path)
        assert wrong == []
        assert not re.search(r"\\[a-zA-Z]+|\?\?", words(path)), document


def test_without_latex_packages_are_named_and_a_page_is_written(tmp_path, without_latex, capsys):
    assert __main__.main(["report", "ieee", "--out", str(tmp_path)]) == 0
    assert "sudo apt install latexmk texlive-latex-extra texlive-publishers" in capsys.readouterr().out
    page = (tmp_path / "ieee" / "ieee.html").read_text()
    assert not (tmp_path / "ieee" / "ieee.pdf").exists()
    sources = re.findall(r'src="([^"]{0,20})', page)
    assert len(sources) == len(re.findall("<img", page)) > 3
    assert all(source.startswith("data:image/png") for source in sources)
    assert "Table 1. Macro ROC-AUC" in words(tmp_path / "ieee" / "ieee.html")
    assert not re.search(r"\\[a-zA-Z]+", words(tmp_path / "ieee" / "ieee.html"))


def test_placeholders_are_named_until_they_are_filled_in(tmp_path):
    authors = report_authors.read(ROOT / "report" / "authors.toml")
    for person in authors["authors"]:
        person |= {
            "name": "Ada",
            "username": "al1815",
            "number": "7",
            "email": "a@b.org",
            "signed": "Ada",
            "roles": ["x"],
        }
    authors |= {"group": "7", "date": "today", "video": "https://v.org", "drive": "https://d.org"}
    assert report_authors.placeholders(authors) == []
    authors["authors"][0]["signed"] = ""
    authors["group"] = "0"
    assert report_authors.placeholders(authors) == ["group '0'", "author 1: not signed"]


def test_a_broken_authors_file_says_what_is_wrong(tmp_path):
    path = tmp_path / "authors.toml"
    text = (ROOT / "report" / "authors.toml").read_text()
    for old, new, message in (
        ('group = "0"', "group = 0", "group: expected a string"),
        ('signed = ""', 'singed = ""', "singed: unknown"),
        ('name = "First Author"', 'name = "First', "not TOML"),
    ):
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(ValueError, match=message):
            report_authors.read(path)


def test_signs_of_latex_in_a_name_are_printed():
    assert report_facts.tex("50 % of A_b & {c}") == r"50\,\% of A\_b \& \{c\}"


def test_the_log_is_searched_for_what_a_reader_would_see():
    log = (
        "Overfull \\hbox (12.5pt too wide) in paragraph at lines 3--4\nOverfull \\vbox (4.9pt too high) has occurred\n"
        "LaTeX Warning: Reference `fig:x' on page 1 undefined on input line 3.\n"
        "Package natbib Warning: Citation `nobody' on page 1 undefined on input line 4.\n"
        "Package facts Warning: there is no fact 'nsynth.no' on input line 5.\n"
    )
    found = list(report_check.log_problems(log))
    assert len(found) == 4
    for part in ("12.5 pt too large", "'fig:x'", "'nobody'", "no fact 'nsynth.no'"):
        assert any(part in line for line in found)


def test_a_missing_file_names_what_brings_it():
    log = "./ieee.tex:3: LaTeX Error: File `../../figures/nsynth-demo/05_examples.pdf' not found.\n"
    assert report.why(report_check.why_failed(log)).endswith("python -m bundle run --task nsynth --notebook 05 --keep")
    log = "! LaTeX Error: File `IEEEtran.cls' not found.\n"
    assert "sudo apt install" in report.why(report_check.why_failed(log))


def test_pages_are_counted_up_to_the_references():
    assert report_check.body_pages(["one", "two", "3\nReferences\n[1] …"]) == 2
    assert report_check.body_pages(["one", "two " * 40 + "\nReferences\n[1] …", "[9] …"]) == 2
    assert report_check.body_pages(["references are rare in prose", "two"]) == 2


def test_limits_question_marks_and_loose_fonts_are_found(tmp_path):
    import matplotlib

    with matplotlib.rc_context(plots.STYLE):
        figure = Figure()
        figure.text(0.1, 0.5, "see Table ??")
        figure.savefig(tmp_path / "a.pdf")
    writer = PdfWriter(clone_from=tmp_path / "a.pdf")
    assert len(list(report_check.problems(tmp_path / "a.pdf", (1, 1)))) == 1  # the question marks
    loose = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    font = DictionaryObject({NameObject(key): NameObject(value) for key, value in loose.items()})
    writer.pages[0]["/Resources"].get_object()["/Font"].get_object()[NameObject("/Loose")] = font
    writer.write(tmp_path / "b.pdf")
    found = " ".join(report_check.problems(tmp_path / "b.pdf", (2, 3)))
    for part in ("1 pages, expected 2 to 3", "fonts not embedded: Helvetica", "prints ??"):
        assert part in found


@pytest.mark.parametrize("document", list(report.DOCUMENTS))
def test_the_committed_pdf_passes_its_checks(document):
    limits = report.DOCUMENTS[document]
    path = ROOT / "report" / document / f"{document}.pdf"
    assert path.is_file(), f"{path} is missing; python -m bundle report {document} builds it"
    assert list(report_check.problems(path, limits.pages, limits.without_references)) == []


def test_the_committed_facts_are_those_of_the_committed_results():
    authors = report_authors.read(ROOT / "report" / "authors.toml")
    made = report_facts.as_tex(report.all_facts(report_facts.read(RESULTS), authors))
    stored = (ROOT / "report" / "generated" / "facts.tex").read_text()
    assert made == stored, "the documents are older than the results: python -m bundle report"


@LATEX
def test_a_pdf_shows_the_numbers_repeats_and_is_refused_over_its_limit(results, quick, tmp_path, monkeypatch, capsys):
    def edit(content):
        content["rows"]["256/256"]["metrics"]["roc_auc"] |= {"value": 0.4321, "low": 0.401, "high": 0.461}

    change(results / "magnatagatune-demo" / "study_first_layer.json", edit)
    arguments = ["report", "ieee", "--results", str(results), "--out", str(tmp_path / "out")]
    assert __main__.main(arguments) == 0
    path = tmp_path / "out" / "ieee" / "ieee.pdf"
    text, first = "".join(page.extract_text() for page in PdfReader(path).pages), path.read_bytes()
    assert text.count("0.432") >= 2
    assert "0.401" in text
    assert report.build("ieee", tmp_path / "out") == (path, [])
    assert path.read_bytes() == first
    monkeypatch.setitem(report.DOCUMENTS, "ieee", report.Document((1, 2)))
    assert __main__.main(arguments) == 1
    assert re.search(r"REFUSED ieee: \d pages, expected 1 to 2", capsys.readouterr().out)
    assert path.read_bytes() == first


@LATEX
def test_the_official_style_file_is_taken_when_it_is_there(tmp_path, monkeypatch):
    for name in ("neurips", "generated"):
        shutil.copytree(ROOT / "report" / name, tmp_path / "report" / name)
    for name in report.SHARED:
        shutil.copyfile(ROOT / "report" / name, tmp_path / "report" / name)
    (tmp_path / "figures").symlink_to(ROOT / "figures")
    style = tmp_path / "report" / "neurips" / "neurips_2023.sty"
    shutil.copyfile(style.with_name("lookalike.sty"), style)
    with style.open("a") as file:
        file.write("\\AtBeginDocument{OFFICIALLY STYLED}\n\\DeclareOption{preprint}{}\n\\ProcessOptions\n")
    style.write_text(style.read_text().replace("{lookalike}", "{neurips_2023}"))
    monkeypatch.setattr(report, "ROOT", tmp_path)
    path, wrong = report.build("neurips", tmp_path / "report")
    assert wrong == []
    assert "OFFICIALLY STYLED" in PdfReader(path).pages[0].extract_text()
