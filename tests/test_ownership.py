"""What make run may remove, and what it never does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airquality.ground.errors import UsageError
from lab import ownership


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder somebody else keeps something in."""
    folder = tmp_path / "precious"
    (folder / "daily").mkdir(parents=True)
    (folder / "daily" / "thesis.txt").write_text("the only copy")
    return folder


def write_reports(folder: Path) -> None:
    for name in ("index.html", "daily/daily_20050213_020000.html", "roof/daily/daily_20050213_020000.html"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("a report")


def test_own_folder_new_is_made_and_emptied_the_next_time(tmp_path: Path) -> None:
    for _ in range(2):
        with ownership.own_folder(tmp_path / "run" / "mine") as folder:
            assert [path.name for path in folder.iterdir()] == [ownership.MARKER_NAME]
            write_reports(folder)
        assert (folder / "index.html").exists(), "its content outlives the run"


def test_own_folder_without_marker_is_refused_and_untouched(precious: Path) -> None:
    with pytest.raises(UsageError, match=r"precious holds files that make run did not put there.*RUN_DIR"):
        ownership.own_folder(precious).__enter__()
    assert [path.name for path in precious.rglob("*")] == ["daily", "thesis.txt"]


def test_own_folder_in_use_is_refused_and_untouched(tmp_path: Path) -> None:
    with ownership.own_folder(tmp_path / "mine") as folder:
        write_reports(folder)
        with pytest.raises(UsageError, match="another make run uses"):
            ownership.own_folder(folder).__enter__()
        assert (folder / "index.html").exists()


def test_own_folder_links_are_removed_not_followed(tmp_path: Path, precious: Path) -> None:
    with ownership.own_folder(tmp_path / "mine") as folder:
        (folder / "link").symlink_to(precious)
    with ownership.own_folder(folder):
        assert not (folder / "link").is_symlink()
    assert (precious / "daily" / "thesis.txt").exists()


def test_own_folder_that_cannot_be_made_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be used"):
        ownership.own_folder(tmp_path / "file" / "mine").__enter__()


def test_remove_own_folder_removes_only_a_marked_one(tmp_path: Path, precious: Path) -> None:
    with ownership.own_folder(tmp_path / "mine") as folder:
        write_reports(folder)
    assert ownership.remove_own_folder(folder)
    assert not folder.exists()
    assert not ownership.remove_own_folder(precious)
    assert (precious / "daily" / "thesis.txt").exists()


def test_remove_own_reports_as_they_were_left_empties_the_folder(tmp_path: Path) -> None:
    (tmp_path / ".gitkeep").touch()
    write_reports(tmp_path)
    ownership.sign_reports(tmp_path)
    assert ownership.remove_own_reports(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".gitkeep"]


@pytest.mark.parametrize("folder", ["missing", "."], ids=["no folder", "an empty one"])
def test_remove_own_reports_of_nothing_has_nothing_to_keep(tmp_path: Path, folder: str) -> None:
    assert ownership.remove_own_reports(tmp_path / folder)


def add_a_file(folder: Path) -> None:
    (folder / "daily" / "mine.html").write_text("somebody's report")


def write_the_same_again(folder: Path) -> None:
    """As a consumer does that makes the same report: a new file of the same bytes in its place."""
    path = folder / "index.html"
    (folder / "index.new").write_bytes(path.read_bytes())
    os.replace(folder / "index.new", path)  # noqa: PTH105


def damage_the_receipt(folder: Path) -> None:
    (folder / ownership.RECEIPT_NAME).write_text("[1")


def lose_the_receipt(folder: Path) -> None:
    (folder / ownership.RECEIPT_NAME).unlink()


@pytest.mark.parametrize("happens", [add_a_file, write_the_same_again, damage_the_receipt, lose_the_receipt])
def test_remove_own_reports_changed_since_removes_nothing(tmp_path: Path, happens: object) -> None:
    assert callable(happens)
    write_reports(tmp_path)
    ownership.sign_reports(tmp_path)
    happens(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert not ownership.remove_own_reports(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_remove_own_reports_of_somebody_else_removes_nothing(precious: Path) -> None:
    assert not ownership.remove_own_reports(precious)
    assert (precious / "daily" / "thesis.txt").exists()


def test_remove_own_reports_takes_along_what_lies_beside_them_and_nobody_has_written_since(tmp_path: Path) -> None:
    own = tmp_path / ".monitoring"
    left = ["due/uci-360-gain-S1/daily_20050213_020000.evidence", "summary/224fa377cd8cda8b-3.json", "folder.json"]
    for name in (*left, "due/roof/daily_20050213_020000.page", "lock"):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text("the run's")
    write_reports(tmp_path)
    ownership.sign_reports(tmp_path)
    (own / "due" / "roof" / "daily_20050213_020000.page").write_text("a consumer's, since then")
    assert ownership.remove_own_reports(tmp_path)
    files = sorted(path.relative_to(own).as_posix() for path in own.rglob("*") if path.is_file())
    assert files == ["due/roof/daily_20050213_020000.page", "lock"]
