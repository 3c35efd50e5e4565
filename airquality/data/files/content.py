"""From a path to text: unpacked, decoded, and refused in one sentence where it is no text."""

from __future__ import annotations

import gzip
import io
import lzma
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from airquality.ground.errors import UsageError

#: A year of a thousand stations is less; a packed file that grows beyond it is refused before memory is gone.
LIMIT_BYTES = 500_000_000
_STANDARD_INPUT = Path("-")
_SAVE_AS_CSV = "save the sheet as CSV and give that file"
_FOREIGN = (
    (b"PAR1", "a Parquet file: write it as CSV (pandas: to_csv) and give that file"),
    (b"\xd0\xcf\x11\xe0", f"an old Excel workbook (.xls): {_SAVE_AS_CSV}"),
    (b"BZh", "packed with bzip2: unpack it (bunzip2) and give the CSV"),
    (b"\xfd7zXZ", "packed with xz: unpack it (unxz) and give the CSV"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd: unpack it (unzstd) and give the CSV"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it and give the CSV"),
    (b"%PDF", "a PDF: give the table as CSV"),
    (b"SQLite format 3", "a SQLite database: export the table as CSV and give that file"),
    (b"\x89HDF", "an HDF5 file: write it as CSV and give that file"),
    (b"ARROW1", "an Arrow file: write it as CSV and give that file"),
)
#: The only letters beyond ASCII that a header needs: where they are all there is, the encoding is not in doubt.
_OF_UNITS = frozenset("°µ³²·")

#: What unpacking raises where a byte of a packed file is another one; ValueError for a place before its beginning.
_DAMAGED = (
    OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError, NotImplementedError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Text:
    """A file's text, the bytes it was stored as, and how they were read."""

    text: str
    stored: bytes
    encoding: str
    packed: str | None


def load(path: Path, encoding: str | None = None) -> Text:
    """Return the text of a file or a pipe; raises ``UsageError`` where it cannot be read as text without a doubt."""
    stored = _bytes_of(path)
    content, packed = _unpacked(path, stored)
    if not content.strip():
        raise UsageError(f"{path} is empty.")
    text, name = _decoded(path, content, encoding)
    if begins := re.match(r"\s*([<{]|\[\s*[\[{])", text):
        kind = "HTML or XML, perhaps the error page of a download" if begins[1] == "<" else "JSON"
        raise UsageError(f"{path} is {kind}: give a CSV.")
    return Text(text, stored, name, packed)


def _bytes_of(path: Path) -> bytes:
    if path == _STANDARD_INPUT:
        path = Path("/dev/stdin")
    if re.match(r"[a-z][a-z0-9+.-]*:/", str(path)):
        raise UsageError(f"{path} is an address: download it (curl -LO ...) and give the file.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder: give one file of one station.")
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read as a CSV: {error}") from error
    return _bounded(path, content)


def _bounded(path: Path, content: bytes) -> bytes:
    if len(content) > LIMIT_BYTES:
        raise UsageError(f"{path} is larger than {LIMIT_BYTES // 1_000_000} MB unpacked: give it in parts.")
    return content


def _unpacked(path: Path, stored: bytes) -> tuple[bytes, str | None]:
    """Return what a packed file holds, and how it is packed; other formats than text are refused by name."""
    for magic, what in _FOREIGN:
        if stored.startswith(magic):
            raise UsageError(f"{path} is {what}.")
    try:
        if stored.startswith(b"\x1f\x8b"):
            with gzip.open(io.BytesIO(stored)) as file:
                return _bounded(path, file.read(LIMIT_BYTES + 1)), "gzip"
        if stored.startswith(b"PK\x03\x04"):
            return _zipped(path, stored), "zip"
    except _DAMAGED as error:
        raise UsageError(f"{path} is packed and cannot be unpacked: {error}.") from error
    return stored, None


def _zipped(path: Path, stored: bytes) -> bytes:
    archive = zipfile.ZipFile(io.BytesIO(stored))
    names = archive.namelist()
    if "xl/workbook.xml" in names or "content.xml" in names:
        raise UsageError(f"{path} is a spreadsheet: {_SAVE_AS_CSV}.")
    inside = [name for name in names if name.lower().endswith((".csv", ".txt", ".tsv")) and "__MACOSX" not in name]
    if len(inside) != 1:
        raise UsageError(f"{path} is an archive of {len(inside)} CSV files: unpack it and give one of them.")
    with archive.open(inside[0]) as file:
        return _bounded(path, file.read(LIMIT_BYTES + 1))


def _decoded(path: Path, content: bytes, encoding: str | None) -> tuple[str, str]:
    guessed = encoding or _encoding_of(content)
    try:
        text = content.decode(guessed)
    except UnicodeError as error:
        if encoding is not None or guessed != "utf-8-sig":
            raise UsageError(f"{path} cannot be read as a CSV: it is not {guessed}: {error}") from error
        text, guessed = _single_byte(path, content), "cp1252"
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        raise UsageError(f"{path} cannot be read as a CSV: it is not text (it holds NUL bytes).")
    return text, _shown_name(guessed, content)


def _encoding_of(content: bytes) -> str:
    """Return UTF-16 or UTF-32 where the byte order mark, or the place of the zero bytes, says so; else UTF-8."""
    if content.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    even, odd = content[:200:2], content[1:200:2]
    if odd and not odd.strip(b"\0") and b"\0" not in even:
        return "utf-16-le"
    if even and not even.strip(b"\0") and b"\0" not in odd:
        return "utf-16-be"
    return "utf-8-sig"


def _single_byte(path: Path, content: bytes) -> str:
    """Return the text of a file in Windows' or Unix' western encoding, if it only differs by the letters of units."""
    text = content.decode("cp1252", errors="replace")
    if not {character for character in text if not character.isascii()} <= _OF_UNITS:
        raise UsageError(
            f"{path} cannot be read as a CSV: it is not UTF-8; say --encoding (cp1252 is Windows' western one)."
        )
    return text


def _shown_name(encoding: str, content: bytes) -> str:
    if encoding == "utf-8-sig":
        return "UTF-8 with a BOM" if content.startswith(b"\xef\xbb\xbf") else "UTF-8"
    return encoding.upper()
