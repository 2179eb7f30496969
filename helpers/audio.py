"""Read and cut waveforms. Every waveform here is mono float32, amplitude in [-1, 1], in the steps of 16 bits."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from math import gcd
from pathlib import Path

import numpy as np
import soundfile

SUFFIXES = (  # of what libsndfile reads, and of arrays
    ".wav", ".wave", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au",
    ".snd", ".caf", ".npy",
)  # fmt: skip
UNREAD = (  # of other recordings: they are listed with the reason, not passed over
    ".m4a", ".m4b", ".mp4", ".aac", ".wma", ".webm", ".mka", ".mkv", ".3gp", ".amr", ".ac3", ".wv", ".ape",
)  # fmt: skip
FOREIGN = {  # first bytes of what libsndfile does not read, or takes for something else and reads a part of
    b"\x1a\x45\xdf\xa3": "Matroska or WebM", b"\x30\x26\xb2\x75": "Windows Media audio", b"#!AMR": "AMR speech",
    b"\x0b\x77": "AC-3 audio", b"wvpk": "WavPack audio", b"ADIF": "AAC audio", b"MAC ": "Monkey's Audio",
}  # fmt: skip
SOUNDS = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"fLaC", b"OggS", b"ID3", b"caff", b".snd", b"riff", *FOREIGN)
UNKNOWN_SIZE = 0x7FFFF000  # what announces at least so many bytes was written to a pipe, without knowing the end
WHOLE = 0.95  # of the announced length must be there, else a recording is cut off
RATES = 1_000, 384_000  # Hz that a recording may have: more is a damaged header, and resampling would fill the memory
LONGEST_HOURS = 24
AT_ONCE = 2**22  # samples in memory at a time; longer recordings are read twice, in pieces
LARGEST = 2.0**31  # samples of 32 bits that were not scaled
SILENCE_PEAK = 1e-4  # -80 dB re full scale, around the mean: below it a clip holds nothing to classify
CANCELLED = 1e-3  # of the channels' power is left in their mean: one is another upside down
FULL_SCALE = 32767  # steps of 16 bits from 0 to 1


class BadAudio(ValueError):
    """A recording that cannot be used; the message is the reason, without the file's name."""


def import_torchaudio() -> types.ModuleType:
    """Import torchaudio, also where its compiled part does not match the installed torch.

    A torchaudio built for CUDA cannot load its extension beside a CPU-only torch. The mel filters that we use
    are Python and do not need it, so a stub takes its place, only when the plain import fails.
    """
    try:
        import torchaudio
    except OSError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        stub = types.ModuleType("torchaudio._extension")
        stub._IS_TORCHAUDIO_EXT_AVAILABLE = stub._IS_ALIGN_AVAILABLE = False
        stub.fail_if_no_align = lambda function: function
        sys.modules["torchaudio._extension"] = stub
        import torchaudio
    return torchaudio


def resample(wave: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Change the sampling rate by polyphase filtering; `wave` (samples,) float32, rates in Hz."""
    if rate == new_rate:
        return wave
    from scipy.signal import resample_poly  # takes a second to import, which one file need not wait for

    common = gcd(rate, new_rate)
    return resample_poly(wave, new_rate // common, rate // common).astype(np.float32)


def _resample_blocks(blocks: Iterable[np.ndarray], rate: int, new_rate: int) -> Iterator[np.ndarray]:
    """As `resample` makes of all blocks together, block by block; each but the last is a multiple of `rate` long."""
    edge = rate * -(-16 // min(rate, new_rate))  # more than the filter reaches to either side, and a whole second
    before, held = np.empty(0, np.float32), None
    for block in chain(blocks, (None,)):
        if held is not None:
            after = before[:0] if block is None else block[:edge]
            around = resample(np.concatenate([before, held, after]), rate, new_rate)
            start, length = len(before) // rate * new_rate, -(-len(held) * new_rate // rate)
            yield around[start : start + length]
            before = held[-edge:]
        held = block


def refuse_foreign(path: str | Path) -> None:
    """Raise BadAudio for a file that is missing or empty, or that by its first bytes is no sound that is read here."""
    if not os.path.isfile(path):
        raise BadAudio("file is missing")
    if os.path.getsize(path) == 0:
        raise BadAudio("empty file (0 bytes)")
    try:
        with open(path, "rb") as file:
            head = _after_tag(file)
    except OSError as error:
        raise BadAudio(f"cannot be opened ({error.strerror})") from error
    if head.startswith(b"\0\x05\x16\x07"):
        raise BadAudio("holds a Mac's notes on another file, no sound. It can be removed")
    names = [name for start, name in FOREIGN.items() if head.startswith(start)]
    names += ["MPEG-4 audio"] * (head[4:8] == b"ftyp")
    names += ["AAC audio"] * (len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0)
    if names:
        raise BadAudio(f"is {names[0]}, which is not read here. Convert it: ffmpeg -i NAME NAME.wav")


def _after_tag(file) -> bytes:
    """The first bytes of an open file, behind an ID3 tag where one comes first; the file then stands before them."""
    head = file.read(12)
    if head.startswith(b"ID3") and len(head) > 9:
        file.seek(10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)))
        head = file.read(12)
    file.seek(-len(head), os.SEEK_CUR)
    return head


def looks_like_audio(path: Path) -> bool:
    """Whether a file without a suffix begins as recordings do."""
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError:
        return False
    return head.startswith(SOUNDS) or head[4:8] == b"ftyp"


def _part_there(path: str | Path) -> float:
    """The part of a WAV's or AIFF's samples that is there, by the bytes that its header announces; 1 where unknown."""
    with open(path, "rb") as file:
        form = _after_tag(file)
        order, chunk = {b"RIFF": ("little", b"data"), b"FORM": ("big", b"SSND")}.get(form[:4], ("", b""))
        if not order:
            return 1.0
        file.seek(12, os.SEEK_CUR)
        end = os.path.getsize(path)
        while len(head := file.read(8)) == 8:
            size = int.from_bytes(head[4:], order)
            if head[:4] == chunk:
                return 1.0 if not 0 < size < UNKNOWN_SIZE else min(1.0, (end - file.tell()) / size)
            if file.tell() + size > end:
                return 1.0
            file.seek(size + size % 2, os.SEEK_CUR)
    return 1.0


MP3_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # Hz, by version
MP3_BITS = {  # kbit/s of layer 3, by whether the version is 1
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def _frames_of_mp3(path: str | Path) -> int:
    """Samples of an MP3 that does not say how many it has, by walking its frames (ISO 11172-3); 0 for other files.

    What libsndfile says of such a file is a guess from its first frame.
    """
    with open(path, "rb") as file:
        head = _after_tag(file)
        if not (len(head) > 3 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2):
            return 0
        content = file.read()
    place = samples = 0
    while place + 4 <= len(content):
        first, second, third = content[place : place + 3]
        version, index, rate = second >> 3 & 3, third >> 4, third >> 2 & 3
        if first != 0xFF or second & 0xE6 != 0xE2 or version == 1 or index == 15 or rate == 3:
            break
        count = 1152 if version == 3 else 576
        size = count // 8 * 1000 * MP3_BITS[version == 3][index] // MP3_RATES[version][rate] + (third >> 1 & 1)
        if not size or (not samples and any(name in content[:200] for name in (b"Xing", b"Info", b"VBRI"))):
            return 0  # of free format, or it says
        samples, place = samples + count, place + size
    return samples


@contextmanager
def _decoding(path: str | Path) -> Iterator[None]:
    """Whatever a damaged file raises becomes the reason for which it is listed and passed over."""
    try:
        yield
    except BadAudio:
        raise
    except Exception as error:
        reason = " ".join(str(error).replace(str(path), "file").split())[-120:]
        raise BadAudio(f"cannot be decoded ({type(error).__name__}: {reason})") from error


class Recording:
    """A recording that is read in pieces, so that its length does not decide how much memory it takes.

    Parameters
    ----------
    path : str or Path
        What libsndfile reads (SUFFIXES); or a NumPy array: flat, or clips × samples with `row` saying which. Arrays
        carry no sampling rate: they are taken to be at `rate` already, as the published ones are.
    rate : int
        Wanted sampling rate, in Hz.
    row : int, optional

    Attributes
    ----------
    found_rate : int
        Of the file, in Hz.

    Raises
    ------
    BadAudio
        If it cannot be used, here or when its first piece is asked for: missing, empty, no sound or a container that is
        not read; cut off, silent, too long; channels that cancel each other; samples that are not finite.
    """

    def __init__(self, path: str | Path, rate: int, row: int | None = None):
        refuse_foreign(path)
        self.path, self.rate, self._array = path, rate, None
        with _decoding(path):
            if Path(path).suffix.lower() == ".npy":
                array = np.load(path, mmap_mode="r", allow_pickle=False)
                self._array = (array if row is None else array[row]).reshape(-1, 1)
                self.found_rate, self._frames = rate, len(self._array)
            else:
                with self._open() as file:
                    self.found_rate, self._frames = file.samplerate, file.frames
        if not RATES[0] <= self.found_rate <= RATES[1]:
            raise BadAudio(f"sampling rate is {self.found_rate} Hz, expected {RATES[0]} to {RATES[1]} Hz")
        if (hours := self._frames / self.found_rate / 3600) > LONGEST_HOURS:
            raise BadAudio(f"lasts {hours:,.1f} hours, expected at most {LONGEST_HOURS}. Cut it")

    def _open(self) -> soundfile.SoundFile:
        # A name that is no UTF-8 is refused as text
        return soundfile.SoundFile(os.fsencode(self.path) if os.name == "posix" else self.path)

    def _blocks(self) -> Iterator[np.ndarray]:
        """All samples as they are stored, (samples, channels) float32: at once, or in blocks of whole seconds."""
        size = AT_ONCE if self._frames <= AT_ONCE else max(1, AT_ONCE // self.found_rate) * self.found_rate
        with _decoding(self.path):
            if self._array is not None:
                for start in range(0, self._frames, size):
                    yield np.asarray(self._array[start : start + size], dtype=np.float32)
                return
            with self._open() as file:
                file.seek(0)  # without it the last bits of an MP3 differ
                while len(block := file.read(size, dtype="float32", always_2d=True)):
                    yield block

    def _mono(self, check: bool) -> Iterator[np.ndarray]:
        """Blocks downmixed and resampled; with `check`, BadAudio at the end where the samples cannot be meant."""
        count, peak, apart, mixed = 0, 0.0, 0.0, 0.0

        def downmix() -> Iterator[np.ndarray]:
            nonlocal count, peak, apart, mixed
            for block in self._blocks():
                wave = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
                if check:
                    count, loudest = count + len(wave), float(peak_of(wave))
                    peak = max(peak, loudest) if np.isfinite(loudest) else loudest
                    if not np.isfinite(peak):
                        raise BadAudio("holds NaN or infinite samples")
                    if block.shape[1] > 1:
                        apart += float(np.square(block, dtype=np.float64).mean(axis=1).sum())
                        mixed += float(np.square(wave, dtype=np.float64).sum())
                yield wave

        yield from _resample_blocks(downmix(), self.found_rate, self.rate)
        if not check:
            return
        if not count:
            raise BadAudio("holds no samples")
        if peak > LARGEST:
            raise BadAudio(f"holds samples of {peak:.0e}, expected [-1, 1]")
        there = 1.0 if self._array is not None else min(_part_there(self.path), count / max(self._frames, 1))
        if self._array is None and (frames := _frames_of_mp3(self.path)):
            there = min(there, count / frames)
        if there < WHOLE:
            raise BadAudio(f"cut off: {count:,} samples of the {count / there:,.0f} that it announces. Get it again")
        if mixed < CANCELLED * apart and apart > count * SILENCE_PEAK**2:
            raise BadAudio("its channels cancel each other: one is the other upside down. Keep one of them")

    def pieces(self, size: int = AT_ONCE) -> Iterator[np.ndarray]:
        """The recording in order, as waveforms at `rate` of `size` samples, the last one shorter.

        Scaled to peak 1 where the whole exceeds it, and rounded to 16 bits: a waveform is the same whether it comes
        from its file or from a pack, which holds 16 bits.
        """
        low, high, total, count, blocks = np.inf, -np.inf, 0.0, 0, []
        for wave in self._mono(check=True):
            if len(wave):
                low, high = min(low, wave.min()), max(high, wave.max())
                total, count = total + float(wave.sum(dtype=np.float64)), count + len(wave)
            blocks = [wave] if self._frames <= AT_ONCE else []
        if max(high - total / count, total / count - low) < SILENCE_PEAK:
            raise BadAudio(f"silent (peak below {SILENCE_PEAK})")
        gain = FULL_SCALE / np.float32(max(high, -low, 1.0))
        held = np.empty(0, np.float32)
        for wave in blocks or self._mono(check=False):
            wave = wave * gain
            wave = np.rint(wave, out=wave) * np.float32(1 / FULL_SCALE)
            held = np.concatenate([held, wave]) if len(held) else wave
            while len(held) > size:
                yield held[:size]
                held = held[size:]
        yield held


def decode(path: str | Path, rate: int, row: int | None = None, samples: int | None = None) -> tuple[np.ndarray, int]:
    """Read a recording as mono float32 at `rate`, as `Recording` has it: the whole, or its first `samples`.

    Returns
    -------
    wave : ndarray, shape (samples,), float32
    found_rate : int
        Rate of the file before resampling, in Hz.

    Raises
    ------
    BadAudio
        As `Recording`.
    """
    recording = Recording(path, rate, row)
    if samples:
        return next(recording.pieces(max(samples, AT_ONCE)))[:samples], recording.found_rate
    return np.concatenate(list(recording.pieces())), recording.found_rate


def peak_of(wave: np.ndarray) -> np.floating:
    """The largest amplitude; NaN where a sample is."""
    return max(wave.max(), -wave.min())


def is_silent(wave: np.ndarray) -> bool:
    """Whether a wave holds nothing beside a constant."""
    mean = wave.mean(dtype=np.float64)
    return max(wave.max() - mean, mean - wave.min()) < SILENCE_PEAK


def fit_length(wave: np.ndarray, samples: int) -> np.ndarray:
    """Cut the end off, or pad it with zeros, so that the last axis has `samples`."""
    missing = samples - wave.shape[-1]
    return wave[..., :samples] if missing <= 0 else np.pad(wave, [(0, 0)] * (wave.ndim - 1) + [(0, missing)])


def split_windows(wave: np.ndarray, window: int) -> np.ndarray:
    """Cut waveforms of any length into windows, (…, samples) -> (…, windows, window).

    A rest shorter than half a window is dropped, a longer one is padded with zeros; there is always one window.
    """
    count = max(1, (wave.shape[-1] + window // 2) // window)
    return fit_length(wave, count * window).reshape(*wave.shape[:-1], count, window)
