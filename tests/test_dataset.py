"""The data set: found, checked, simulated, read, cut, labelled; and the program that makes files of it."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airquality.data import dataset, uci_file
from airquality.data.dataset import Frame
from airquality.ground.errors import Unavailable, UsageError
from airquality.ground.files import write_atomically
from airquality.records import RAW_COLUMNS, hour_of
from tests.real_data import REAL, needs_real_data

ROOT = Path(__file__).resolve().parent.parent
HEADER = ",".join(("DateTime", *RAW_COLUMNS))
ROW = "2005-02-05T03:00:00,1.6,1105,,6.4,828,,735,,997,1157,2.1,64.2,0.4633"

# a cell is any finite number but the missing-value marker, or missing
cells = st.one_of(st.just(float("nan")), st.floats(allow_nan=False, allow_infinity=False).filter(lambda v: v != -200))
tables = st.lists(st.lists(cells, min_size=13, max_size=13), max_size=5)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Let a small file stand for the published one."""
    content = b"the published file\nof the data set\n"
    monkeypatch.setattr(uci_file, "UCI_SHA256", hashlib.sha256(content).hexdigest())
    return content


def frame_of(rows: list[list[float]], first_hour: int = 0) -> Frame:
    hours = np.arange(first_hour, first_hour + len(rows), dtype=np.int64)
    return Frame(hours, np.array(rows, dtype=np.float64).reshape(-1, 13), "uci")


def not_called() -> bytes:
    raise AssertionError("nothing should be downloaded")


def offline() -> bytes:
    raise Unavailable("no network")


@pytest.mark.slow
@given(tables, st.integers(hour_of(datetime.min), 10**6))
def test_stream_csv_returns_every_bit(tmp_path_factory: pytest.TempPathFactory, rows: list[list[float]], hour: int) -> None:
    path = tmp_path_factory.mktemp("stream") / "rows.csv"
    frame = frame_of(rows, hour)
    dataset.write_stream_csv(frame, path)
    back = dataset.read_stream_csv(path)
    assert back.hours.tolist() == frame.hours.tolist()
    assert back.sha256 == frame.sha256


def test_stream_csv_columns_in_any_order_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    lines = [",".join(reversed(line.split(","))) for line in (HEADER, ROW)]
    path.write_text("\ufeff" + "\r\n".join(lines) + "\r\n\r\n")
    frame = dataset.read_stream_csv(path)
    assert frame.hours.tolist() == [hour_of(datetime(2005, 2, 5, 3))]
    assert frame.values[0, [0, 1, 12]].tolist() == [1.6, 1105, 0.4633]
    assert frame.source == "unlabelled"


@pytest.mark.parametrize("marker", ["", "-200", "-200.0"])
def test_missing_is_an_empty_cell_or_the_marker(tmp_path: Path, marker: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"{HEADER}\n{ROW.replace('1105', marker)}\n")
    assert np.flatnonzero(np.isnan(dataset.read_stream_csv(path).values[0])).tolist() == [1, 2, 5, 7]


def test_stream_csv_keeps_file_order_repeats_and_gaps(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    days = ("05", "03", "05")
    path.write_text("\n".join([HEADER, *(ROW.replace("2005-02-05", f"2005-02-{day}") for day in days)]))
    hours = dataset.read_stream_csv(path).hours
    assert (hours - hours[0]).tolist() == [0, -48, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEADER.replace("AH", "HA"),
            r"(?s)expected: DateTime, .*AH\n  missing:  AH\n  found:    DateTime, .*HA\n  unknown:  HA",
        ),
        (HEADER.replace(",T,", ",RH,"), "both 'RH' .column 12. and 'RH' .column 13."),
        (HEADER.split(",", 1)[1], "no DateTime column: say with --start"),
        (f"{HEADER}\n{ROW}\n{ROW.replace('64.2', 'wet')}", "line 3, column RH: .*wet"),
        (f"{HEADER}\n{ROW.replace('03:00:00', '03:30:00')}", "line 2, column DateTime: .*not on the hour"),
        (f"{HEADER}\n{ROW.replace('03:00:00', '03:00:00Z')}", "line 2, column DateTime: .*time zone"),
        (f"{HEADER}\n{ROW},1", "line 2: 15 cells where the header has 14"),
        (f"{HEADER}\n{ROW[:40]}", "line 2: . cells"),
    ],
)
def test_stream_csv_says_where_it_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        dataset.read_stream_csv(path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_what_is_no_csv_is_a_usage_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "rows.csv"
    if content:
        path.write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read as a CSV"):
        dataset.read_stream_csv(path)


def test_uci_csv_round_trip(tmp_path: Path, simulated: Frame) -> None:
    path = tmp_path / dataset.SIMULATED_DIR / uci_file.UCI_NAME
    dataset.write_uci_csv(simulated, path)
    lines = path.read_text().split("\n")
    assert lines[0] == "Date;Time;" + ";".join(RAW_COLUMNS) + ";;"
    assert lines[1].startswith("10/03/2004;18.00.00;")
    assert "," in lines[1]
    assert "." not in lines[1].removeprefix("10/03/2004;18.00.00;")
    assert lines[-2] == ";" * 16
    assert len({line.count(";") for line in lines[:-1]}) == 1
    back = dataset.load(path)
    assert back.sha256 == simulated.sha256
    assert back.source == "simulated"


def test_load_never_fills(tmp_path: Path, simulated: Frame) -> None:
    path = tmp_path / dataset.SIMULATED_DIR / uci_file.UCI_NAME
    dataset.write_uci_csv(simulated, path)
    marked = [
        [cell == "-200" for cell in line.split(";")[2:15]] for line in path.read_text().split("\n")[1 : len(simulated) + 1]
    ]
    frame = dataset.load(path)
    assert np.isnan(frame.values).tolist() == marked
    with pytest.raises(ValueError, match="read-only"):
        frame.values[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        dataset.split(frame).test.values[0] = 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Date;", "Day;", "header differs"),
        ("10/03/2004", "30/02/2004", "format"),
        ("10/03/2004;20.00.00", "10/03/2004;21.00.00", "gap-free"),
    ],
)
def test_load_refuses_a_damaged_file(tmp_path: Path, simulated: Frame, old: str, new: str, message: str) -> None:
    path = tmp_path / dataset.SIMULATED_DIR / uci_file.UCI_NAME
    dataset.write_uci_csv(simulated.rows(0, 10), path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UsageError, match=message):
        dataset.load(path)


def test_load_refuses_a_file_that_is_not_the_published_one(tmp_path: Path, simulated: Frame) -> None:
    path = tmp_path / uci_file.UCI_NAME
    dataset.write_uci_csv(simulated, path)
    with pytest.raises(UsageError, match=r"not the published data set.*AIR_QUALITY_DATA_SOURCE=simulated"):
        dataset.load(path)
    with pytest.raises(UsageError, match="does not exist"):
        dataset.load(tmp_path / "nothing.csv")


def test_sha256_sees_every_value_and_hour_but_not_the_kind_of_nan() -> None:
    other_nan = np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64)[0]
    rows = [[float(k) for k in range(13)]]
    frame = frame_of(rows)
    assert frame.sha256 != frame_of(rows, first_hour=1).sha256
    assert frame.sha256 != frame_of([[*rows[0][:12], 12.000000000000002]]).sha256
    assert frame_of([[np.nan] * 13]).sha256 == frame_of([[other_nan] * 13]).sha256


@pytest.mark.parametrize("frame_name", ["simulated", pytest.param("real", marks=needs_real_data)])
def test_split_sizes(request: pytest.FixtureRequest, frame_name: str) -> None:
    frame: Frame = request.getfixturevalue(frame_name)
    parts = dataset.split(frame)
    assert [len(part) for part in parts] == [6549, 1404, 1404]
    assert np.concatenate([part.hours for part in parts]).tolist() == frame.hours.tolist()
    assert parts.test.hours[0] == hour_of(datetime(2005, 2, 5, 3))


@needs_real_data
def test_real_data_is_read_as_published(real: Frame) -> None:
    assert real.source == "uci"
    measured = [int(np.count_nonzero(~np.isnan(part.values[:, 0]))) for part in dataset.split(real)]
    assert measured == [5066, 1234, 1374]
    assert real.sha256 == "17f6467043a2a45329ad20cadc02f513a76b654180cf069063ef89a55eb63f69"


@needs_real_data
def test_windows_line_ends_are_accepted(tmp_path: Path, real: Frame) -> None:
    assert REAL is not None
    path = tmp_path / uci_file.UCI_NAME
    path.write_bytes((REAL / uci_file.UCI_NAME).read_bytes().replace(b"\n", b"\r\n"))
    assert dataset.load(path).sha256 == real.sha256


def test_find_takes_the_local_file_first(tmp_path: Path, published: bytes) -> None:
    home = tmp_path / "project" / "dataset"
    for folder in (home, tmp_path / "other" / "dataset"):
        write_atomically(folder / uci_file.UCI_NAME, published)
    assert dataset.find(home, fetch=not_called) == dataset.DataFile(home / uci_file.UCI_NAME, "uci")


def test_find_copy_beside_the_project_is_copied_in(tmp_path: Path, published: bytes) -> None:
    home = tmp_path / "project" / "dataset"
    write_atomically(tmp_path / "a" / "dataset" / uci_file.UCI_NAME, b"somebody else's")
    write_atomically(tmp_path / "other" / "dataset" / uci_file.UCI_NAME, published)
    assert dataset.find(home, fetch=not_called).source == "uci"
    assert (home / uci_file.UCI_NAME).read_bytes() == published


def test_find_downloads_what_is_not_at_hand(tmp_path: Path, published: bytes) -> None:
    found = dataset.find(tmp_path / "project" / "dataset", fetch=lambda: published)
    assert found.source == "uci"
    assert found.path.read_bytes() == published


def test_find_simulates_offline_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = tmp_path / "project" / "dataset"
    found = dataset.find(home, fetch=offline)
    assert found == dataset.DataFile(home / "simulated" / uci_file.UCI_NAME, "simulated")
    assert dataset.load(found.path).source == "simulated"
    assert "SIMULATED" in caplog.text
    assert not (home / uci_file.UCI_NAME).exists()


def test_find_obeys_a_forced_choice(tmp_path: Path, published: bytes) -> None:
    home = tmp_path / "project" / "dataset"
    with pytest.raises(Unavailable, match="no network"):
        dataset.find(home, "uci", fetch=offline)
    write_atomically(home / uci_file.UCI_NAME, published)
    assert dataset.find(home, "simulated", fetch=not_called).source == "simulated"


@pytest.mark.parametrize("choice", ["auto", "uci"])
def test_find_refuses_a_file_with_the_wrong_checksum(tmp_path: Path, choice: dataset.Choice) -> None:
    write_atomically(tmp_path / "project" / "dataset" / uci_file.UCI_NAME, b"Date;Time\n")
    with pytest.raises(UsageError, match=r"project/dataset.*Move it away"):
        dataset.find(tmp_path / "project" / "dataset", choice, fetch=not_called)


def archive(content: bytes, name: str = uci_file.UCI_NAME) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Return a function that serves one body on the loopback interface and returns its URL."""
    monkeypatch.setenv("NO_PROXY", "*")
    servers = []

    def start(body: bytes, status: int = 200, promised: int | None = None) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(promised or len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/air+quality.zip"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_download_unpacks_and_checks(serve: Callable[..., str], published: bytes) -> None:
    assert uci_file.download(serve(archive(published.replace(b"\n", b"\r\n")))) == published


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize(
    ("body", "status", "promised", "message"),
    [
        (archive(b"something else"), 200, None, "SHA-256 differs"),
        (archive(b"", name="other.csv"), 200, None, "not an archive with AirQualityUCI.csv"),
        (b"<html>please log in</html>", 200, None, "not an archive"),
        (b"", 404, None, "HTTPError"),
        (b"half", 200, 1000, "cannot be downloaded"),
    ],
)
def test_download_trusts_nothing(
    serve: Callable[..., str], body: bytes, status: int, promised: int | None, message: str
) -> None:
    with pytest.raises(Unavailable, match=message):
        uci_file.download(serve(body, status, promised))


def test_download_is_bounded(serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uci_file, "_DOWNLOAD_LIMIT_BYTES", 100_000)
    with pytest.raises(Unavailable, match="Timeout"):
        uci_file.download(serve(bytes(200_000)))


def test_download_says_that_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(Unavailable, match="ConnectionError"):
        uci_file.download("http://127.0.0.1:9/air+quality.zip")
