"""Who hands in, from report/authors.toml: names, roles, statement, and which of them still are placeholders."""

from __future__ import annotations

import tomllib
from pathlib import Path

PLACEHOLDERS = {
    "group": ("0",),
    "date": ("1 January 1970",),
    "video": ("https://example.org/video",),
    "drive": ("https://example.org/drive",),
    "statement": (),
}
OF_AUTHORS = {
    "name": ("First Author", "Second Author"),
    "username": ("ab12345", "cd67890"),
    "number": ("00000001", "00000002"),
    "email": ("first.author@example.org", "second.author@example.org"),
    "signed": (),
}


def read(path: Path) -> dict:
    """The authors file; a FileNotFoundError or ValueError where it, or something in it, is missing."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}). Save it as UTF-8.") from error
    except ValueError as error:
        raise ValueError(f"{path}: not TOML ({error}). Strings stand in double quotes, one setting a line.") from error
    people = content.get("authors")
    if not isinstance(people, list) or not people:
        raise ValueError(f"{path}: no authors, expected at least one [[authors]] with {', '.join(OF_AUTHORS)}, roles.")
    wrong = [f"{name}: expected a string" for name in PLACEHOLDERS if not isinstance(content.get(name), str)]
    for count, person in enumerate(people, 1):
        lacks = [name for name in OF_AUTHORS if not isinstance(person.get(name), str)]
        wrong += [f"author {count}, {name}: expected a string" for name in lacks]
        roles = person.get("roles")
        if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
            wrong.append(f"author {count}, roles: expected a list of strings")
    if wrong:
        raise ValueError(f"{path}: {'; '.join(wrong)}.")
    return content


def placeholders(authors: dict) -> list[str]:
    """What is still to be filled in, in words; [] when nothing is."""
    found = [f"{name} {authors[name]!r}" for name, usual in PLACEHOLDERS.items() if _open(authors[name], usual)]
    for count, person in enumerate(authors["authors"], 1):
        for name, usual in OF_AUTHORS.items():
            if _open(person[name], usual):
                found.append(f"author {count}: " + ("not signed" if name == "signed" else f"{name} {person[name]!r}"))
        if not person["roles"] or any(role.startswith("placeholder") for role in person["roles"]):
            found.append(f"author {count}: roles")
    return found


def _open(value: str, usual: tuple[str, ...]) -> bool:
    return not value.strip() or value in usual
