"""Files that are none, damaged or odd, and flags that do not fit: refused in words, never a traceback."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from airquality.data.files import content
from airquality.ground.errors import UsageError
from lab.waiting import PATIENCE_SECONDS
from tests.data_files import NAMES, ROOT, published, rows, text
from tests.data_layouts import (
    HEADER,
    plain,
    read,
    require_same,
    seconds_1970,
)


@pytest.mark.parametrize(
    ("given", "message"),
    [("https://example.org/a.csv", "is an address: download it"), (".", "is a folder"), ("none.csv", "No such file")],
)
def test_read_no_file_is_refused(given: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(Path(given))


def test_read_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(published(),))
    writer.start()
    require_same(read(pipe))
    writer.join(PATIENCE_SECONDS)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_read_archive_with_a_damaged_byte_is_refused_or_read(tmp_path: Path, method: int) -> None:
    path, rng = tmp_path / "file.zip", np.random.default_rng(method)
    with zipfile.ZipFile(path, "w", method) as archived:
        archived.writestr("file.csv", "a,b\n" * 20)
    whole = path.read_bytes()
    for place, value in zip(rng.integers(0, len(whole), 300), rng.integers(0, 256, 300), strict=True):
        path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        with contextlib.suppress(UsageError):
            content.load(path)


@pytest.mark.parametrize("mark", ['"', '"x', 'x"', '""', "'"])
def test_read_quotation_mark_anywhere_is_refused_or_read(tmp_path: Path, mark: str) -> None:
    path, lines = tmp_path / "file.csv", [list(HEADER), *rows()[:2]]
    for row, column in itertools.product(range(3), range(len(HEADER))):
        odd = [list(line) for line in lines]
        odd[row][column] = mark
        path.write_text("\n".join(map(",".join, odd)))
        with contextlib.suppress(UsageError):
            read(path)


def test_read_beside_a_strangers_label_says_where_to_move_the_file(tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text(plain())
    (tmp_path / "source.json").write_text('{"url": "https://example.org"}')
    with pytest.raises(UsageError, match=r"none of this system's, move the CSV to a folder of its own"):
        read(tmp_path / "file.csv")


@pytest.mark.parametrize("before", ["", "sep=;\n", '"sep=;"\r\n', "\n\n"])
def test_read_names_the_line_of_the_file_whatever_comes_before_the_header(tmp_path: Path, before: str) -> None:
    path = tmp_path / "file.csv"
    path.write_text(before + text(HEADER, rows()[:5], ";") + "x;" * len(HEADER))
    with pytest.raises(UsageError, match=f"line {before.count(chr(10)) + 7}"):
        read(path)


def test_read_standard_input_by_a_dash(tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text(published())
    program = [sys.executable, str(ROOT / "producer.py"), "--csv", "-", "--dry-run"]
    with (tmp_path / "file.csv").open() as file:
        done = subprocess.run(program, stdin=file, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "nothing was sent (--dry-run)"), done.stderr


@pytest.mark.parametrize("scale", [1, 10**3, 10**6, 10**9])
def test_read_seconds_since_1970_in_any_part_of_a_second(tmp_path: Path, scale: int) -> None:
    path = tmp_path / "file.csv"
    path.write_text(text(HEADER, rows(lambda moment: [str(scale * int(*seconds_1970(moment)))])))
    with pytest.raises(UsageError, match="say --dates unix"):
        read(path)
    require_same(read(path, "--dates", "unix", "--utc-offset", "0"))


@pytest.mark.parametrize(
    ("moment", "flags"),
    [
        ("9" * 300, ("--dates", "excel")),
        ("2958466", ("--dates", "excel")),
        ("9" * 30, ("--dates", "unix", "--utc-offset", "0")),
        ("9999-12-31 24:00", ("--midnight-is-24",)),
        ("0001-01-01T00:00+05:00", ("--utc-offset", "0")),
    ],
)
def test_read_moments_beyond_every_calendar_are_refused(tmp_path: Path, moment: str, flags: tuple[str, ...]) -> None:
    path = tmp_path / "file.csv"
    path.write_text(text(HEADER, [[moment, *row[1:]] for row in rows()]))
    with pytest.raises(UsageError, match="line 2"):
        read(path, *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--start", "2004-03-10T18:30"), "not on the hour"),
        (("--unit", "T=furlongs"), "T= and one of °C, K, °F"),
        (("--unit", "CO(GT)=ppm"), "one of mg/m³"),
        (("--column", "Ozone=O3"), "OURS=THEIRS"),
        (("--encoding", "klingon"), "unknown encoding"),
        (("--utc-offset", "east"), "no offset from UTC"),
        (("--time-zone", "Mars/Olympus"), "no time zone this machine knows"),
    ],
)
def test_flags_that_mean_nothing_are_usage_errors(
    tmp_path: Path, flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        read(tmp_path / "none.csv", *flags)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--column", "T=warmth"), "no columns 'warmth'"),
        (("--start", "2004-03-10T18:00"), "--start is only for"),
        (("--utc-offset", "+1"), "--utc-offset is for times that carry an offset"),
        (("--encoding", "punycode"), "it is not punycode"),
        (("--dates", "day-first", "--decimal", "comma"), "is no number"),
    ],
)
def test_flags_that_do_not_fit_the_file_are_refused(tmp_path: Path, flags: tuple[str, ...], message: str) -> None:
    path = tmp_path / "file.csv"
    path.write_text(plain())
    with pytest.raises(UsageError, match=message):
        read(path, *flags)


def test_start_counts_the_hours_of_a_file_without_times(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text(text(NAMES, [row[1:] for row in rows()]))
    with pytest.raises(UsageError, match="no DateTime column: say with --start"):
        read(path)
    require_same(read(path, "--start", "2004-03-10T18:00"))
