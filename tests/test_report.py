"""Documents: their numbers and words are those of the results, and what a reader would stumble over is refused."""

import json
import re
import shutil
import unicodedata
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from pypdf import PdfReader

from bundle import __main__
from bundle.report import authors, check, figures, templates
from bundle.report import command as report
from bundle.report import letters as alphabets
from bundle.report.findings import Findings
from bundle.results import RESULTS, read
from helpers import plots

ROOT = report.ROOT
LATEX = pytest.mark.skipif(not shutil.which("latexmk"), reason=f"LaTeX is not installed: {report.PACKAGES}")


@pytest.fixture
def results(tmp_path):
    """A copy of the committed results that a test may change."""
    return shutil.copytree(RESULTS, tmp_path / "results")


@pytest.fixture
def team():
    """The authors file."""
    return authors.read(ROOT / "report" / "authors.toml")


@pytest.fixture
def undrawn(monkeypatch):
    """No figure is drawn."""
    names = SimpleNamespace(drawn=lambda kind, of, *options: kind, notebook=lambda of, name: name)
    monkeypatch.setattr(figures, "Gallery", lambda folder, figures: names)


@pytest.fixture
def written(undrawn, results, team, tmp_path):
    """LaTeX of a document from the changed results, in one line: written("ieee")."""
    return lambda name: " ".join(report.write(name, read(results), team, tmp_path / "out").read_text().split())


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """All documents, built with real LaTeX from the committed results once."""
    out = tmp_path_factory.mktemp("report")
    assert __main__.main(["report", "--out", str(out)]) == 0
    return out


def change(path, edit):
    """Let `edit` change the content of a results file, or the arrays beside it."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as stored:
            content = dict(stored)
        edit(content)
        np.savez(path, **content)
    else:
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))


def letters(pdf):
    """The text of a PDF without spaces and hyphens, which lie where TeX broke its lines."""
    return re.sub(r"[\s-]", "", "".join(page.extract_text() for page in PdfReader(pdf).pages))


@LATEX
@pytest.mark.parametrize("name", report.DOCUMENTS)
def test_the_committed_pdf_is_what_the_committed_results_give(built, name):
    committed = ROOT / "report" / name / f"{name}.pdf"
    assert committed.is_file(), f"{committed} is missing; python -m bundle report {name} builds it"
    message = f"{committed} is older than template or results: python -m bundle report {name}"
    assert letters(built / name / f"{name}.pdf") == letters(committed), message


@LATEX
def test_a_build_repeats_to_the_byte_and_is_refused_over_its_limit(built, monkeypatch, capsys):
    path = built / "slides" / "slides.pdf"
    first, arguments = path.read_bytes(), ["report", "slides", "--out", str(built)]
    assert __main__.main(arguments) == 0
    assert path.read_bytes() == first
    monkeypatch.setitem(report.DOCUMENTS, "slides", (1, 2, False))
    assert __main__.main(arguments) == 1
    assert re.search(r"REFUSED slides: \d+ pages, expected 1 to 2", capsys.readouterr().out)
    assert path.read_bytes() == first


@LATEX
def test_the_official_style_file_is_taken_when_it_is_there(built, tmp_path):
    folder = shutil.copytree(built / "generated" / "neurips", tmp_path / "neurips")
    for path in folder.glob("neurips.*"):
        if path.suffix != ".tex":
            path.unlink()
    style = folder / "neurips_2023.sty"
    style.write_text((folder / "lookalike.sty").read_text().replace("{lookalike}", "{neurips_2023}"))
    with style.open("a") as file:
        file.write("\\AtBeginDocument{OFFICIALLY STYLED}\n\\DeclareOption{preprint}{}\n\\ProcessOptions\n")
    assert report.build(folder / "neurips.tex", tmp_path / "neurips.pdf") == []
    assert "OFFICIALLY STYLED" in PdfReader(tmp_path / "neurips.pdf").pages[0].extract_text()


@LATEX
def test_what_stops_latex_is_told_with_the_packages_and_the_previous_pdf_stays(tmp_path):
    main, target = tmp_path / "ieee.tex", tmp_path / "built" / "ieee.pdf"
    main.write_text("\\documentclass{no_such_class}\n\\begin{document}\nx\n\\end{document}\n")
    target.parent.mkdir()
    target.write_text("previous")
    wrong = " ".join(report.build(main, target))
    assert "File `no_such_class.cls' not found" in wrong
    assert "sudo apt install latexmk" in wrong
    assert target.read_text() == "previous"


def test_without_latex_packages_are_named_and_the_sources_are_whole(undrawn, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert __main__.main(["report", "onepage", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "REFUSED onepage: LaTeX is not installed (no latexmk). Install: sudo apt install latexmk texlive" in said
    assert str(tmp_path / "generated" / "onepage" / "onepage.tex") in said
    assert not list(tmp_path.rglob("*.pdf"))


def test_the_committed_documents_pass_their_checks_and_have_their_parts(team):
    for name, limits in report.DOCUMENTS.items():
        assert list(check.problems(ROOT / f"report/{name}/{name}.pdf", *limits)) == []
    slides, onepage = (PdfReader(ROOT / f"report/{name}/{name}.pdf").pages for name in ("slides", "onepage"))
    width, height = map(float, slides[0].mediabox[2:])
    assert width / height == pytest.approx(16 / 9, abs=0.01)
    assert team["drive"] in slides[0].extract_text()
    first, second, third = (page.extract_text() for page in onepage)
    for section in ("Data loading and processing", "Architecture design", "Experiments", "Results", "Error analysis",
                    "Discussion and conclusions"):  # fmt: skip
        assert section in first
    assert "Work distribution" in second
    assert "References" in third


def test_what_is_printed_is_the_results_and_words_follow_the_interval(written, results):
    place = {"ieee": "magnatagatune", "neurips": "nsynth", "slides": "nsynth", "onepage": "languages"}
    said = {
        "ieee": ("network is better:", "network is worse:", "network is not clearly different:"),
        "neurips": ("beats the support vector", "worse than the support vector", "different from the support vector"),
        "slides": ("The mel network beats the SVM", "The SVM beats the mel network", "No clear difference between"),
        "onepage": ("mel network is better", "mel network is worse", "mel network shows no clear difference"),
    }
    cases = ((0.071, 0.089, "+0.080"), (-0.089, -0.071, "$-$0.080"), (-0.009, 0.089, "+0.040"))
    for number, (low, high, sign) in enumerate(cases):

        def edit(content, low=low, high=high):
            content["metrics"]["difference: mel_cnn - svm"] |= {"value": (low + high) / 2, "low": low, "high": high}

        for task in set(place.values()):
            change(results / f"{task}-demo" / "05_evaluation.json", edit)
        for name, words in said.items():
            text = written(name)
            assert [sentence in text for sentence in words] == [count == number for count in range(3)], name
            assert sign in text
            assert "rendered demo data" in text.lower()


def test_real_data_go_before_rendered_ones_and_are_not_called_rendered(written, results):
    shutil.copytree(results / "nsynth-demo", results / "nsynth-mine")
    for path in (results / "nsynth-mine").glob("0*.json"):
        change(path, lambda content: content.update(data="mine"))
    text = written("slides")
    assert "data set `mine'" in text
    assert "rendered" not in text.lower()
    shutil.copytree(results / "nsynth-mine", results / "nsynth-other")
    with pytest.raises(ValueError, match="expected one data set for nsynth"):
        written("slides")


def test_what_is_not_there_is_not_spoken_of(written, results):
    def perfect(arrays):
        arrays["mel_cnn"] = np.eye(6, dtype=np.float32)[arrays["targets"]]
        arrays["groups"] = np.full(480, "")

    whole = {name: written(name) for name in report.DOCUMENTS}
    for path in results.glob("*/study_*"):
        if "first_layer" not in path.name:
            path.unlink()
    change(results / "languages-demo" / "05_evaluation.npz", perfect)
    less = {name: written(name) for name in report.DOCUMENTS}
    gone = {
        "neurips": ("One training may be lucky", "real speech"),
        "slides": ("seeds:",),
        "ieee": ("What the front end buys",),
        "onepage": (
            "On real speech",
            "By speaker",
            "second guess",
            "errors the most frequent",
            "No speaker lies in two",
        ),
    }
    for name, sentences in gone.items():
        for said in sentences:
            assert said in whole[name]
            assert said not in less[name]


def test_what_the_results_lack_is_named_with_its_line(results, team, tmp_path, undrawn, capsys):
    shutil.rmtree(results / "languages-demo")
    options = ["report", "onepage", "--results", str(results), "--out", str(tmp_path / "out")]
    assert __main__.main(options) == 1
    said = capsys.readouterr().out
    assert re.search(r"REFUSED onepage: onepage.tex.j2, line \d+: 'dict object' has no attribute 'languages'", said)
    shutil.rmtree(results)
    assert __main__.main(options) == 2
    assert "Make them: python -m bundle run --keep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("one\n<< nothing >>\n", "a.tex.j2, line 2: 'nothing' is undefined"),
        ("<< none >>\n", "a.tex.j2, line 1: None is to be printed"),
        ("\n\n%% if\n", "a.tex.j2, line 3: .* Mend the template"),
    ],
)
def test_a_template_that_asks_for_nothing_is_refused(tmp_path, source, message):
    (tmp_path / "a.tex.j2").write_text(source)
    with pytest.raises(ValueError, match=message):
        templates.render(tmp_path / "a.tex.j2", none=None)


def test_what_is_printed_is_escaped_once_and_what_is_written_is_not(tmp_path):
    macro = r"<% macro bold(text) %>\textbf{<< text >>}<% endmacro %>"
    (tmp_path / "a.tex.j2").write_text(macro + r"\emph{a~b} & << bold(name) >> << share >> << '<&>' >> << 0.25 >>")
    made = templates.render(tmp_path / "a.tex.j2", name="A_b & {c} <\\d>", share="50 % ± 1–2")
    assert made == (
        r"\emph{a~b} & \textbf{A\_b \& \{c\} \textless{}\textbackslash{}d\textgreater{}} 50\,\% $\pm$ 1--2 "
        r"\textless{}\&\textgreater{} 0.250"
    )


def test_no_number_of_a_result_is_typed_in():
    for name in ("slides", "onepage"):
        source = (ROOT / "report" / name / f"{name}.tex.j2").read_text().partition(r"\begin{document}")[2]
        asked = re.sub(r"<[<%#].*?[>%#]>|^%%.*", "", source, flags=re.MULTILINE)
        layout = r"(?<!\\)%.*|\\(?:includegraphics|setlength|vspace|begin\{(?:minipage|column)\})\S*|\[.*?\]"
        words = re.sub(layout, "", asked)
        assert len(words) > 2000
        assert not re.findall(r"\b0\.\d{2,}", words), name


def test_mistakes_are_those_of_the_predictions(results):
    def all_taken_for_organ(arrays):
        arrays["svm"] = np.eye(11, dtype=np.float32)[np.full(len(arrays["targets"]), 6)]
        arrays["mel_cnn"] = np.eye(11, dtype=np.float32)[arrays["targets"]]

    before = Findings(read(results), "nsynth-demo")
    assert before.confusion("mel_cnn")["wrong"] > 0
    assert 0 < before.second_guess < 1
    change(results / "nsynth-demo" / "05_evaluation.npz", all_taken_for_organ)
    after = Findings(read(results), "nsynth-demo")
    found, perfect = after.confusion("svm"), after.confusion("mel_cnn")
    assert found["mistakes"][0] == ("bass", "organ", 88, 88)
    assert (found["easiest"].true, found["hardest"].true, found["wrong"]) == ("organ", "bass", 544)
    assert (perfect["mistakes"], perfect["wrong"]) == ([], 0)
    assert after.second_guess is None
    assert (after.right == 1).all()


def test_figures_are_those_a_document_shows_and_follow_the_results(results, team, tmp_path):
    def edit(content):
        content["metrics"]["svm_top1"] |= {"value": 0.2, "low": 0.1, "high": 0.3}

    made = []
    for _ in range(2):
        folder = report.write("slides", read(results), team, tmp_path / "out").parent
        shown = set(re.findall(r"\\includegraphics\[.*?\]\{(.*?)\}", (folder / "slides.tex").read_text()))
        made.append({path.name: path.read_bytes() for path in folder.glob("*.pdf")})
        assert set(made[-1]) == shown
        change(results / "nsynth-demo" / "05_evaluation.json", edit)
    assert {name for name in made[0] if made[0][name] != made[1][name]} == {"slide_scores-nsynth.pdf"}


def test_a_missing_figure_names_what_brings_it(tmp_path):
    gallery = figures.Gallery(tmp_path, tmp_path / "figures")
    with pytest.raises(FileNotFoundError, match="python -m bundle run --task nsynth --notebook 05 --keep"):
        gallery.notebook(Findings(read(), "nsynth-demo"), "05_examples")


def test_placeholders_are_named_until_they_are_filled_in(team):
    team |= dict.fromkeys(("group", "date", "video", "drive"), "7")
    for person in team["authors"]:
        person |= dict.fromkeys(("name", "username", "number", "email", "signed"), "Ada") | {"roles": ["x"]}
    assert authors.placeholders(team) == []
    team["authors"][0]["signed"] = ""
    team["group"] = "0"
    assert authors.placeholders(team) == ["group '0'", "author 1: not signed"]


def test_a_broken_authors_file_says_what_is_wrong(tmp_path):
    path = tmp_path / "authors.toml"
    text = (ROOT / "report" / "authors.toml").read_text()
    for old, new, message in (
        ('group = "0"', "group = 0", "group: expected a string"),
        ('signed = ""', 'singed = ""', "author 1, signed: expected a string"),
        ('name = "First Author"', 'name = "First', "not TOML"),
        ("roles = [", "roles = [1, ", "author 1, roles: expected a list of strings"),
        ("[[authors]]", "[[people]]", "expected at least one"),
    ):
        path.write_text(text.replace(old, new, 2 if old == "[[authors]]" else 1))
        with pytest.raises(ValueError, match=message):
            authors.read(path)


PEOPLE = ["王小明", "Lưu Thị Hà", "Иван Đorđević"]


@pytest.mark.skipif(not shutil.which("luahbtex"), reason="LuaLaTeX is not installed")
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in report.DOCUMENTS])
def test_names_in_any_script_are_printed_and_all_else_stays(results, team, built, tmp_path, name):
    team["authors"] = [team["authors"][0] | {"name": person, "signed": person} for person in PEOPLE]
    assert report.build(report.write(name, read(results), team, tmp_path), tmp_path / f"{name}.pdf") == []
    found, usual = (letters(folder / f"{name}.pdf") for folder in (tmp_path, built / name))
    for person in PEOPLE:
        assert person.replace(" ", "") in found
    assert len(PdfReader(tmp_path / f"{name}.pdf").pages) == len(PdfReader(built / name / f"{name}.pdf").pages)
    plain = [re.sub(r"\W", "", unicodedata.normalize("NFKC", text))[-300:] for text in (usual, found)]  # ligatures
    assert plain[0] == plain[1]


def test_only_letters_that_need_it_get_other_fonts(team, results, tmp_path, undrawn):
    assert alphabets.strange(team | {"group": "Zoë Łuczak – “É”"}) == ""
    assert set(alphabets.strange({"a": ["Hà Lưu", {"b": "王"}]})) == {"ư", "王"}
    assert "\\letters{ë}" in templates.tex("Zoë & Co")
    written = report.write("onepage", read(results), team, tmp_path).with_name("reproducible.tex")
    assert "fontspec" not in written.read_text()


def test_a_letter_that_no_font_has_is_named():
    if not shutil.which("fc-list"):
        pytest.skip("fontconfig is not installed")
    with pytest.raises(
        FileNotFoundError, match=r"no installed font has .* \(U\+E123\)\. Install one, such as fonts-noto"
    ):
        alphabets.fonts("\ue123")


def test_a_byte_order_mark_is_read_and_another_encoding_named(tmp_path):
    text = (ROOT / "report/authors.toml").read_text(encoding="utf-8")
    (tmp_path / "a.toml").write_text(text, encoding="utf-8-sig")
    assert authors.read(tmp_path / "a.toml")["group"] == "0"
    (tmp_path / "a.toml").write_text(text.replace("First Author", "Zoë"), encoding="latin-1")
    with pytest.raises(ValueError, match=r"a.toml: not UTF-8 \(.* at byte \d+\). Save it as UTF-8"):
        authors.read(tmp_path / "a.toml")


def test_the_log_is_searched_for_what_a_reader_would_see():
    log = (
        "Overfull \\hbox (12.5pt too wide) in paragraph at lines 3--4\nOverfull \\vbox (4.9pt too high) has occurred\n"
        "LaTeX Warning: Reference `fig:x' on page 1 undefined on input line 3.\n"
        "Package natbib Warning: Citation `nobody' on page 1 undefined on input line 4.\n"
    )
    found = list(check.log_problems(log))
    assert len(found) == 3
    for part in ("12.5 pt too large", "'fig:x'", "'nobody'"):
        assert any(part in line for line in found)


def test_pages_are_counted_up_to_the_references():
    assert check.body_pages(["one", "two", "3\nReferences\n[1] …"]) == 2
    assert check.body_pages(["one", "two " * 40 + "\nReferences\n[1] …", "[9] …"]) == 2
    assert check.body_pages(["references are rare in prose", "two"]) == 2


def test_limits_question_marks_and_loose_fonts_are_found(tmp_path):
    figure = Figure()
    figure.text(0.1, 0.5, "see Table ??")
    for name, loose in (("a", False), ("b", True)):
        with matplotlib.rc_context(plots.STYLE | {"pdf.use14corefonts": loose}):
            figure.savefig(tmp_path / f"{name}.pdf")
    assert len(list(check.problems(tmp_path / "a.pdf", 1, 1, False))) == 1  # the question marks
    found = " ".join(check.problems(tmp_path / "b.pdf", 2, 3, False))
    for part in ("1 pages, expected 2 to 3", "fonts not embedded: Helvetica", "prints ??"):
        assert part in found
    shown = {"/Figure": {"/Resources": PdfReader(tmp_path / "b.pdf").pages[0]["/Resources"]}}
    assert list(check.loose_fonts({"/XObject": shown})) == ["Helvetica"]
