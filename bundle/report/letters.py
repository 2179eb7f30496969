"""Names in any script: which letters pdfLaTeX cannot print, and the fonts with which LuaLaTeX does."""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict

PRINTED = frozenset("–—‘’“”…")  # beside Latin letters, what the documents' own fonts have
FONTS = r"""
%% LuaLaTeX prints \letters with these fonts, and all else as pdfLaTeX does
\let\usualrm\rmdefault \let\usualsf\sfdefault \let\usualtt\ttdefault
\usepackage[no-math]{fontspec}
\directlua{luaotfload.add_fallback("letters", {%s})}
\newfontfamily\letterfont{Latin Modern Roman}[RawFeature={fallback=letters}]
\let\rmdefault\usualrm \let\sfdefault\usualsf \let\ttdefault\usualtt
\renewcommand{\encodingdefault}{T1}\fontencoding{T1}\selectfont
\renewcommand{\letters}[1]{{\letterfont #1}}
"""


def strange(value: object) -> str:
    """The letters in all texts of the authors file that are beyond the Latin ones of pdfLaTeX's fonts."""
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return "".join(sorted(set("".join(map(strange, parts)))))
    return "".join({letter for letter in str(value) if ord(letter) > 0x17F and letter not in PRINTED})


def fonts(letters: str) -> str:
    """LaTeX that loads, beside the documents' fonts, installed ones which have all of these letters.

    Raises
    ------
    FileNotFoundError
        If none has one of them, or fontconfig, which is asked, is not there.
    """
    if not shutil.which("fc-list"):
        raise FileNotFoundError(f"{letters!r}: no fonts can be looked up. Install: sudo apt install fontconfig.")
    having = defaultdict(set)
    for letter in letters:
        asked = ["fc-list", "--format", "%{file}\t%{index}\n", f":charset={ord(letter):x}"]
        for line in subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines():
            path, _, index = line.partition("\t")
            if path.endswith((".ttf", ".otf", ".ttc")) and int(index) < 2**16:  # above: instances of variable fonts
                having[path, index].add(letter)
    missing, chosen = set(letters), []
    while missing:
        # Most letters first; among equals a regular Noto font, and the same one on every call
        best = max(having, key=lambda font: (len(having[font] & missing), _rank(font[0]), font), default=None)
        if best is None or not having[best] & missing:
            codes = ", ".join(f"{letter} (U+{ord(letter):04X})" for letter in sorted(missing))
            raise FileNotFoundError(
                f"report/authors.toml: no installed font has {codes}. Install one, such as fonts-noto-core or "
                "fonts-noto-cjk (Debian)."
            )
        missing -= having[best]
        chosen.append(f'"[{best[0]}]({best[1]}):mode=node;"')
    return FONTS % ", ".join(chosen)


def _rank(path: str) -> int:
    return ("Noto" in path) + ("Serif" in path) + 2 * ("Regular" in path)
