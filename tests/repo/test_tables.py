"""Tables of options in READMEs describe each option as its specification does."""

import re
from pathlib import Path

import pytest
from repository import PROJECT, load, read

SPECS = sorted(
    [*PROJECT.glob("roles/*/meta/argument_specs.yml"), *PROJECT.glob("playbooks/procedures/*/meta/argument_specs.yml")]
)
ROW = re.compile(r"^\| `(\w+)` \|.*\| (.+) \|$", re.MULTILINE)


def _plain(text: str) -> str:
    """Return a text without marks of code, links and line breaks."""
    return " ".join(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("`", "").split())


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.) (?=[A-Z0-9])", _plain(text))[0]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.parent.parent.name)
def test_table_begins_with_the_first_sentence_of_the_description(path: Path) -> None:
    """A row may add what only a page can show. An option of several entry points has the description of one of them."""
    described: dict[str, list[str]] = {}
    for point in load(path)["argument_specs"].values():
        for name, option in point.get("options", {}).items():
            described.setdefault(name, []).append(_first_sentence(option["description"]))
    rows = [row for row in ROW.findall(read(path.parent.parent / "README.md")) if row[0] in described]
    assert bool(rows) == bool(described)
    wrong = {name: cell for name, cell in rows if not _plain(cell).startswith(tuple(described[name]))}
    assert {name: (cell, described[name]) for name, cell in wrong.items()} == {}
