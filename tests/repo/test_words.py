"""One term for one thing: no file contains a word that docs/glossary.md rules out."""

import re
from pathlib import Path

from repository import PROJECT, files

GLOSSARY = PROJECT / "docs/glossary.md"


def _banned() -> dict[str, str]:
    """Return each banned word, which is in backticks in the glossary's last table, and what to use instead."""
    table = GLOSSARY.read_text(encoding="utf-8").partition("| use | not |\n")[2]
    rows = re.findall(r"^\| (.+) \| (.+) \|$", table, re.MULTILINE)
    return {word.lower(): use for use, words in rows for word in re.findall("`([^`]+)`", words)}


def _pattern(word: str) -> re.Pattern[str]:
    """Return the pattern of a word in lower-case text: part of an identifier, and also across lines of a comment."""
    spaced = r"[\s#]+".join(map(re.escape, word.split()))
    return re.compile(rf"(?<![a-z]){spaced}(?![a-z])" if word.isascii() else spaced)


def _found(paths: tuple[Path, ...], banned: dict[str, str]) -> list[str]:
    """Return "file:line: word: use ..." for each place of a banned word."""
    patterns = {word: _pattern(word) for word in banned}
    found = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8").lower()
        except UnicodeDecodeError:  # an image
            continue
        # A fast search first, because most words occur in no file.
        for word in (word for word in banned if max(word.split(), key=len) in text):
            for match in patterns[word].finditer(text):
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{path.relative_to(PROJECT)}:{line}: {word}: use {banned[word]}")
    return found


def test_no_file_contains_a_banned_word() -> None:
    """Comments, messages, identifiers and documents; everything except the glossary itself."""
    found = _found(tuple(path for path in files() if path != GLOSSARY), _banned())
    assert not found, "\n".join(found)


def test_every_banned_word_is_found_with_its_line() -> None:
    """The glossary contains all of them."""
    banned, lines = _banned(), GLOSSARY.read_text(encoding="utf-8").splitlines()
    assert len(banned) > 40
    for word, use in banned.items():
        places = _found((GLOSSARY,), {word: use})
        assert places
        for place in places:
            path, number, rest = place.split(":", 2)
            assert (path, rest) == ("docs/glossary.md", f" {word}: use {use}")
            assert word in lines[int(number) - 1].lower()


def test_words_are_whole_but_may_be_part_of_an_identifier() -> None:
    """A line of a comment may end within a phrase."""
    pattern = _pattern("one two")
    assert pattern.search("the one two")
    assert pattern.search("# the one\n    # two")
    assert _pattern("one").search("test_one_two")
    assert not _pattern("one").search("done, ones")
