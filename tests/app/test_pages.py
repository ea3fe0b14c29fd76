# ruff: noqa: D103  # the name of a test states what it asserts
"""The page, its static files, and the files that a release builds of them."""

import gzip
import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from tradefleet.domains.pages import assets

STATIC = sorted(assets.FOLDER.iterdir())


def static_files(client: FlaskClient) -> set[str]:
    """Return the static files that the page names."""
    return set(re.findall(r'(?:src|href)="/static/([^"]+)"', client.get("/").text))


def test_page_is_always_revalidated_and_sent_if_changed(client: FlaskClient) -> None:
    page = client.get("/")
    assert (page.status_code, page.mimetype, page.headers["Cache-Control"]) == (200, "text/html", "no-cache")
    again = client.get("/", headers={"If-None-Match": page.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert client.get("/", headers={"If-None-Match": '"another"'}).status_code == 200


def test_page_names_each_file_as_in_the_release(client: FlaskClient, tmp_path: Path) -> None:
    folder = tmp_path / "static"
    assets.build(folder)
    assert static_files(client) == {file.name for file in folder.iterdir() if file.suffix != ".gz"}
    for name in static_files(client):
        compressed = (folder / f"{name}.gz").read_bytes()
        with client.get(f"/static/{name}") as answer:
            assert answer.data == (folder / name).read_bytes() == gzip.decompress(compressed)
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize("name", ["site.css", "site.000000000000.css", "../templates/index.html", ""])
def test_unknown_file_is_not_found(client: FlaskClient, name: str) -> None:
    answer = client.get(f"/static/{name}")
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_changed_contents_change_the_name_and_equal_contents_the_bytes_do_not(tmp_path: Path) -> None:
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
    # It has no time, name or author: they would differ between builds.
    assert compressed[3:10] == bytes([0, 0, 0, 0, 0, 2, 255])


@pytest.mark.parametrize("file", STATIC, ids=[file.name for file in STATIC])
def test_no_file_names_another(file: Path) -> None:
    # Its name there would not change with the contents of the other one.
    assert re.findall(r"url\(|@import|\bimport\b|/static/", file.read_text()) == []


def test_page_contains_nothing_that_the_edge_forbids(client: FlaskClient) -> None:
    # Content-Security-Policy: default-src 'self'. Inline code in the page would not run.
    assert re.findall(r"<style|<script(?![^>]* src=)|\son\w+=|\sstyle=|https?://", client.get("/").text) == []
