"""Decoding and cutting of waveforms; the guarded torchaudio import; the tasks, and folders that hold none."""

import io
import struct
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


def wave_file(data_size=None, channels=1, wave=None, form="WAV", subtype="PCM_16"):
    """The bytes of a recording, with another announced size of its samples where one is given."""
    buffer, wave = io.BytesIO(), tone() if wave is None else wave
    soundfile.write(buffer, np.stack([wave] * channels, 1), RATE, format=form, subtype=subtype)
    content = bytearray(buffer.getvalue())
    place = content.index(b"SSND" if form == "AIFF" else b"data") + 4
    if data_size is not None:
        content[place : place + 4] = struct.pack("<I", data_size)
    return bytes(content)


def mp3(frames, header=b"\xff\xfb\x90\xc4", size=417):
    """An MP3 of so many silent frames of 128 kbit/s at 44.1 kHz, without a count of them."""
    return (header + bytes(size - len(header))) * frames


@pytest.mark.parametrize(
    ("name", "content", "samples"),
    [
        ("piped.wav", wave_file(0xFFFFFFFF), RATE),
        ("piped.wav", wave_file(0x7FFFF000), RATE),
        ("tagged.wav", b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + wave_file(), RATE),
        ("floats.WAV", wave_file(subtype="FLOAT"), RATE),
        ("u-law.wav", wave_file(subtype="ULAW"), RATE),
        ("mac.aiff", wave_file(form="AIFF"), RATE),
        ("six channels.wav", wave_file(channels=6), RATE),
        ("another suffix.wav", recorded("FLAC"), RATE),
        ("shifted.wav", wave_file(wave=0.3 * tone() + 0.3), RATE),
        ("nearly whole.wav", wave_file()[:-500], RATE - 250),
    ],
)  # fmt: skip
def test_what_can_be_read_is_read_whole(tmp_path, name, content, samples):
    (tmp_path / name).write_bytes(content)
    assert len(audio.decode(tmp_path / name, RATE)[0]) == pytest.approx(samples, abs=12)


SECOND = np.arange(RATE) / RATE


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("cut.wav", wave_file()[: 44 + 2 * 3000], r"cut off: 3,000 samples of the 8,000 that it announces"),
        ("cut.wav", wave_file(channels=2)[: 44 + 4 * 3000], r"cut off: 3,000 samples of the 8,000"),
        ("cut.aiff", wave_file(form="AIFF")[:9000], r"cut off: 4,\d+ samples of the 7,99"),
        ("cut.mp3", recorded("MP3")[:1200], "cut off: "),
        ("empty.wav", wave_file(0), "holds no samples"),
        ("still.wav", wave_file(wave=np.full(RATE, 0.01)), "silent"),
        ("still.wav", wave_file(wave=np.full(RATE, -1 / 128), subtype="PCM_U8"), "silent"),
        ("a.wav", b"\0\x05\x16\x07\0\x02\0\0Mac OS X        ", "a Mac's notes on another file"),
        ("a.m4a", b"\0\0\0\x1cftypM4A ", r"is MPEG-4 audio, which is not read here. Convert it: ffmpeg -i"),
        ("a.wav", b"\x1a\x45\xdf\xa3webm", "is Matroska or WebM"),
        ("a.wma", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "is Windows Media audio"),
        ("a.wav", b"\xff\xf1\x50\x80\x01", "is AAC audio"),
        ("a.mp3", b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + b"\xff\xf9\x50\x80", "is AAC audio"),
        ("a.amr", b"#!AMR\n", "is AMR speech"),
        ("a.ac3", b"\x0b\x77\0\0", "is AC-3 audio"),
    ],
)  # fmt: skip
def test_what_would_be_scored_from_garbage_is_refused(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(audio.BadAudio, match=reason):
        audio.decode(tmp_path / name, RATE)


@pytest.mark.parametrize("rest", [0, 1e-3])
def test_channels_that_cancel_are_no_silence_and_no_sound(tmp_path, rest):
    channels = np.stack([tone(), rest * np.sin(SECOND * 400) - tone()], axis=1)
    soundfile.write(tmp_path / "a.wav", channels, RATE)
    with pytest.raises(audio.BadAudio, match="cancel each other: one is the other upside down"):
        audio.decode(tmp_path / "a.wav", RATE)


def test_an_mp3_that_does_not_say_its_length_is_counted_by_its_frames(tmp_path):
    (tmp_path / "a.mp3").write_bytes(mp3(40))
    assert audio._frames_of_mp3(tmp_path / "a.mp3") == 40 * 1152
    (tmp_path / "b.mp3").write_bytes(recorded("MP3"))  # its first frame says
    assert audio._frames_of_mp3(tmp_path / "b.mp3") == 0


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".npy"])
@pytest.mark.parametrize(("found", "wanted"), [(8_000, 8_000), (11_025, 8_000), (8_000, 12_000)])
def test_a_long_recording_is_read_in_pieces_that_are_the_whole(tmp_path, monkeypatch, found, wanted, suffix):
    wave = np.float32(np.random.default_rng(0).normal(0, 0.2, 6 * found)).cumsum() / 9
    path = tmp_path / f"a{suffix}"
    np.save(path, wave) if suffix == ".npy" else soundfile.write(path, wave / abs(wave).max(), found)
    whole, _ = audio.decode(path, wanted)
    monkeypatch.setattr(audio, "AT_ONCE", 10_000)
    pieces = list(audio.Recording(path, wanted).pieces(9_000))
    assert [len(piece) for piece in pieces[:-1]] == [9_000] * (len(pieces) - 1)
    assert 0 < len(pieces[-1]) <= 9_000
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=2 / 32767)
    np.testing.assert_array_equal(audio.decode(path, wanted, samples=7_000)[0], np.concatenate(pieces)[:7_000])


def test_a_recording_of_more_than_a_day_is_refused(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    monkeypatch.setattr(audio, "LONGEST_HOURS", 0.5 / 3600)
    with pytest.raises(audio.BadAudio, match=r"lasts 0.0 hours, expected at most"):
        audio.decode(tmp_path / "a.wav", RATE)


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
    with pytest.raises(ValueError, match=r"found an empty folder, expected .*docs/students.md"):
        data.load(task, str(tmp_path / "data"), tmp_path)
    for name in "abcdefghi":
        (tmp_path / "data" / f"{name}.txt").touch()
    with pytest.raises(ValueError, match=r"found a.txt, .*, f.txt and 3 more, expected .*docs/students.md"):
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
