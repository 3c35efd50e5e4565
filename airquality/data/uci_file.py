"""The published file of UCI data set 360: where a copy of it lies, or its download, and whether a file is one.

https://archive.ics.uci.edu/dataset/360/air+quality (CC BY 4.0).
"""

from __future__ import annotations

import hashlib
import io
import logging
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import requests
from tqdm import tqdm

from airquality.ground.errors import Unavailable
from airquality.ground.files import write_atomically
from airquality.ground.proxies import proxy_hint

UCI_NAME = "AirQualityUCI.csv"
UCI_URL = "https://archive.ics.uci.edu/static/public/360/air+quality.zip"
#: SHA-256 of the real file with unix line ends.
UCI_SHA256 = "52690e4d44e65cb651cc8c68009c950fe94ea1ddda67d588780b64c4ecf81c23"

_CONNECT_SECONDS = 5.0
_READ_SECONDS = 10.0
_DOWNLOAD_SECONDS = 60.0
_DOWNLOAD_LIMIT_BYTES = 20_000_000

logger = logging.getLogger(__name__)


def obtain(dataset_dir: Path, fetch: Callable[[], bytes]) -> Path:
    """Return the published file in ``dataset_dir``: the one that lies there, a copy from beside the project, or fetched.

    Raises:
        UsageError: the file that lies there is another one.
        Unavailable: as ``fetch`` does.
    """
    path = dataset_dir / UCI_NAME
    if path.exists():
        require(path)
        return path
    content = next(_beside(dataset_dir), None)
    write_atomically(path, fetch() if content is None else content)
    return path


def _beside(dataset_dir: Path) -> Iterator[bytes]:
    """Yield the published file from ``dataset`` folders beside the project's: another checkout's, or one kept for several.

    What else has the name there is somebody else's, and left alone.
    """
    for path in sorted(dataset_dir.resolve().parent.parent.glob(f"*/dataset/{UCI_NAME}")):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        if is_published(content):
            logger.info("%s is taken from %s", UCI_NAME, path.parent)
            yield content


def is_published(content: bytes) -> bool:
    """Whether these are the bytes of the published file, with either kind of line ends."""
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest() == UCI_SHA256


def require(path: Path) -> None:
    """Raise ``UsageError`` unless the file is the published one, or a copy of it, of which is said what differs."""
    if is_published(path.read_bytes()):
        return
    from airquality.data import copies  # pandas: see read_stream_csv

    differences = copies.read(path)[2]
    logger.info("%s is a copy of the published file with the same values: taken (%s)", path, "; ".join(differences))


def download(url: str = UCI_URL) -> bytes:
    """Return the CSV inside the archive at ``url``, checked against its SHA-256, with unix line ends.

    Raises:
        Unavailable: the archive cannot be had within a minute, or holds something else; the message says which.
    """
    try:
        content = zipfile.ZipFile(io.BytesIO(_get(url))).read(UCI_NAME).replace(b"\r\n", b"\n")
    except requests.RequestException as error:
        reason = f"{url} ({type(error).__name__}){proxy_hint(url)}"
        raise Unavailable(f"The data set cannot be downloaded from {reason}.") from error
    except (zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise Unavailable(f"What {url} answers is not an archive with {UCI_NAME} in it.") from error
    if not is_published(content):
        raise Unavailable(f"{UCI_NAME} from {url} is not the file this project was built on (its SHA-256 differs).")
    return content


def _get(url: str) -> bytes:
    deadline = time.monotonic() + _DOWNLOAD_SECONDS
    body = bytearray()
    with requests.get(url, stream=True, timeout=(_CONNECT_SECONDS, _READ_SECONDS)) as response:
        response.raise_for_status()
        size = int(response.headers.get("Content-Length", 0)) or None
        with tqdm(desc=f"downloading {UCI_NAME}", total=size, unit="B", unit_scale=True, disable=None) as bar:
            for chunk in response.iter_content(65_536):
                body += chunk
                bar.update(len(chunk))
                if time.monotonic() > deadline or len(body) > _DOWNLOAD_LIMIT_BYTES:
                    raise requests.Timeout(f"{len(body)} bytes in {_DOWNLOAD_SECONDS:.0f} s")
    return bytes(body)
