"""The README says nothing that is not so: its links lead somewhere, its verbs exist, its blocks run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from lab.waiting import wait_until
from tests import real_data
from tests.terminal import typed

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: The commands the user fixed, in their order; the containers' block holds these and no others.
CONTAINER_COMMANDS = [
    "pip install -r requirements.txt",
    "python dataset/create_dataset.py",
    "python generate_reference_dataset.py",
    "docker-compose build",
    "docker-compose up -d",
    "docker-compose ps",
    "python producer.py --csv dataset/test_data_raw.csv",
    "python consumer.py",
    "docker-compose logs api",
    "docker-compose down",
]
#: The ports of the commands as they are typed.
PORTS = (9092, 8000, 8001)


def blocks(section: str) -> list[str]:
    """Return the fenced blocks under a heading of the README, down to the next of the same or a higher level."""
    text = (ROOT / "README.md").read_text()
    level, start = next((len(found[1]), found.end()) for found in re.finditer(rf"^(#+) {re.escape(section)}$", text, re.M))
    end = re.search(rf"^#{{1,{level}}} ", text[start:], re.M)
    return re.findall(r"^```\n(.*?)^```$", text[start : start + end.start() if end else len(text)], re.M | re.S)


def test_pages_links_lead_to_files() -> None:
    links = [(page, target) for page in PAGES for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())]
    assert [(page.name, target) for page, target in links if not (page.parent / target).exists()] == []


def test_pages_source_files_they_name_exist() -> None:
    folders = "airquality|benchmarks|dataset|deploy|grafana|lab|tests|training"
    named = [(page, name) for page in PAGES for name in re.findall(rf"`((?:{folders})/[\w./]+\.py)", page.read_text())]
    assert len(named) > 50
    assert [(page.name, name) for page, name in named if not (ROOT / name).exists()] == []


def test_pages_make_verbs_exist() -> None:
    makefiles = "".join((ROOT / name).read_text() for name in ("Makefile", "deploy.mk", "supply.mk", "training/train.mk"))
    verbs = set(re.findall(r"^([a-z0-9-]+):", makefiles, re.M))
    for page in PAGES:
        assert set(re.findall(r"(?:`|^)make ([a-z0-9-]+)", page.read_text(), re.M)) - verbs == set()


def test_readme_is_read_in_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text().split()) < 1_100


def test_readme_container_block_is_what_the_user_types() -> None:
    assert blocks("With containers")[0].splitlines() == CONTAINER_COMMANDS


@contextmanager
def checkout(folder: Path) -> Iterator[dict[str, str]]:
    """Copy the project's files to a folder and yield an environment without settings; the environment is shared."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    for name in ("requirements.txt", "requirements-dev.txt", "requirements.lock"):
        os.utime(folder / name, (0, 0))  # what is installed is what they list: make has nothing to do
    (folder / ".venv").symlink_to(Path(sys.prefix))
    if real_data.FILE:
        shutil.copy(real_data.FILE, folder / "dataset")
    ours = ("KAFKA_", "AIR_QUALITY_DATA", "MLFLOW_", "API_URL")
    yield {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def is_ready() -> bool:
    try:
        return requests.get("http://127.0.0.1:8000/ready", timeout=2).ok
    except requests.RequestException:
        return False


def is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.timeout(3_600)
def test_readme_one_by_one_runs_as_written(tmp_path: Path) -> None:
    if taken := [port for port in PORTS if is_taken(port)]:
        pytest.skip(f"the README's own ports are taken: {taken}")
    first, second, third, by_hand, call = blocks("One by one")
    with checkout(tmp_path) as environment, typed(first, tmp_path, environment) as broker:
        wait_until(lambda: is_taken(9092) or broker.poll() is not None, "prepared, and the broker listens", 900)
        assert broker.poll() is None
        with typed(second, tmp_path, environment) as service:
            wait_until(lambda: is_ready() or service.poll() is not None, "the service is ready")
            assert service.poll() is None
            for block in (third, by_hand, call):
                with typed(block, tmp_path, environment) as shell:
                    assert shell.wait(900) == 0, block
    said = "".join(path.read_text() for path in (tmp_path / "run").glob("terminal-*.log"))
    assert "400 rows acknowledged" in said
    assert re.search(r'"prediction": ?[0-9.]+', said)
    assert (tmp_path / "reports" / "index.html").exists()
