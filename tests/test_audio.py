"""Decoding and cutting of waveforms; the guarded torchaudio import; the tasks, and folders that hold none."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers import audio, data
from helpers.tasks import TASKS, get_task, subset

ROOT = Path(__file__).resolve().parent.parent
RATE = 8000


def tone(seconds=1.0, rate=RATE, hertz=440.0):
    """A sine of amplitude 0.5."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def strongest_hertz(wave, rate=RATE):
    """Frequency of the largest bin of the spectrum."""
    return np.abs(np.fft.rfft(wave * np.hanning(len(wave)))).argmax() * rate / len(wave)


def stored(array):
    """The bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def recorded(form):
    """The bytes of a recording."""
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(), RATE, format=form)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".npy"])
def test_every_format_decodes_to_the_mean_of_its_channels(tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"
    if suffix == ".npy":
        np.save(path, tone().astype(np.float16))
    else:
        soundfile.write(path, np.stack([2 * tone(), np.zeros(RATE)], axis=1), RATE)  # stereo: their mean is asked for
    wave, rate = audio.decode(path, RATE)
    assert (wave.dtype, wave.ndim, rate) == (np.float32, 1, RATE)
    assert len(wave) == pytest.approx(RATE, rel=0.02)
    assert wave[500:-500].std() == pytest.approx(0.5 / np.sqrt(2), rel=0.03)
    assert strongest_hertz(wave) == pytest.approx(440, abs=2)


@pytest.mark.parametrize(("found", "wanted"), [(44_100, 8_000), (16_000, 12_000), (8_000, 16_000)])
def test_a_wrong_rate_is_resampled_and_reported(tmp_path, found, wanted):
    soundfile.write(tmp_path / "clip.wav", tone(rate=found), found)
    wave, rate = audio.decode(tmp_path / "clip.wav", wanted)
    assert (rate, len(wave), wave.dtype) == (found, wanted, np.float32)
    assert strongest_hertz(wave, wanted) == pytest.approx(440, abs=2)
    assert wave[500:-500].std() == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_resampling_lets_no_alias_through():
    assert np.abs(audio.resample(tone(rate=44_100, hertz=7_000), 44_100, 8_000)[200:-200]).max() < 0.01


@pytest.mark.parametrize(("peak", "found"), [(3.0, 1.0), (1.0, 1.0), (0.25, 0.25)])
def test_a_recording_above_full_scale_is_scaled_to_it_and_all_are_in_steps_of_16_bits(tmp_path, peak, found):
    wave = np.linspace(-peak, peak / 2, RATE, dtype=np.float32)
    soundfile.write(tmp_path / "clip.wav", wave, RATE, subtype="FLOAT")
    decoded, _ = audio.decode(tmp_path / "clip.wav", RATE)
    np.testing.assert_allclose(decoded, wave * (found / peak), atol=0.51 / 32767)
    np.testing.assert_allclose(decoded * 32767, np.rint(decoded * 32767), atol=0.01)


def test_a_row_of_an_array_is_that_clip_at_the_wanted_rate(tmp_path):
    np.save(tmp_path / "clips.npy", np.stack([tone(), tone(hertz=880)]).astype(np.float16))
    wave, rate = audio.decode(tmp_path / "clips.npy", 12_345, row=1)
    assert rate == 12_345
    with pytest.raises(audio.BadAudio, match="out of bounds"):
        audio.decode(tmp_path / "clips.npy", RATE, row=2)
    np.testing.assert_allclose(wave, tone(hertz=880), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("clip.wav", None, "file is missing"),
        ("clip.wav", b"", r"empty file \(0 bytes\)"),
        ("clip.wav", b"no sound in here", "cannot be decoded"),
        ("clip.mp3", b"no sound in here", "cannot be decoded"),
        ("clip.npy", b"no sound in here", "cannot be decoded"),
        ("clip.wav", b"RIFF", "cannot be decoded"),
        ("clip.wav", recorded("WAV")[:44], "holds no samples"),
        ("clip.wav", recorded("WAV").replace(b"\x40\x1f\0\0", b"\xff\xff\xff\x7f", 1), "rate is 2147483647 Hz"),
        ("clip.flac", recorded("FLAC")[:60], "cannot be decoded"),
        ("clip.ogg", bytes(3_000), "cannot be decoded"),
        ("clip.npy", stored(tone())[:500], "cannot be decoded"),
        ("clip.npy", stored(np.array([print], dtype=object)), "cannot be decoded"),
        ("clip.npy", stored(np.zeros(0)), "holds no samples"),
        ("clip.npy", stored(np.full(RATE, 0.5e-4)), "silent"),
        ("clip.npy", stored(np.full(RATE, 1e30)), r"holds samples of 1e\+30, expected \[-1, 1\]"),
        ("clip.npy", stored(np.where(np.arange(RATE) == 7, np.nan, tone())), "holds NaN or infinite samples"),
        ("clip.npy", stored(np.where(np.arange(RATE) == 7, np.inf, tone())), "holds NaN or infinite samples"),
    ],
)  # fmt: skip
def test_a_recording_that_cannot_be_used_is_refused_with_its_reason(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(audio.BadAudio, match=reason):
        audio.decode(tmp_path / name, RATE)


def test_a_truncated_wav_gives_the_samples_that_are_there(tmp_path):
    soundfile.write(tmp_path / "clip.wav", tone(), RATE)
    (tmp_path / "clip.wav").write_bytes((tmp_path / "clip.wav").read_bytes()[: 44 + 2 * 3000])
    wave, _ = audio.decode(tmp_path / "clip.wav", RATE)
    np.testing.assert_allclose(wave, tone()[: len(wave)], atol=1e-4)
    assert 2900 < len(wave) <= 3000


@pytest.mark.parametrize(("length", "count"), [(1, 1), (4, 1), (10, 1), (14, 1), (15, 2), (20, 2), (24, 2), (25, 3)])
def test_a_wave_is_cut_or_padded_and_windows_drop_a_rest_of_less_than_half(length, count):
    wave = np.arange(1, length + 1, dtype=np.float32)
    assert audio.fit_length(wave, 5).tolist() == [*wave[:5], *[0.0] * (5 - length)]
    windows = audio.split_windows(wave, 10)
    assert windows.shape == (count, 10)
    assert windows.reshape(-1)[:length].tolist() == wave[: count * 10].tolist()
    assert not windows.reshape(-1)[length:].any()


FAKE = """
import sys
broken = {broken}
if broken and "torchaudio._extension" not in sys.modules:
    import torchaudio.part  # stays in sys.modules when this import fails
    raise {error}("libcudart.so.13: cannot open shared object file")
import torchaudio.part
stubbed = "torchaudio._extension" in sys.modules
"""


def import_fake(folder, broken, error="OSError"):
    """What import_torchaudio does in a fresh interpreter where a package of ours is torchaudio."""
    (folder / "torchaudio").mkdir()
    (folder / "torchaudio" / "__init__.py").write_text(FAKE.format(broken=broken, error=error))
    (folder / "torchaudio" / "part.py").write_text("import sys; package = sys.modules['torchaudio']")
    code = f"import sys; sys.path[:0] = {[str(folder), str(ROOT)]!r}\nfrom helpers.audio import import_torchaudio\n"
    code += "found = import_torchaudio(); print(found.stubbed, sys.modules['torchaudio'].part.package is found)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("broken", [False, True])
def test_torchaudio_gets_a_stub_only_where_its_plain_import_fails(tmp_path, broken):
    done = import_fake(tmp_path, broken)
    assert done.stdout.split() == [str(broken), "True"], done.stderr


def test_any_other_failure_of_torchaudio_is_not_hidden(tmp_path):
    assert "ImportError: libcudart" in import_fake(tmp_path, True, "ImportError").stderr


@pytest.mark.parametrize("name", ["NSynth", "", "fsd50k"])
def test_an_unknown_task_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=f"TASK: found '{name}', expected one of nsynth, magnatagatune, languages"):
        get_task(name)


def test_each_task_cuts_its_clip_into_whole_windows_of_distinct_classes():
    assert [len(get_task(name).classes) for name in TASKS] == [11, 50, 6]
    for task in TASKS.values():
        assert task.clip_samples % task.window_samples == 0
        assert len(set(task.classes)) == len(task.classes)


@pytest.mark.parametrize(
    ("wanted", "names"), [("", ("de", "en", "es")), ("es, en", ("es", "en")), ("en,es,", ("en", "es"))]
)
def test_classes_keep_the_order_they_are_given_in(wanted, names):
    assert subset(("de", "en", "es"), wanted) == names


@pytest.mark.parametrize("wanted", ["en", "en,en", "en,xx", "EN,ES"])
def test_classes_that_are_unknown_repeated_or_too_few_are_refused(wanted):
    with pytest.raises(ValueError, match=f"CLASSES: found '{wanted}', expected two or more different names out of de"):
        subset(("de", "en", "es"), wanted)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_missing_empty_or_foreign_folder_is_refused_with_what_was_found(tmp_path, task):
    with pytest.raises(FileNotFoundError, match=f"DATA: found no folder .*none.* data of task '{task.name}'"):
        data.load(task, str(tmp_path / "none"), tmp_path)
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match=r"found an empty folder, expected .*README"):
        data.load(task, str(tmp_path / "data"), tmp_path)
    for name in "abcdefghi":
        (tmp_path / "data" / f"{name}.txt").touch()
    with pytest.raises(ValueError, match=r"found a.txt, .*, f.txt and 3 more, expected .*README"):
        data.load(task, str(tmp_path / "data"), tmp_path)
    assert not (tmp_path / "cache").exists()


def test_the_real_mp3_gives_its_ten_windows(real):
    task = TASKS["magnatagatune"]
    (path,) = (real / "magnatagatune" / "original").rglob("*.mp3")
    wave, rate = audio.decode(path, task.rate)
    assert rate == 16_000
    assert 29.1 < len(wave) / task.rate < 29.3  # 29.27 s where the decoder keeps the encoder's padding
    windows = audio.split_windows(wave, task.window_samples)
    assert windows.shape == (10, 34_950)
    assert (np.sqrt(np.square(windows).mean(axis=1)) > 1e-3).all()
