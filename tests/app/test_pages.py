# ruff: noqa: D103  # the name of a test says what it holds
"""The page, the files that it names, and what a release makes of them."""

import gzip
import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from tradefleet.domains.pages import assets

STATIC = sorted(assets.FOLDER.iterdir())


def named(client: FlaskClient) -> set[str]:
    """Return the static files that the page names."""
    return set(re.findall(r'(?:src|href)="/static/([^"]+)"', client.get("/").text))


def test_the_page_is_asked_for_each_time_and_sent_when_it_has_changed(client: FlaskClient) -> None:
    page = client.get("/")
    assert (page.status_code, page.mimetype, page.headers["Cache-Control"]) == (200, "text/html", "no-cache")
    again = client.get("/", headers={"If-None-Match": page.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert client.get("/", headers={"If-None-Match": '"another"'}).status_code == 200


def test_the_page_names_each_file_as_the_release_has_it(client: FlaskClient, tmp_path: Path) -> None:
    folder = tmp_path / "static"
    assets.build(folder)
    assert named(client) == {file.name for file in folder.iterdir() if file.suffix != ".gz"}
    for name in named(client):
        compressed = (folder / f"{name}.gz").read_bytes()
        with client.get(f"/static/{name}") as answer:
            assert answer.data == (folder / name).read_bytes() == gzip.decompress(compressed)
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize("name", ["site.css", "site.000000000000.css", "../templates/index.html", ""])
def test_another_name_leads_to_nothing(client: FlaskClient, name: str) -> None:
    answer = client.get(f"/static/{name}")
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_other_contents_have_another_name_and_the_same_ones_the_same_bytes(tmp_path: Path) -> None:
    def built(number: int, content: str) -> dict[str, bytes]:
        source, target = tmp_path / f"source{number}", tmp_path / f"target{number}"
        source.mkdir()
        (source / "site.css").write_text(content)
        assets.build(target, source)
        return {file.name: file.read_bytes() for file in target.iterdir()}

    first = built(1, "main {}")
    assert all(re.fullmatch(r"site\.[0-9a-f]{12}\.css(\.gz)?", name) for name in first)
    assert len(first) == 2
    assert built(2, "main {}") == first
    assert not set(built(3, "main { }")) & set(first)
    (compressed,) = [content for name, content in first.items() if name.endswith(".gz")]
    # No time, no name, and no word on who wrote it: anything else differs from build to build.
    assert compressed[3:10] == bytes([0, 0, 0, 0, 0, 2, 255])


@pytest.mark.parametrize("file", STATIC, ids=[file.name for file in STATIC])
def test_no_file_names_another(file: Path) -> None:
    # Its name there would not change with the other one's contents.
    assert re.findall(r"url\(|@import|\bimport\b|/static/", file.read_text()) == []


def test_the_page_has_nothing_that_the_edge_forbids(client: FlaskClient) -> None:
    # Content-Security-Policy: default-src 'self'. What stands in the page itself would not run.
    assert re.findall(r"<style|<script(?![^>]* src=)|\son\w+=|\sstyle=|https?://", client.get("/").text) == []
