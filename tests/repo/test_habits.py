"""Rules for all files: no ignored failures, no bare exceptions from linters, complete documentation."""

import re
from pathlib import Path

import pytest
from repository import PROJECT, files, load, read, where

YAML = files(".yml")
MARKDOWN = files(".md")


def test_no_failure_is_ignored_without_a_reason() -> None:
    """The reason is on the same line."""
    assert where(r"ignore_errors\b.*", YAML) == []
    assert where(r"failed_when: false *$", YAML, re.MULTILINE) == []
    assert where(r"ignore_unreachable: true *$", YAML, re.MULTILINE) == []


def test_exceptions_from_linters_have_reasons() -> None:
    """The reason follows the rule, or is in a comment on the line above."""
    exception = r"# (?:noqa: (?:[A-Z]+[0-9]+,? ?)+|noqa: [a-z\[\]-]+|type: ignore\[[\w, -]+\])$"
    bare = rf"^(?! *#)[^\n]*\n[^#\n]*{exception}"
    assert where(bare, files(".yml", ".py"), re.MULTILINE) == []
    # An exception without a rule would apply to all rules.
    assert where(r"# (?:noqa(?!:)|type: ignore(?!\[)).*", files(".py"), re.MULTILINE) == []


def test_no_work_is_left_in_comments() -> None:
    """Open work belongs in issues."""
    words = "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3))
    assert where(rf"\b({words})\b.*", tuple(path for path in files() if path.name != "controller.txt")) == []


def _makefile_targets() -> dict[str, str]:
    """Return each target of the Makefile that can be typed, with its description."""
    rules = re.findall(r"^([a-z][a-z-]*):(?!=)([^\n]*)", read("Makefile"), re.MULTILINE)
    return {name: rest.partition("## ")[2] for name, rest in rules}


def test_every_make_target_has_a_description() -> None:
    """`make` prints the descriptions; .PHONY lists exactly the existing targets."""
    targets = _makefile_targets()
    phony = set(re.findall(r"^\.PHONY: (.+)$", read("Makefile"), re.MULTILINE))
    assert phony == set(targets)
    assert {name for name, description in targets.items() if not description.strip()} == set()


def _typed_targets(path: Path) -> set[str]:
    """Return the make targets that a document names."""
    text = read(path)
    code = (
        re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL)
        if path.suffix in (".md", ".py")
        else re.findall("`[^`\n]+`", text)
    )
    words = r"(?:^|[`$|&;(] ?|^\s+)make((?: +-\w+| +[A-Z_]+=\S+)*) +([a-z][a-z-]*)"
    return {target for part in code for _, target in re.findall(words, part, re.MULTILINE)}


def test_documents_and_messages_name_only_existing_targets() -> None:
    """This includes messages in playbooks, roles and plugins: an error message is an instruction."""
    targets = set(_makefile_targets()) | {f"test-role-{path.name}" for path in PROJECT.glob("molecule/*")}
    unknown = {
        f"{path.relative_to(PROJECT)}: make {target}"
        for path in (*files(".md", ".yml", ".j2"), *PROJECT.glob("plugins/**/*.py"))
        for target in _typed_targets(path) - targets
    }
    assert unknown == set()
    assert {"up", "test"} <= _typed_targets(PROJECT / "README.md")


def test_commit_hooks_and_pipelines_run_what_make_runs() -> None:
    """Each tool of `make lint` is a hook with the same arguments; a pipeline runs only existing targets."""
    [recipe] = re.findall(r"^lint:.*\n\t@(.+)$", read("Makefile"), re.MULTILINE)
    [hooks] = [repository["hooks"] for repository in load(".pre-commit-config.yaml")["repos"]]
    assert [hook["entry"].replace(".venv/bin/", "") for hook in hooks] == recipe.split(" && ")
    for path in PROJECT.glob(".github/workflows/*.yml"):
        run = {step.get("run", "") for job in load(path)["jobs"].values() for step in job["steps"]}
        typed = {words.split()[1] for words in run if words.startswith("make ")}
        assert typed
        assert typed <= set(_makefile_targets())


# Lines at most. Other tests bound playbooks and task files.
SIZES = [
    (250, "app/tradefleet/**/*.py"),
    (250, "plugins/**/*.py"),
    (250, "tools/**/*.py"),
    (400, "tests/**/*.py"),
    (400, "molecule/**/*.py"),
]


@pytest.mark.parametrize(("lines", "pattern"), SIZES)
def test_files_stay_small(lines: int, pattern: str) -> None:
    """A larger file has more than one subject."""
    paths = list(PROJECT.glob(pattern))
    assert paths
    assert [path for path in paths if len(read(path).splitlines()) > lines] == []


def test_documents_name_every_playbook() -> None:
    """README.md or a page in docs/ names each one, and no playbook that does not exist."""
    pages = [path for path in MARKDOWN if path == PROJECT / "README.md" or path.is_relative_to(PROJECT / "docs")]
    text = "".join(read(path) for path in pages)
    playbooks = {path.name for path in PROJECT.glob("playbooks/*.yml")}
    assert {name for name in playbooks if f"`{name}`" not in text and f"playbooks/{name}" not in text} == set()
    assert set(re.findall(r"\bplaybooks/(\w+\.yml)", text)) <= playbooks


def test_links_in_documents_have_a_target() -> None:
    """The target is a file of the repository, and a heading that the file has."""
    broken = []
    for path in MARKDOWN:
        for target in re.findall(r"(?<!!)\]\((?!https?://|mailto:)([^)\s]+)\)", read(path)):
            name, _, heading = target.partition("#")
            file = (path.parent / name).resolve() if name else path
            if not file.exists() or (heading and heading not in _headings(file)):
                broken.append(f"{path.relative_to(PROJECT)}: {target}")
    assert broken == []


def _headings(path: Path) -> set[str]:
    """Return the anchors that a forge generates for a page's headings."""
    titles = re.findall(r"^#+ +(.+)$", read(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
