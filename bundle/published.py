"""What the data sets' publishers say of them: addresses, digests, numbers of clips, and known faults."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """Files to fetch, and what they give: `parts` equal to `gives` are used as they are.

    Attributes
    ----------
    parts : tuple of str
        File names below the source's address; several are the pieces of one zip.
    gives : tuple of str
        Names in the folder when unpacked.
    digest : str
        "algorithm:hexadecimal" as published, for an archive of one part; "" where none was.
    """

    parts: tuple[str, ...]
    gives: tuple[str, ...]
    digest: str = ""


@dataclass(frozen=True)
class Source:
    """Where a task's data are published. Without an address (`base`), `note` says whom to ask for the files."""

    base: str
    archives: tuple[Archive, ...]
    note: str = ""


def _nsynth(split: str, md5: str) -> Archive:
    return Archive((f"nsynth-{split}.jsonwav.tar.gz",), (f"nsynth-{split}",), f"md5:{md5}")


SOURCES = {
    # MD5 as published by the HEAR benchmark: hearbenchmark/hear-preprocess, hearpreprocess/nsynth_pitch.py
    "nsynth": Source("http://download.magenta.tensorflow.org/datasets/nsynth", (
        _nsynth("test", "5e6f8719bf7e16ad0a00d518b78af77d"),
        _nsynth("valid", "87e94a00a19b6dbc99cf6d4c0c0cae87"),
        _nsynth("train", "fde6665a93865503ba598b9fac388660"),
    )),
    "magnatagatune": Source("https://mirg.city.ac.uk/datasets/magnatagatune", (
        Archive(("annotations_final.csv",), ("annotations_final.csv",)),
        Archive(("clip_info_final.csv",), ("clip_info_final.csv",)),
        Archive(("mp3.zip.001", "mp3.zip.002", "mp3.zip.003"), tuple("0123456789abcdef")),
    )),
    "languages": Source("", tuple(Archive((name,), (name,), digest) for name, digest in (
        ("inputs_train_fp16.npy", "sha256:abbb924c7a563cd0fb40a3179b4f37c85bdfbedd16b0be032f989ab6dfbe97fb"),
        ("targets_train_int8.npy", ""),
        ("inputs_test_fp16.npy", "sha256:9713b1488b9e8c98d4088a8a35e690f787bd447c8d0cb331716371896222f301"),
        ("targets_test_int8.npy", ""),
    )), "The course gives its language arrays to its students; they have no public address."),
}  # fmt: skip


# By `Listing.layout`: clips per split, or per folder that the names of the clips begin with
COUNTS = {
    "NSynth": {"nsynth-train": 289_205, "nsynth-valid": 12_678, "nsynth-test": 4_096},  # Engel et al. 2017
    "MagnaTagATune, original": {"train": 18_709, "valid": 1_825, "test": 5_329},  # Law et al. 2009: parts 0-b, c, d-f
    "MagnaTagATune, Bristol": {"train": 16_963, "val": 4_392},
    "course arrays": {"train": 6_000, "test": 1_200},
}
EMPTY_MP3S = (
    "6/norine_braun-now_and_zen-08-gently-117-146",
    "8/jacob_heringman-josquin_des_prez_lute_settings-19-gintzler__pater_noster-204-233",
    "9/american_baroque-dances_and_suites_of_rameau_and_couperin-25-le_petit_rien_xiveme_ordre_couperin-88-117",
)
# magenta/magenta issue 2092 names the first and the last of 71 notes: all of this instrument from pitch 84 to 108
NOISE_NOTES = tuple(f"brass_acoustic_046-{pitch:03d}-" for pitch in range(84, 109))
# A part of a clip's name, and what is known to be wrong with it
FAULTS = dict.fromkeys(NOISE_NOTES, "noise (magenta/magenta issue 2092)") | dict.fromkeys(EMPTY_MP3S, "published empty")
