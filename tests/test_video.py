"""The film: its script, its numbers, its length, and what is in the file."""

import dataclasses
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from conftest import ROOT

from bundle.__main__ import main
from bundle.report import facts as report_facts
from bundle.video import command as video
from bundle.video import film
from bundle.video import pages as video_pages
from bundle.video import scenes as video_scenes
from bundle.video import script as video_script

SCRIPT, RESULTS = ROOT / "report/script.md", ROOT / "report/results"
SMALL = (480, 270)
OTHERS = "".join(f"\n## {name}\n\n[card] {name}\n- a point\n\nA caption.\n" for name in video_script.PARTS)


@pytest.fixture
def chromium():
    """Skips where there is no Chromium."""
    try:
        return video_pages.chromium()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture
def results(tmp_path):
    """A copy of the committed results of one task, to be altered."""
    shutil.copytree(RESULTS / "nsynth-demo", tmp_path / "results" / "nsynth-demo")
    return tmp_path / "results"


def alter(path, change):
    """Change the content of a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def captions_of(results, script=SCRIPT):
    """Everything that is said, with the facts of a results folder."""
    facts = video_script.facts_of(report_facts.read(results), ROOT / "report/authors.toml")
    return "\n".join(caption.text for scene in video_script.read(script, facts)[1] for caption in scene.captions)


def frames(seconds, colour=(0, 90, 180)):
    """A film of one colour."""
    return (np.full((film.HEIGHT, film.WIDTH, 3), colour, np.uint8) for _ in range(round(seconds * film.FPS)))


def pixel(path, moment, left, top):
    """Colour of one pixel of a film's frame, place in pixels of the full size."""
    command = [film.program(), "-v", "error", "-ss", str(moment), "-i", str(path), "-frames:v", "1"]
    done = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    picture = np.frombuffer(done.stdout, np.uint8).reshape(SMALL[1], SMALL[0], 3)
    return picture[top * SMALL[1] // film.HEIGHT, left * SMALL[0] // film.WIDTH].astype(int)


def level(path, start, end):
    """Root mean square of a film's sound between two moments."""
    wave = film.read_sound(path)[int(start * film.RATE) : int(end * film.RATE)]
    return float(np.sqrt(np.mean(wave**2)))


def test_captions_follow_the_results(results):
    before = captions_of(results)

    def change(content):
        content["metrics"]["mel_cnn_top1"] |= {"value": 0.123, "low": 0.111, "high": 0.135}
        content["metrics"]["difference: mel_cnn - svm"] |= {"value": -0.5, "low": -0.6, "high": -0.4}

    alter(results / "nsynth-demo" / "05_evaluation.json", change)
    after = captions_of(results)
    assert "0.123 (95 % interval 0.111–0.135)" in after
    assert "interval 0.111" not in before
    assert "That is clearly worse than the SVM" in after
    assert "That is clearly worse than the SVM" not in before


def test_no_number_in_the_script_is_typed_by_hand():
    text = SCRIPT.read_text().split("\n## ", 1)[1]
    text = re.sub(r"\[[^\]]*\]|\{[^}|]*\}", "", text)  # what is shown, and facts
    text = re.sub(r"Notebook \d\d|[Tt]op-[13]\b", "", text)
    assert not re.findall(r".*\d.*", text)


def test_what_is_not_in_the_results_is_refused_with_its_line(tmp_path, results):
    script = tmp_path / "script.md"
    script.write_text(f"# Title\n{OTHERS}{{nsynth.mel_cnn.top2}}\n")
    last = len(script.read_text().splitlines())
    with pytest.raises(ValueError, match=rf"line {last}: .*no fact 'nsynth.mel_cnn.top2'.*Alike: .*nsynth.mel_cnn.top"):
        captions_of(results, script)
    script.write_text(f"# Title\n{OTHERS}The {{nsynth.mel_cnn-svm|one|two}}.\n")
    with pytest.raises(ValueError, match="expected a difference and three words"):
        captions_of(results, script)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (OTHERS.replace("## Walkthrough", "## A walk"), "expected Introduction, Walkthrough, Model explanation"),
        ("\n## Conclusion" + OTHERS.replace("\n## Conclusion", "", 1), "before any scene|in order"),
        (OTHERS.replace("[card] Walkthrough", "[dance] Walkthrough"), "found a scene .dance., expected one of card"),
        (OTHERS.replace("[card] Walkthrough", "[sound nsynth/good] Walkthrough"), "one ♪ in a .sound."),
        (OTHERS + "\n## Encore\n", "in order"),
    ],
)
def test_the_six_parts_in_their_order_are_required(tmp_path, wrong, match):
    (tmp_path / "script.md").write_text(f"# Title\n{wrong}")
    with pytest.raises(ValueError, match=match):
        video_script.read(tmp_path / "script.md", {})


def test_a_film_that_is_too_long_is_refused_before_anything_is_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(video_pages, "shoot", lambda *_: pytest.fail("something was drawn"))
    script = tmp_path / "script.md"
    script.write_text(f"# Title\n{OTHERS}" + "These are thirty characters, no? " * 150)
    arguments = ["video", "--run", str(tmp_path), "--script", str(script), "--out", str(tmp_path / "film.mp4")]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "at most 300 s are allowed" in said
    assert "The longest part is 'Conclusion'" in said
    assert not (tmp_path / "film.mp4").exists()


def test_captions_stay_as_long_as_it_takes_to_read_hear_or_say_them():
    scene = video_script.Scene(0, "sound", "", "", [], [])
    scene.captions = [
        video_script.Caption(text, plays) for text, plays in (("a", False), ("b" * 60, False), ("c", True))
    ]
    assert video_script.set_times([scene], {0: 3.2, "a": 5.0}) == pytest.approx(5.4 + 4.0 + 4.0)
    assert video_scenes.playing_from(scene) == pytest.approx(5.4 + 4.0 + 0.3)
    assert video_script.set_times([scene], {0: 3.2, "a": 5.0}, least=26.8) == pytest.approx(26.8)  # a slower voice


def test_a_scene_that_the_results_do_not_have_is_refused(results):
    found = report_facts.read(results)
    for kind, target, match in (
        ("curves", "nsynth/04_mel_cnn mel", "curves of 'mel'; the results have mel_cnn, mel_cnn_nolog"),
        ("curves", "nsynth/04_mel", "notebook '04_mel'; the results have 01_data"),
        ("curves", "piano/04_mel_cnn mel_cnn", "task 'piano'; the results have nsynth"),
    ):
        with pytest.raises(ValueError, match=match):
            video_scenes.curves(video_script.Scene(3, kind, target, "", [], []), found)
    with pytest.raises(ValueError, match="example 'ugly'; the results have good"):
        video_scenes.clip_of(video_script.Scene(4, "sound", "nsynth/ugly", "", [], []), ROOT, found)


def test_notebooks_of_another_run_than_the_results_are_refused(tmp_path, results):
    scene = video_script.Scene(1, "cells", "nsynth/05_evaluation: All models, one table", "", [], [])
    shown = tmp_path / "nsynth" / "results" / "05_evaluation.json"
    found = report_facts.read(results)
    with pytest.raises(FileNotFoundError, match="python -m bundle run"):
        video.agree([scene], tmp_path / "absent", found)
    with pytest.raises(FileNotFoundError, match="python -m bundle run --task nsynth"):
        video.agree([scene], tmp_path, found)
    shown.parent.mkdir(parents=True)
    shutil.copy(results / "nsynth-demo" / "05_evaluation.json", shown)
    video.agree([scene], tmp_path, found)
    alter(shown, lambda content: content["metrics"]["mel_cnn_top1"].update(value=0.5))
    with pytest.raises(ValueError, match=r"mel_cnn_top1 is 0.500.*other weights or data"):
        video.agree([scene], tmp_path, found)


def test_a_film_is_read_back_as_it_was_written(tmp_path):
    tone = np.zeros(3 * film.RATE, np.float32)
    tone[film.RATE : 2 * film.RATE] = 0.3 * np.sin(np.arange(film.RATE) * 2 * np.pi * 440 / film.RATE)
    marks, path = [(0.0, "One"), (1.5, "Two")], tmp_path / "film.mp4"
    for name in ("film.mp4", "again.mp4"):
        film.encode(tmp_path / name, frames(3), tone, marks, [(0.0, "first"), (2.0, "second")], size=SMALL, title="T")
    found = film.read_back(path)
    assert (found.video, found.pixels, found.audio) == ("h264", "yuv420p", "aac")
    assert (found.width, found.height, found.fps) == (*SMALL, film.FPS)
    assert found.seconds == pytest.approx(3, abs=0.1)
    assert found.chapters == tuple(marks)
    assert level(path, 1.2, 1.8) > 0.1
    assert max(level(path, 0.1, 0.8), level(path, 2.2, 2.9)) < 0.002
    assert path.read_bytes() == (tmp_path / "again.mp4").read_bytes()
    assert np.abs(pixel(path, 1, 1700, 900) - (0, 90, 180)).max() < 12  # no face: what was drawn stays
    assert not video.has_face(path)


def test_a_face_is_in_the_corner_for_the_whole_length(tmp_path):
    silence = np.zeros(film.RATE, np.float32)
    film.encode(tmp_path / "face.mp4", frames(1, (200, 30, 30)), silence, [(0, "me")], size=SMALL)
    path = tmp_path / "film.mp4"
    film.encode(path, frames(3), np.tile(silence, 3), [(0, "all")], face=tmp_path / "face.mp4", size=SMALL)
    left, top, width, height = film.FACE
    for moment in (0.2, 1.6, 2.8):  # the face's film lasts one second
        assert np.abs(pixel(path, moment, left + width // 2, top + height // 2) - (200, 30, 30)).max() < 12
        assert np.abs(pixel(path, moment, left - 40, top + height // 2) - (0, 90, 180)).max() < 12
    assert video.has_face(path)
    assert film.read_back(path).seconds == pytest.approx(3, abs=0.1)


def test_nothing_is_left_of_a_film_that_failed(tmp_path):
    silence = np.zeros(film.RATE // 2, np.float32)
    with pytest.raises(RuntimeError, match="ffmpeg could not write"):
        film.encode(tmp_path / "film.mp4", frames(0.5), silence, [(0, "all")], face=tmp_path / "no.mp4", size=SMALL)
    with pytest.raises(ValueError, match="not written: too blue"):
        film.encode(tmp_path / "film.mp4", frames(0.5), silence, [(0, "all")], size=SMALL, check=lambda _: ["too blue"])
    assert list(tmp_path.iterdir()) == []


def test_a_walkthrough_that_breaks_a_rule_is_named_wrong():
    chapters = tuple((30.0 * n, name) for n, name in enumerate(video_script.PARTS))
    good = film.Facts("h264", "yuv420p", 1920, 1080, 25, "aac", 299.9, chapters, "", 10**6)
    assert video.check(good) == []
    for change in (
        {"video": "vp9"},
        {"audio": ""},
        {"seconds": 301.0},
        {"size": 2 * 10**7},
        {"chapters": chapters[1:]},
    ):
        assert len(video.check(dataclasses.replace(good, **change))) == 1


def test_a_cell_shows_its_output_when_it_has_been_evaluated(tmp_path, chromium):
    import nbformat.v4 as v4

    cells = [v4.new_markdown_cell("before\n## First\ntext"), v4.new_markdown_cell("end\n## Second")]
    output = v4.new_output("stream", text="\n".join(["printed"] * 12))
    cells[1:1] = [v4.new_code_cell("print(1)", execution_count=1, outputs=[output])]
    (tmp_path / "nsynth").mkdir()
    path = tmp_path / "nsynth" / "01_x.ipynb"
    path.write_text(json.dumps(v4.new_notebook(cells=cells)))
    assert [cell.source for cell in video_pages.section(path, "First").cells] == ["## First\ntext", "print(1)", "end\n"]
    caption = video_script.Caption("", seconds=6.0)
    frame = video_scenes.cells(video_script.Scene(1, "cells", "nsynth/01_x: First", "", [], [caption]), tmp_path)
    early, late = frame(0.0), frame(5.9)
    assert early.shape == (video_scenes.HEIGHT, video_scenes.WIDTH, 3)
    dark = [(picture[:, 100:] < 100).all(axis=2).sum() for picture in (early, late)]
    assert dark[1] > 1.5 * dark[0] > 0
    with pytest.raises(ValueError, match="no section 'Third'; there are: First; Second"):
        video_pages.section(path, "Third")
    with pytest.raises(FileNotFoundError, match="python -m bundle run"):
        video_pages.section(tmp_path / "02_x.ipynb", "First")


def test_text_that_does_not_fit_is_refused(chromium):
    (picture,) = video_pages.pieces([("caption", "<span>short</span>")], *video.CAPTION[2:])
    assert picture.shape == (132, 1488, 3)
    with pytest.raises(ValueError, match="too long for its place"):
        video_pages.pieces([("caption", "<span>" + "a longer caption " * 12 + "</span>")], *video.CAPTION[2:])


def test_a_short_film_is_made_with_the_clip_where_it_is_seen(tmp_path, results, load_toy, toy, chromium, monkeypatch):
    monkeypatch.setattr(film, "FPS", 5)  # soon made
    data, folder = load_toy("nsynth"), results / "nsynth-demo"
    name = str(data.test.names[0])
    stored = dict(np.load(folder / "05_evaluation.npz"))
    stored["names"] = np.array([name, *stored["names"][1:]])
    np.savez(folder / "05_evaluation.npz", **stored)

    def change(content):
        content["data_digest"], content["parameters"]["DATA"] = data.digest, str(toy / "nsynth")
        content["examples"] = dict.fromkeys(content["examples"], name)

    alter(folder / "05_evaluation.json", change)
    parts = OTHERS.replace("[card] Training revelation\n- a point", "[curves nsynth/04_mel_cnn mel_cnn] Curves")
    parts = parts.replace("[card] Test and evaluation\n- a point\n\nA", "[sound nsynth/good] Listen\n\n♪ A")
    parts = parts.replace("[card] Conclusion\n- a point", "[table nsynth] All models")
    (tmp_path / "script.md").write_text(f"# A short film\n{parts}")
    path = tmp_path / "film.mp4"
    found = video.make(path, tmp_path, tmp_path / "script.md", results, size=SMALL)
    assert [name for _, name in found.chapters] == list(video_script.PARTS)
    assert found.seconds < 20
    heard = found.chapters[4][0] + 0.3
    assert level(path, heard, heard + 1) > 0.03
    assert level(path, 0, heard - 0.2) < 0.001
    assert not video.has_face(path)


def test_captions_can_be_spoken():
    pytest.importorskip("espeakng_loader", reason="the speech synthesiser is not installed (requirements-demo.txt)")
    short, long = video.speak(["Yes.", "Top-1 is 0.5–0.6 with instruments kept apart."]).values()
    assert 0.2 * film.RATE < len(short) < len(long)
    assert np.sqrt(np.mean(long**2)) > 0.03


def test_the_committed_film_is_what_the_brief_asks_for():
    path = ROOT / "report/walkthrough.mp4"
    found = film.read_back(path)
    assert video.check(found) == []
    assert (found.width, found.height) == (1920, 1080)
    assert found.seconds <= 300
    assert found.size < 15 * 2**20
    assert found.comment in (film.WITH_FACE, film.WITHOUT_FACE)
