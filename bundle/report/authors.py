"""Who hands in, from report/authors.toml: names, roles, statement, and which of them still are placeholders."""

from __future__ import annotations

import tomllib
from pathlib import Path

AUTHOR = {"name": str, "username": str, "number": str, "email": str, "signed": str, "roles": list}
SHARED = ("group", "date", "video", "drive", "statement")
PLACEHOLDERS = {
    "group": ("0",),
    "date": ("1 January 1970",),
    "video": ("https://example.org/video",),
    "drive": ("https://example.org/drive",),
    "name": ("First Author", "Second Author"),
    "username": ("ab12345", "cd67890"),
    "number": ("00000001", "00000002"),
    "email": ("first.author@example.org", "second.author@example.org"),
}


def read(path: Path) -> dict:
    """The authors file, checked.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is none, or something in it is missing, unknown or of another type.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: names, roles and statement come from there. Restore it.")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML ({error}). Strings stand in double quotes, one setting a line.") from error
    wrong = [f"{name}: expected a string" for name in SHARED if not isinstance(content.get(name), str)]
    wrong += [f"{name}: unknown" for name in content if name not in (*SHARED, "authors")]
    people = content.get("authors", [])
    if not isinstance(people, list) or not people or not all(isinstance(person, dict) for person in people):
        raise ValueError(f"{path}: no authors, expected at least one [[authors]] with {', '.join(AUTHOR)}.")
    for count, person in enumerate(people, 1):
        wrong += [f"author {count}, {name}: unknown" for name in person if name not in AUTHOR]
        for name, kind in AUTHOR.items():
            if not isinstance(person.get(name), kind):
                wrong.append(f"author {count}, {name}: expected {'a list of strings' if kind is list else 'a string'}")
        if not all(isinstance(role, str) for role in person.get("roles", [])):
            wrong.append(f"author {count}, roles: expected strings")
    if wrong:
        raise ValueError(f"{path}: {'; '.join(wrong)}.")
    return content


def placeholders(authors: dict) -> list[str]:
    """What is still to be filled in, in words; [] when nothing is."""
    found = [f"{name} {authors[name]!r}" for name in SHARED if _open(name, authors[name])]
    for count, person in enumerate(authors["authors"], 1):
        found += [f"author {count}: {name} {person[name]!r}" for name in PLACEHOLDERS if _open(name, person.get(name))]
        if not person["signed"].strip():
            found.append(f"author {count}: not signed")
        if not person["roles"] or any(role.startswith("placeholder") for role in person["roles"]):
            found.append(f"author {count}: roles")
    return found


def _open(name: str, value: str | None) -> bool:
    return value is not None and (not value.strip() or value in PLACEHOLDERS.get(name, ()))
