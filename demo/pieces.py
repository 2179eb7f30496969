"""Compose the rendered demo pieces: every piece follows one line of STYLES, and an artist lies in one split.

True tags follow from how a piece was composed; the annotation leaves some of them out and seldom adds a wrong one, as
people did, so no model reaches 1.0.
"""

from dataclasses import dataclass, replace

import numpy as np

PIECES = {"train": 260, "valid": 30, "test": 70}  # at scale 1
PARTS = {"train": "0123456789ab", "valid": "c", "test": "def"}  # the published rule, by folder
ENOUGH = {"train": 4, "valid": 1, "test": 2}  # positives of a tag that omissions do not touch
KEPT, WRONG = 0.8, 0.12  # probability that a true tag is written down; that a piece gets a tag drawn at random
SELDOM = ("no beat", "no piano", "no singer", "bass", "modern", "foreign")  # true of many pieces: half as often written
# fmt: off
TAGS = (
    "ambient", "baroque", "bass", "beat", "cello", "chant", "choir", "classical", "country", "dance",
    "drum", "eastern", "electro", "fast", "female", "flute", "folk", "foreign", "guitar", "hard",
    "harp", "harpsichord", "heavy", "india", "jazz", "loud", "male", "modern", "new age", "no beat",
    "no piano", "no singer", "opera", "orchestra", "piano", "pop", "quiet", "rock", "singer", "sitar",
    "slow", "soft", "solo", "strange", "string", "synth", "techno", "trance", "violin", "vocal",
)
FAMILIES = {  # tag: the General MIDI programs, counted from 0, that earn it
    "piano": (0, 1, 2), "harpsichord": (6,), "guitar": (24, 25, 26, 27, 29, 30), "bass": (32, 33, 34, 35, 36, 38, 39),
    "violin": (40, 110), "cello": (42,), "string": (40, 42, 43, 45, 48, 49), "harp": (46,), "flute": (73, 74, 75, 77),
    "synth": (38, 39, 50, 62, 80, 81, 82, 83, 84, 87, 88, 89, 90, 91, 94, 95, 96, 98, 99, 103), "sitar": (104,),
}
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10), "penta": (0, 2, 4, 7, 9),
          "raga": (0, 1, 4, 5, 7, 8, 11), "chromatic": (0, 1, 2, 3, 4, 6, 7, 8, 10, 11)}
CHORDS = ((0, 3, 4, 0), (0, 5, 3, 4), (0, 4, 5, 3), (0, 0, 3, 4), (0, 6, 5, 4), (0, 3, 0, 4))  # degrees, by bar
DRUMS = {  # General MIDI drum key: one bar, where 12 characters are triplets
    "four": {36: "x...x...x...x...", 39: "....x.......x...", 46: "..x...x...x...x.", 42: "xx.xxx.xxx.xxx.x"},
    "break": {36: "x..x..x...x.....", 38: "....x..x.x..x..x", 42: "x.x.x.x.x.x.x.x."},
    "pop": {36: "x.....x.x.......", 38: "....x.......x...", 42: "x.x.x.x.x.x.x.x."},
    "rock": {36: "x.x.....x.x.....", 40: "....x.......x...", 46: "x...x...x...x..."},
    "metal": {36: "x.xxx.xxx.xxx.xx", 40: "....x.......x..x", 49: "x.......x......."},
    "tabla": {61: "x..x..x...x..x..", 64: "x.....x.x.......", 62: "....x..x...xx.xx"},
    "swing": {36: "x.....x.....", 51: "x..x.xx..x.x", 44: "...x.....x.."}, "train": {36: "x...x...", 38: "xxxxx.xx"},
}
BEATS, EIGHTHS = (0, 1, 2, 3), (0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5)
RHYTHMS = {  # role: bars of four beats to choose from, as the beats on which notes begin
    "lead": (BEATS, (0, 1.5, 2, 3), (0, 0.5, 1, 2, 2.5, 3), EIGHTHS, (0, 2, 3, 3.5)), "chant": ((0, 2), (0, 1, 2)),
    "sing": (BEATS, (0, 1, 1.5, 2, 3), (0, 1.5, 2, 3.5)), "chords": (BEATS, (0, 1.5, 3), (0, 2)), "pad": ((0,),),
    "stab": ((0.5, 1.5, 2.5, 3.5), (0, 0.75, 1.5, 2.5, 3.25)), "choir": ((0,), (0, 2)), "drone": ((0, 2),),
    "bass": (BEATS, (0, 2), (0, 1.5, 2)), "bass8": (EIGHTHS,), "walk": (BEATS,), "power8": (EIGHTHS,),
    "arp": (EIGHTHS,), "power": (BEATS, (0, 0.5, 1.5, 2, 3)), "arp16": (tuple(k / 4 for k in range(16)),),
}
LINES = {"bass": (0, 0, 0, 0, 4), "bass8": (0, 0, 0, 0, 7), "walk": (0, 1, 2, 4, 5), "arp": (0, 2, 4, 7, 9)}
LINES |= {"arp16": LINES["arp"]}  # a note at a time, so many degrees above the chord's root
TOGETHER = {"drone": (0, 4), "power": (0, 4), "power8": (0, 4)}  # notes struck together; else a triad
LOWEST = {"bass": 33, "bass8": 33, "walk": 33, "drone": 43, "power": 40, "power8": 38, "lead": 65}  # MIDI key; else 52
VOICES = ("sing", "choir", "chant")
WORDS = (
    "amber bridge canyon copper crimson distant ferry garden gentle golden harbour hollow island lantern little meadow "
    "midnight mirror northern open orchard paper river signal silver station tower valley velvet window winter yellow"
).split()
# fmt: on
# Tags | beats per minute | scales | drums | level (dBFS) | role:programs, of which one is chosen; "?": in half the
# pieces. Neighbours are related: an artist plays three lines in a row.
STYLES = """
classical,orchestra | 66 144 | major minor | - | -20 | lead:40,73,68,60 chords:48,49 bass:43,42 ?arp:46,45
baroque,classical | 76 140 | minor major | - | -21 | arp:6 ?lead:40,73,74 ?bass:42
opera,classical,orchestra | 56 100 | minor major | - | -19 | sing:85,53 chords:48,49 ?bass:43,42
choir,classical | 50 84 | major minor | - | -22 | choir:52 ?pad:19,48
chant | 46 76 | minor raga | - | -23 | chant:52,53,91 ?drone:52,19
new age,soft | 54 84 | major penta | - | -26 | pad:89,92,49 arp:46,11,0 ?lead:75,73,78
ambient,new age | 40 64 | minor penta | - | -28 | pad:89,91,94,95 ?lead:98,88,99
electro,modern | 90 126 | minor chromatic | break | -16 | lead:80,82,84,83 bass8:39,38 ?pad:95,94
techno,electro,dance | 124 150 | minor | four | -13 | bass8:38,39,87 stab:81,62,90
trance,techno,dance,electro | 130 148 | minor | four | -14 | arp16:81,90,80 pad:89,50,94 bass8:38,39
dance,electro,pop | 110 128 | minor major | four | -14 | stab:0,2,16,62 bass8:36,38 ?sing:53,54
pop,modern | 84 124 | major minor | pop | -15 | chords:0,27,25,4 bass:33,35 sing:53,54,85
rock | 100 144 | minor penta | rock | -12 | power:29,27 bass8:34,33 ?lead:29,30 ?sing:53,54
hard,heavy,rock | 136 184 | minor raga | metal | -10 | power8:30,29 bass8:34,33 ?lead:30
country | 92 136 | major | train | -17 | arp:25,105 lead:105,110,22 bass:32,33 ?sing:53
folk | 72 124 | major penta | - | -20 | arp:24,25 ?lead:74,110,21,22 ?sing:53,54
jazz | 84 176 | minor major | swing | -18 | chords:0,26,4 walk:32,35 lead:65,66,59,11
india,eastern,foreign | 66 132 | raga | tabla | -19 | lead:104 drone:104,20
eastern,foreign | 54 112 | penta raga | - | -21 | lead:107,106,77,111 ?drone:107,49 ?arp:107,15
classical | 50 152 | minor major | - | -22 | solo:0,1
classical,folk | 56 132 | minor major | - | -24 | solo:24
harp,soft | 56 124 | major penta | - | -25 | solo:46
classical | 50 132 | minor major | - | -22 | lead:42
classical | 50 132 | minor major | - | -22 | lead:40
classical,soft | 60 126 | major minor | - | -23 | lead:73,74 ?arp:46,6,24
strange,modern | 48 150 | chromatic | - | -20 | lead:55,101,102,119,112 stab:103,96,123,124 ?bass:43,39
""".strip().splitlines()


@dataclass(frozen=True)
class Piece:
    """One clip to be rendered: where it lies, how it is played and what is said about it."""

    clip_id: int
    split: str
    artist: str
    mp3_path: str  # relative to the data folder; its first character is the part
    bpm: float
    scale: str  # a key of SCALES
    drums: str  # a key of DRUMS, or "-"
    level_db: float  # root mean square before limiting, dB below full scale
    female: bool  # register of the voice, where there is one
    parts: tuple[tuple[str, int], ...]  # (role, General MIDI program)
    tags: tuple[str, ...]  # as annotated


def plan(scale: float, seed: int) -> list[Piece]:
    """List the clips in order of clip_id, which counts from 1, with split, artist, composition and tags decided.

    Parameters
    ----------
    scale : float
        Multiplies PIECES, at least to one piece in each style and split. An artist has 3 to 6 pieces, all in one part.
    seed : int
        Not negative; another seed gives other pieces and annotations.

    Raises
    ------
    ValueError
        If `scale` is not positive.
    """
    if not scale > 0:
        raise ValueError(f"scale is {scale}, expected a positive number: 1 renders {sum(PIECES.values())} clips.")
    pieces, artist = [], 0
    for split, size in PIECES.items():
        left, first, drafts = max(len(STYLES), round(size * scale)), 0, []
        few = left < 2 * len(STYLES)  # then an artist plays each style once, so that all are reached
        while left:
            count = 3 if few else int(np.random.default_rng([seed, 0, artist]).integers(3, 7))
            if left - count < 3 and count != left:  # nobody is left with one piece or two
                count = left if left <= 6 else 3
            played = [STYLES[(first + k % (count if few else 3)) % len(STYLES)] for k in range(count)]
            drafts += _compose(seed, artist, split, len(pieces) + len(drafts) + 1, played)
            left, first, artist = left - count, first + 3, artist + 1
        pieces += _annotate(drafts, ENOUGH[split], seed)
    return pieces


def _compose(seed: int, artist: int, split: str, first_id: int, styles: list[str]) -> list[Piece]:
    """One artist's pieces, each with all its true tags; what `own` draws is the same in all of them."""
    own, pieces = np.random.default_rng([seed, 1, artist]), []
    name = (
        f"{WORDS[artist % len(WORDS)]}_{WORDS[(artist // len(WORDS) * 7 + artist + 1) % len(WORDS)]}"
        + f"_{artist}" * (artist >= len(WORDS) ** 2)
    )
    part, female = PARTS[split][artist % len(PARTS[split])], artist % 2 == 0
    pace, louder, taste = own.random(), own.uniform(-3, 3), own.integers(0, 60, 5)
    for clip_id, style in enumerate(styles, first_id):
        rng = np.random.default_rng([seed, 2, clip_id])
        known, tempo, scales, drums, level, roles = style.split(" | ")
        slowest, fastest = map(int, tempo.split())
        bpm = slowest + (fastest - slowest) * (0.6 * pace + 0.4 * rng.random())
        level_db, parts = float(level) + louder + rng.uniform(-2, 2), ()
        for liking, (role, programs) in zip(taste, (item.split(":") for item in roles.split()), strict=False):
            programs = [int(program) for program in programs.split(",")]
            program = programs[(liking + (rng.random() < 0.3)) % len(programs)]  # mostly the artist's favourite
            if rng.random() < 0.5 or role[0] != "?":
                parts += ((role.lstrip("?"), program),)
        sung = any(role in VOICES for role, _ in parts)
        truth = {tag: any(program in family for _, program in parts) for tag, family in FAMILIES.items()}
        truth |= {"vocal": sung, "singer": sung, "no singer": not sung, "female": sung and female}
        truth |= {"male": sung and not female, "beat": drums != "-", "drum": drums != "-", "no beat": drums == "-"}
        truth |= {"no piano": not truth["piano"], "solo": len(parts) == 1, "fast": bpm >= 125, "slow": bpm < 82}
        truth |= {"loud": level_db > -13, "quiet": level_db < -23, "soft": level_db < -25}
        tags = tuple(tag for tag in TAGS if truth.get(tag) or tag in known.split(","))
        album, title, other = (WORDS[k] for k in (taste[4] % len(WORDS), *rng.integers(0, len(WORDS), 2)))
        start = 29 * int(rng.integers(0, 8))  # seconds into the invented track
        path = f"{part}/{name}-{album}-{clip_id - first_id + 1:02d}-{title}_{other}-{start}-{start + 29}.mp3"
        mode = str(rng.choice(scales.split()))
        pieces.append(Piece(clip_id, split, name, path, bpm, mode, drums, level_db, female, parts, tags))
    return pieces


def _annotate(pieces: list[Piece], enough: int, seed: int) -> list[Piece]:
    """Leave out true tags and add wrong ones; `enough` positives of each tag stay, where there are as many."""
    written = []
    for piece in pieces:
        rng = np.random.default_rng([seed, 3, piece.clip_id])
        kept = {tag for tag in piece.tags if rng.random() < (KEPT / 2 if tag in SELDOM else KEPT)}
        written.append(kept | ({str(rng.choice(TAGS))} if rng.random() < WRONG else set()))
    for tag in TAGS:
        for piece, kept in zip(pieces, written, strict=True):
            if tag in piece.tags and sum(tag in other for other in written) < enough:
                kept.add(tag)
    return [replace(piece, tags=tuple(sorted(kept))) for piece, kept in zip(pieces, written, strict=True)]
