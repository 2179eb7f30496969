"""The film: its script, its numbers, its length, and what is in the file."""

import json
import re
import shutil
import subprocess

import imageio_ffmpeg
import nbformat.v4 as v4
import numpy as np
import pytest
import soundfile
from conftest import ROOT

from bundle import results as reader
from bundle.__main__ import main
from bundle.report import authors
from bundle.report.findings import Findings
from bundle.video import command, film, pages, scenes, script, sound, walkthrough

SCRIPT = ROOT / "report/script.md"
SMALL = (480, 270)
BLUE, RED = (0, 90, 180), (200, 30, 30)
PARTS = "".join(f"\n## {name}\n\n[card] {name}\n- a point\n\nA caption.\n" for name in script.PARTS)


@pytest.fixture(scope="module")
def chromium():
    """Skips where there is no Chromium."""
    try:
        with pages.chromium():
            return
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture
def browser(chromium):
    """An open Chromium."""
    with pages.chromium() as found:
        yield found


@pytest.fixture
def results(tmp_path):
    """A copy of the committed results of one task, to be altered."""
    shutil.copytree(reader.RESULTS / "nsynth-demo", tmp_path / "results" / "nsynth-demo")
    return tmp_path / "results"


def alter(path, **changes):
    """Change entries of a JSON file in place."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def found_in(folder):
    """What the script may quote of a results folder, by task."""
    kept = reader.read(folder)
    return {task: Findings(kept, name) for task, name in kept.main().items()}


def told(results, path=SCRIPT):
    """The scenes of a script over a results folder."""
    author = authors.read(ROOT / "report/authors.toml")["authors"][0]
    return script.read(path, found_in(results), author)[1]


def write(folder, text):
    """A script with a title."""
    (folder / "script.md").write_text(f"# A short film\n{text}")
    return folder / "script.md"


def notebook(count=1):
    """A notebook with an executed cell in its first section."""
    output = v4.new_output("stream", text="\n".join(["printed"] * 12))
    code = v4.new_code_cell("print(1)", execution_count=count, outputs=[output])
    return json.dumps(v4.new_notebook(cells=[v4.new_markdown_cell("before\n## First\ntext"), code,
                                             v4.new_markdown_cell("end\n## Second")]))  # fmt: skip


def frames(seconds, colour=BLUE):
    """A film of one colour."""
    return (np.full((film.HEIGHT, film.WIDTH, 3), colour, np.uint8) for _ in range(round(seconds * film.FPS)))


def pixel(path, moment, left, top):
    """Colour of one pixel of a film's frame, place in pixels of the full size."""
    command = [*film.program(), "-ss", str(moment), "-i", path, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    done = subprocess.run([*command, "-"], capture_output=True, check=True)
    picture = np.frombuffer(done.stdout, np.uint8).reshape(SMALL[1], SMALL[0], 3)
    return picture[top * SMALL[1] // film.HEIGHT, left * SMALL[0] // film.WIDTH].astype(int)


def level(path, start, end):
    """Root mean square of a film's sound between two moments."""
    return float(np.sqrt(np.mean(film.read_sound(path)[int(start * film.RATE) : int(end * film.RATE)] ** 2)))


def is_walkthrough(path, size):
    """Whether a file is what the brief asks for; the starts of its chapters."""
    found = next(imageio_ffmpeg.read_frames(path))
    assert (found["codec"], found["audio_codec"], found["source_size"]) == ("h264", "aac", size)
    assert found["pix_fmt"].startswith("yuv420p")
    assert found["duration"] <= script.LONGEST
    assert path.stat().st_size < film.MOST_BYTES
    about = film.read(path, "-f", "ffmetadata").decode()
    marks = re.findall(r"TIMEBASE=1/(\d+)\nSTART=(\d+)\nEND=\d+\ntitle=(.*)", about)
    assert [name for *_, name in marks] == list(script.PARTS)
    return [int(start) / int(base) for base, start, _ in marks]


def test_captions_follow_the_results(results):
    before = [caption.text for scene in told(results) for caption in scene.captions]
    path = results / "nsynth-demo" / "05_evaluation.json"
    metrics = json.loads(path.read_text())["metrics"]
    metrics["mel_cnn_top1"] |= {"value": 0.123, "low": 0.111, "high": 0.135}
    metrics["difference: mel_cnn - svm"] |= {"value": -0.5, "low": -0.6, "high": -0.4}
    alter(path, metrics=metrics)
    changed = "\n".join({caption.text for scene in told(results) for caption in scene.captions} - set(before))
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
        (PARTS + "{{ nsynth. }}", "line 44: .*Mend the script"),
        (PARTS.replace("## Walkthrough", "## A walk"), "expected Introduction, Walkthrough, Model explanation"),
        ("\n## Conclusion" + PARTS.replace("\n## Conclusion", "", 1), "in this order"),
        (PARTS.replace("[card] Walkthrough", "[dance] Walkthrough"), "scene 'dance': not found, expected one of card"),
        (
            PARTS.replace("[card] Walkthrough", "[table piano] A"),
            "line 12: task 'piano': not found, expected .*nsynth",
        ),
        (PARTS.replace("[card] Walkthrough", "[sound nsynth/good] A"), "one ♪ in a .sound."),
        (PARTS.replace("[card] Walkthrough", ""), "before any scene"),
        (PARTS + "\n## Encore\n", "in this order"),
    ],
)
def test_what_is_wrong_in_a_script_is_named(tmp_path, text, match):
    with pytest.raises(ValueError, match=match):
        told(reader.RESULTS, write(tmp_path, text))


def test_a_film_that_is_too_long_is_refused_before_anything_is_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pages, "chromium", lambda: pytest.fail("something was drawn"))
    path = write(tmp_path, PARTS + "These are thirty characters, no? " * 150)
    assert main(["video", "--run", str(tmp_path), "--script", str(path), "--out", str(tmp_path / "film.mp4")]) == 1
    said = capsys.readouterr().err
    assert "at most 300 s are allowed. The longest part is 'Conclusion'" in said
    assert not (tmp_path / "film.mp4").exists()


def test_captions_stay_as_long_as_it_takes_to_read_hear_or_say_them():
    heard = {"a": 5.0, "b" * 60: 0.0, "c": 3.2}
    scene = script.Scene(0, "sound", "nsynth", "good", "")
    for text, seconds in heard.items():
        scene.captions.append(script.Caption(text, text == "c", np.zeros(round(seconds * film.RATE))))
    assert script.set_times([scene]) == scene.seconds == pytest.approx(5.4 + 4.0 + 4.0)
    assert scene.captions[2].heard_from == pytest.approx(5.4 + 4.0 + 0.3)
    assert script.set_times([scene], least=26.8) == pytest.approx(26.8)  # a slower voice


def test_notebooks_of_another_run_than_the_results_are_refused(tmp_path, results):
    quoted = found_in(results)["nsynth"].runs["05_evaluation"]
    with pytest.raises(FileNotFoundError, match="python -m bundle run --task nsynth"):
        scenes.executed(tmp_path, quoted)
    shown = tmp_path / "results" / "05_evaluation.json"  # the run's, beside the folders of the results
    shutil.copy(quoted.path, shown)
    assert scenes.executed(tmp_path, quoted) == tmp_path / "05_evaluation.ipynb"
    alter(shown, weights_digest={"mel_cnn": "other"})
    with pytest.raises(ValueError, match=r"its weights are not those of .*python -m bundle run"):
        scenes.executed(tmp_path, quoted)
    with pytest.raises(ValueError, match="example 'ugly': not found, expected one of good"):
        sound.clip_of("ugly", quoted)


def test_the_same_frames_are_the_same_bytes(tmp_path):
    for name in ("film.mp4", "again.mp4"):
        film.encode(tmp_path / name, frames(1), np.zeros(film.RATE), [(0.0, "One")], size=SMALL)
    assert (tmp_path / "film.mp4").read_bytes() == (tmp_path / "again.mp4").read_bytes()
    assert np.abs(pixel(tmp_path / "film.mp4", 0.5, 1700, 900) - BLUE).max() < 12  # no face: what was drawn stays
    assert not command.has_face(tmp_path / "film.mp4")


def test_the_old_film_stays_when_a_new_one_fails(tmp_path, monkeypatch):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"old")

    def stopped():
        yield from frames(0.4)
        raise KeyboardInterrupt

    given = np.zeros(film.RATE), [(0, "all")]
    with pytest.raises(KeyboardInterrupt):
        film.encode(path, stopped(), *given, size=SMALL)
    with pytest.raises(RuntimeError, match="ffmpeg could not write"):
        film.encode(path, frames(1), *given, face=tmp_path / "no.mp4", size=SMALL)
    monkeypatch.setattr(film, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match=r"not written: 0\.0 MiB, at most"):
        film.encode(path, frames(1), *given, size=SMALL)
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == b"old"


def test_a_section_is_shown_cell_by_cell(tmp_path, browser):
    path = tmp_path / "01_x.ipynb"
    path.write_text(notebook())
    picture, boxes = pages.section(browser, path, "First", 1000, 1.0)
    assert len(boxes) == 3  # the text from its heading on, the code, and what the next text begins with
    assert boxes[0][0][1] < boxes[1][0][1] < boxes[2][0][3] <= len(picture)
    assert len(pages.section(browser, path, "Second", 1000, 1.0)[1]) == 1
    with pytest.raises(ValueError, match="no section 'Third'; there are: First; Second"):
        pages.section(browser, path, "Third", 1000, 1.0)
    path.write_text(notebook(None))
    with pytest.raises(ValueError, match="not executed to its end"):
        pages.section(browser, path, "First", 1000, 1.0)


def test_text_that_does_not_fit_is_refused(browser):
    scene = script.Scene(0, "card", "", "", "A headline", ["a point"], [script.Caption("a longer caption " * 12)])
    with pytest.raises(ValueError, match=r"'a longer caption .* too long for its place"):
        pages.stills(browser, scene, heading="T", author={"name": "A", "number": "1"})


@pytest.fixture(scope="module")
def made(chromium, tmp_path_factory, load_toy, toy):
    """A short film with every kind of scene, a face and a voice; at once five frames a second."""
    folder, data = tmp_path_factory.mktemp("film"), load_toy("nsynth")
    kept, run, name = folder / "results" / "nsynth-demo", folder / "nsynth", str(data.test.names[0])
    shutil.copytree(reader.RESULTS / "nsynth-demo", kept)
    stored = dict(np.load(kept / "05_evaluation.npz"))
    np.savez(kept / "05_evaluation.npz", **stored | {"names": np.array([name, *stored["names"][1:]])})
    example = {"data_digest": data.digest, "examples": {"good": name}}
    alter(kept / "05_evaluation.json", parameters={"DATA": str(toy / "nsynth")}, **example)
    (run / "results").mkdir(parents=True)
    shutil.copy(kept / "01_data_exploration.json", run / "results")
    (run / "01_data_exploration.ipynb").write_text(notebook())
    shutil.copytree(ROOT / "figures/nsynth-demo", run / "figures" / "nsynth-demo")
    text = PARTS.replace("[card] Walkthrough", "[cells nsynth/01_data_exploration: First] Cells")
    text = text.replace("[card] Model explanation", "[figure nsynth/04_architecture] A figure")
    text = text.replace("[card] Test and evaluation\n- a point\n\nA", "[sound nsynth/good] Listen\n\n♪ A")
    text = text.replace("[card] Conclusion", "[table nsynth] All models")
    soundfile.write(folder / "voice.wav", 0.5 * np.sin(np.arange(film.RATE) / 20), film.RATE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(film, "FPS", 5)
        silence = np.zeros(film.RATE)
        film.encode(folder / "face.mp4", frames(1, RED), silence, [(0, "me")], size=SMALL)
        given = folder / "face.mp4", str(folder / "voice.wav"), SMALL
        walkthrough.make(folder / "film.mp4", folder, write(folder, text), folder / "results", *given)
    return folder / "film.mp4"


def test_a_film_has_the_face_the_voice_and_the_clip_where_they_belong(made):
    starts = is_walkthrough(made, SMALL)
    left, top, width, height = film.FACE
    for moment in (0.2, 1.6, starts[5]):  # the face's film lasts one second
        assert np.abs(pixel(made, moment, left + width // 2, top + height // 2) - RED).max() < 12
    assert np.abs(pixel(made, 0.2, left + width // 2, 900 - 150) - RED).max() > 100  # the panel above
    assert command.has_face(made)
    assert level(made, 0.1, 0.9) > 0.3  # the voice
    assert level(made, 1.2, starts[4]) < 0.01
    assert level(made, starts[4] + 0.3, starts[4] + 1.3) > 0.03  # the clip


def test_captions_can_be_spoken():
    pytest.importorskip("espeakng_loader", reason="the speech synthesiser is not installed (requirements-demo.txt)")
    short, long = sound.spoken("Yes."), sound.spoken("Top-1 is 0.5–0.6 with instruments kept apart.")
    assert 0.2 * film.RATE < len(short) < len(long)
    assert np.sqrt(np.mean(long**2)) > 0.03


def test_the_committed_film_is_what_the_brief_asks_for():
    is_walkthrough(ROOT / "report/walkthrough.mp4", (1920, 1080))
