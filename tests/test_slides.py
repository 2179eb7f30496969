"""The slides and the one-page report: what they ask for is there, and their messages follow the results."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from pypdf import PdfReader

from bundle.report import authors as report_authors
from bundle.report import command as report
from bundle.report import facts as report_facts
from bundle.report import slides as report_slides

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "report" / "results"
SOURCES = {name: (ROOT / f"report/{name}/{name}.tex").read_text() for name in ("slides", "onepage")}
MODELS = ("svm", "mel_cnn", "mel_cnn_nolog")


@pytest.fixture
def copy(tmp_path):
    """A copy of the results, to alter."""
    shutil.copytree(RESULTS, tmp_path / "results")
    return tmp_path / "results"


def facts(folder: Path) -> dict[str, str]:
    return report_slides.facts(report_facts.read(folder))


def alter(path: Path, change) -> None:
    """Apply `change` to the arrays of an npz file, or to the content of a JSON file."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        change(arrays)
        np.savez_compressed(path, **arrays)
    else:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))


@pytest.mark.parametrize("name", SOURCES)
def test_every_fact_that_is_asked_for_is_known_or_asked_for_on_condition(name):
    authors = report_authors.read(ROOT / "report" / "authors.toml")
    known = report.all_facts(report_facts.read(RESULTS), authors)
    conditions = tuple(re.findall(r"\\ifknown\{(.*?)\}", SOURCES[name]))
    wanted = {key.replace("#1", model) for key in re.findall(r"\\fact\{(.*?)\}", SOURCES[name]) for model in MODELS}
    wanted |= {f"{key}.sign" for key in re.findall(r"\\byverdict\{(.*?)\}", SOURCES[name])}
    wanted -= {key for key in wanted if "#" in key}
    assert len(wanted) > 20
    assert not [key for key in sorted(wanted) if key not in known and not key.startswith(conditions)]


@pytest.mark.parametrize("name", SOURCES)
def test_every_figure_that_is_asked_for_is_made(name):
    made = set(report_slides.files(report_facts.read(RESULTS)))
    wanted = re.findall(r"\.\./generated/(slide-.*?\.pdf)", SOURCES[name])
    assert {one.replace("#1", model) for one in wanted for model in MODELS} <= made
    for task, figure in re.findall(r"\\fact\{(\w+)\.figures\}/(.*?\.pdf)", SOURCES[name]):
        assert (ROOT / f"figures/{task}-demo/{figure}").is_file(), figure


def test_no_number_of_a_result_is_typed_in():
    for name, source in SOURCES.items():
        words = re.sub(
            r"(?<!\\)%.*|\\(?:includegraphics|fact|setlength|vspace|definecolor|begin\{minipage\})\S*|\[.*?\]",
            "",
            source,
        )
        assert not re.findall(r"\b0\.\d{2,}", words.partition(r"\begin{document}")[2]), name


def test_mistakes_are_those_of_the_predictions(copy):
    before = facts(copy)

    def all_taken_for_organ(arrays):
        arrays["svm"] = np.eye(11, dtype=np.float32)[np.full(len(arrays["targets"]), 6)]

    alter(copy / "nsynth-demo/05_evaluation.npz", all_taken_for_organ)
    after = facts(copy)
    assert before["nsynth.svm.mistake.1"] != after["nsynth.svm.mistake.1"] == "bass taken for organ (88 of 88)"
    assert after["nsynth.svm.easiest"] == "organ"
    assert after["nsynth.svm.wrong"] == "544"
    assert {key: text for key, text in before.items() if ".svm." not in key} == {
        key: text for key, text in after.items() if ".svm." not in key
    }


def test_a_model_without_mistakes_is_said_to_have_none(copy):
    def perfect(arrays):
        arrays["mel_cnn"] = np.eye(11, dtype=np.float32)[arrays["targets"]]

    alter(copy / "nsynth-demo/05_evaluation.npz", perfect)
    found = facts(copy)
    assert found["nsynth.mel_cnn.wrong"] == "0"
    assert not [key for key in found if key.startswith(("nsynth.mel_cnn.mistake", "nsynth.second.guess"))]
    assert found["nsynth.groups.perfect"] == found["nsynth.groups"]


def test_nothing_is_said_of_speakers_who_are_not_known(copy):
    alter(copy / "languages-demo/05_evaluation.npz", lambda arrays: arrays.update(groups=np.full(480, "")))
    assert not [key for key in facts(copy) if key.startswith("languages.groups")]
    assert "nsynth.groups" in facts(copy)


def test_messages_follow_the_results(copy, tmp_path):
    if not shutil.which("latexmk"):
        pytest.skip("LaTeX is not installed: no slides to build")

    def undecided(content):
        content["metrics"]["difference: mel_cnn - svm"] |= {"value": 0.01, "low": -0.04, "high": 0.06}

    alter(copy / "nsynth-demo/05_evaluation.json", undecided)
    authors = report_authors.read(ROOT / "report" / "authors.toml")
    report.write_generated(copy, authors, tmp_path / "out" / "generated")
    path, wrong = report.build("slides", tmp_path / "out")
    assert not wrong
    text = " ".join(page.extract_text() for page in PdfReader(path).pages)
    assert "No clear difference between the mel network and the SVM" in " ".join(text.split())
    assert "beats the" not in text


def test_the_committed_documents_have_their_pages():
    slides, onepage = (PdfReader(ROOT / f"report/{name}/{name}.pdf").pages for name in SOURCES)
    assert 8 <= len(slides) <= 12
    width, height = map(float, slides[0].mediabox[2:])
    assert width / height == pytest.approx(16 / 9, abs=0.01)
    authors = report_authors.read(ROOT / "report" / "authors.toml")
    assert authors["drive"] in slides[0].extract_text()
    assert len(onepage) == 3
    first, second, third = (page.extract_text() for page in onepage)
    for section in ("Data loading and processing", "Architecture design", "Experiments", "Results", "Error analysis",
                    "Discussion and conclusions"):  # fmt: skip
        assert section in first
    assert "Work distribution" in second
    assert "References" in third
