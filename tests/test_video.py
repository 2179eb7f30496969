"""The film: its script, its numbers, its length, and what is in the file."""

import json
import re
import shutil

import imageio_ffmpeg
import nbformat
import nbformat.v4 as v4
import numpy as np
import pytest
import soundfile
from conftest import ROOT
from PIL import Image

from bundle import results as reader
from bundle.__main__ import main
from bundle.report.findings import Findings
from bundle.video import command, film, pages, script, sound

SCRIPT = ROOT / "report/script.md"
BLUE, RED, WHITE = (0, 90, 180), (200, 30, 30), (255, 255, 255)
PARTS = "".join(f"\n## {name}\n\n[card] {name}\n- a point\n\nA caption.\n" for name in script.PARTS)
needs_chromium = pytest.mark.skipif(
    not (shutil.which("chromium") or shutil.which("google-chrome")), reason="Chromium is not installed"
)


def found():
    """What the script may quote of one task."""
    return Findings(reader.read(), "nsynth-demo")


def told(nsynth, path=SCRIPT):
    """The scenes of a script."""
    return script.read(path, {"nsynth": nsynth}, {"name": "A", "number": "1"})[1]


def write(folder, text):
    """A script with a title."""
    (folder / "script.md").write_text(f"# A short film\n{text}")
    return folder / "script.md"


def notebook(path, count=1):
    """Write a notebook with an executed cell in its first section."""
    output = v4.new_output("stream", text="\n".join(["printed"] * 12))
    code = v4.new_code_cell("# a comment\nprint(1)", execution_count=count, outputs=[output])
    cells = [v4.new_markdown_cell("before\n## First\ntext"), code, v4.new_markdown_cell("end\n## Second")]
    path.write_text(json.dumps(v4.new_notebook(cells=cells)))


def off(path, moment, place, colour):
    """By how much a pixel (left, top) of a film differs from a colour."""
    filters = f"format=rgb24,crop=1:1:{place[0]}:{place[1]}:exact=1"
    seen = film.ffmpeg("-ss", str(moment), "-i", path, "-frames:v", "1", "-vf", filters, "-f", "rawvideo", "-")
    return np.abs(np.frombuffer(seen, np.uint8).astype(int) - colour).max()


def is_walkthrough(path):
    """Whether a file is what the brief asks for; the starts of its chapters."""
    found = next(imageio_ffmpeg.read_frames(path))
    assert (found["codec"], found["audio_codec"], found["source_size"]) == ("h264", "aac", (1920, 1080))
    assert found["pix_fmt"].startswith("yuv420p")
    assert found["duration"] <= script.LONGEST
    about = film.ffmpeg("-i", path, "-f", "ffmetadata", "-").decode()
    marks = re.findall(r"TIMEBASE=1/(\d+)\nSTART=(\d+)\nEND=\d+\ntitle=(.*)", about)
    assert [name for *_, name in marks] == list(script.PARTS)
    return [int(start) / int(base) for base, start, _ in marks]


def test_captions_follow_the_results():
    nsynth = found()
    before = {caption.text for scene in told(nsynth) for caption in scene.captions}
    metrics = nsynth.run.content["metrics"]
    metrics["mel_cnn_top1"] |= {"value": 0.123, "low": 0.111, "high": 0.135}
    metrics["difference: mel_cnn - svm"] |= {"value": -0.5, "low": -0.6, "high": -0.4}
    changed = "\n".join({caption.text for scene in told(nsynth) for caption in scene.captions} - before)
    assert "0.123 (95 % interval 0.111–0.135)" in changed
    assert "That is clearly worse than the SVM" in changed


def test_no_number_in_the_script_is_typed_by_hand():
    text = SCRIPT.read_text().split("\n## ", 1)[1]
    text = re.sub(r"\[[^\]]*\]|\{\{.*?\}\}", "", text)  # what is shown, and expressions
    text = re.sub(r"Notebook \d\d|[Tt]op-[13]\b", "", text)
    assert not re.findall(r".*\d.*", text)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (PARTS + "{{ nsynth.mel }}", r"line 44: .*no attribute 'mel'"),
        (PARTS + "{{ nsynth.gain('mel_cnn', over='mel_cnn') }}", "line 44: None is to be printed"),
        (PARTS + "{{ nsynth. }}", "line 44: .*Mend the template"),
        (PARTS.replace("## Walkthrough", "## A walk"), "expected Introduction, Walkthrough, Model explanation"),
        ("\n## Conclusion" + PARTS.replace("\n## Conclusion", "", 1), "in this order"),
        (PARTS.replace("[card] Walkthrough", "[dance] Walkthrough"), "scene 'dance': not found, expected one of card"),
        (PARTS.replace("[card] Walkthrough", "[table piano] A"), "line 12: task 'piano': not found, .*nsynth"),
        (PARTS.replace("[card] Walkthrough", "[card] A\n[card] B"), "scene 'A' has no caption"),
        (PARTS.replace("[card] Walkthrough", ""), "before any scene"),
    ],
)
def test_what_is_wrong_in_a_script_is_named(tmp_path, text, match):
    with pytest.raises(ValueError, match=match):
        told(found(), write(tmp_path, text))


def test_a_film_that_is_too_long_is_refused_before_anything_is_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pages, "chromium", lambda: pytest.fail("something was drawn"))
    path = write(tmp_path, PARTS + "These are thirty characters, no? " * 150)
    assert main(["video", "--run", str(tmp_path), "--script", str(path), "--out", str(tmp_path / "film.mp4")]) == 1
    assert "at most 300 s are allowed. The longest part is 'Conclusion'" in capsys.readouterr().err
    assert not (tmp_path / "film.mp4").exists()


def test_captions_stay_as_long_as_it_takes_to_read_hear_or_say_them():
    heard = {"a": 5.0, "b" * 60: 0.0, "c": 3.2}
    captions = [script.Caption(text, np.zeros(round(seconds * film.RATE))) for text, seconds in heard.items()]
    scene = script.Scene(0, "card", "", "", "", captions=captions)
    assert script.set_times([scene], 0) == scene.seconds == pytest.approx(5.4 + 4.0 + 3.6)
    assert captions[2].start == pytest.approx(5.4 + 4.0)
    assert script.set_times([scene], 26.0) == pytest.approx(26.0)  # a slower voice


def test_notebooks_of_another_run_than_the_results_are_refused(tmp_path):
    nsynth = found()
    with pytest.raises(FileNotFoundError, match="python -m bundle run --task nsynth"):
        command.check(tmp_path, nsynth)
    shutil.copytree(reader.RESULTS / "nsynth-demo", tmp_path / "results")
    command.check(tmp_path, nsynth)
    nsynth.run.content["weights_digest"] = {"mel_cnn": "other"}
    with pytest.raises(ValueError, match=r"its weights are not those of .*python -m bundle run"):
        command.check(tmp_path, nsynth)
    with pytest.raises(ValueError, match="example 'ugly': not found, expected one of good"):
        sound.clip_of("ugly", nsynth.run)


def test_a_page_moves_over_a_still_and_its_boxes_appear(tmp_path, monkeypatch):
    monkeypatch.setattr(film, "FPS", 5)
    path, (left, top, width, height) = tmp_path / "film.mp4", film.CONTENT
    Image.new("RGB", (film.WIDTH, film.HEIGHT), BLUE).save(tmp_path / "still.png")
    tall = Image.new("RGB", (width, 2 * height), RED)
    tall.paste(WHITE, (0, height + 400, width, 2 * height))
    tall.save(tmp_path / "page.png")
    page = film.Page(tmp_path / "page.png", [(0, height, 200, 200)], 1.0, 5.0)  # all is read in 4 s, half in 2
    film.encode(path, [(tmp_path / "still.png", 3.5)] * 2, [page], np.zeros(7 * film.RATE), [(0.0, "One")])
    seen = {0.5: BLUE, 2.7: WHITE, 3.3: RED, 5.5: WHITE, 6.5: BLUE}
    for moment, colour in seen.items():
        assert off(path, moment, (left + 100, top + 500), colour) < 12, moment
    assert off(path, 1.3, (left + 100, top + 30), RED) < 12
    assert off(path, 1.3, (1700, 900), BLUE) < 12  # no face: what was drawn stays
    assert not film.has_face(path)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match=r"(?s)ffmpeg failed .*no\.mp4"):
        film.encode(path, [(tmp_path / "still.png", 1.0)], [], np.zeros(9), [(0, "One")], face=tmp_path / "no.mp4")
    assert {one.name for one in tmp_path.iterdir()} == {"film.mp4", "still.png", "page.png"}
    assert path.read_bytes() == before  # the old film stays when a new one fails


@needs_chromium
def test_a_section_is_cut_out_of_a_notebook_and_text_that_does_not_fit_is_refused(tmp_path):
    path, drawn = tmp_path / "01_x.ipynb", tmp_path / "section.png"
    scene = script.Scene(0, "card", "", "", "A headline", ["a point"], [script.Caption("a longer caption " * 12)])
    shown = {"caption": scene.captions[0], "figure": "", "heading": "T", "author": {"name": "A", "number": "1"}}
    notebook(path)
    with pages.chromium() as browser:
        number, output = pages.section(browser, drawn, path, "First")
        assert Image.open(drawn).size == film.CONTENT[2:]  # a short section fills the screen
        assert 0 < number[1] + number[3] <= output[1] + 1 < output[1] + output[3] <= film.CONTENT[3]
        assert pages.section(browser, drawn, path, "Second") == []
        with pytest.raises(ValueError, match="no section 'Third'; there are: First; Second"):
            pages.section(browser, drawn, path, "Third")
        notebook(path, None)
        with pytest.raises(ValueError, match="not executed to its end"):
            pages.section(browser, drawn, path, "First")
        with pytest.raises(ValueError, match=r"'a longer caption .* too long for its place"):
            pages.frame(browser, drawn, scene=scene, **shown)


@needs_chromium
def test_a_film_of_every_kind_of_scene_has_face_voice_and_clip(tmp_path, load_toy, toy, monkeypatch):
    monkeypatch.setattr(film, "FPS", 5)
    data, run, kept = load_toy("nsynth"), tmp_path / "nsynth", reader.read()
    content = kept.runs["nsynth-demo"]["05_evaluation"].content
    content |= {"data_digest": data.digest, "examples": {"good": str(data.test.names[0])}}
    content["parameters"]["DATA"] = str(toy / "nsynth")
    monkeypatch.setattr(reader, "read", lambda: kept)
    shutil.copytree(reader.RESULTS / "nsynth-demo", run / "results")
    (run / "results/05_evaluation.json").write_text(json.dumps(content))
    notebook(run / "01_data_exploration.ipynb")
    shutil.copytree(ROOT / "figures/nsynth-demo", run / "figures/nsynth-demo")
    text = PARTS.replace("[card] Walkthrough", "[cells nsynth/01_data_exploration: First] Cells")
    text = text.replace("[card] Model explanation", "[figure nsynth/04_architecture] A figure")
    text = text.replace("[card] Test and evaluation", "[sound nsynth/good] Listen")
    text = text.replace("[card] Conclusion", "[table nsynth] All models")
    soundfile.write(tmp_path / "voice.wav", 0.5 * np.sin(np.arange(film.RATE) / 20), film.RATE)
    Image.new("RGB", (film.WIDTH, film.HEIGHT), RED).save(tmp_path / "red.png")
    made, face, voice = (tmp_path / name for name in ("film.mp4", "face.mp4", "voice.wav"))
    film.encode(face, [(tmp_path / "red.png", 1.0)], [], np.zeros(film.RATE), [(0, "me")])
    command.make(made, tmp_path, write(tmp_path, text), face, str(voice))
    starts = is_walkthrough(made)
    left, top, width, height = film.FACE
    for moment in (0.2, 1.6, starts[5]):  # the face's film lasts one second
        assert off(made, moment, (left + width // 2, top + height // 2), RED) < 12
    assert off(made, 0.2, (left + width // 2, top - 30), RED) > 100  # the panel above
    assert film.has_face(made)
    spoken, silence, clip = np.split(film.read_sound(made), [round(at * film.RATE) for at in (1.1, starts[4])])
    assert [bool(np.abs(part).max() > 0.05) for part in (spoken, silence, clip)] == [True, False, True]


def test_captions_can_be_spoken():
    pytest.importorskip("espeakng_loader", reason="the speech synthesiser is not installed (requirements-demo.txt)")
    short, long = sound.spoken("Yes."), sound.spoken("Top-1 is 0.5–0.6 with instruments kept apart.")
    assert 0.2 * film.RATE < len(short) < len(long)
    assert np.sqrt(np.mean(long**2)) > 0.03


def test_the_committed_film_is_what_the_brief_asks_for():
    is_walkthrough(ROOT / "report/walkthrough.mp4")


def test_the_sections_that_the_script_shows_are_in_the_notebooks():
    shown = re.findall(r"^\[cells \w+/(\w+): (.+?)\]", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(shown) >= 5
    for name, heading in shown:
        cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        assert heading in [line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("## ")], heading
