"""Give the containers that stream their data, reference and model: ``docker-compose --profile stream up`` in a fresh clone.

    make_data.py OWN HOST

``HOST`` is the checkout's ``dataset/``, ``OWN`` the containers' copy. What a person prepared in ``HOST`` is taken as it is.
Where nothing is prepared, the data set is fetched and the reference made. Where it cannot be fetched, everything is
simulated and says so: data, reference and a quick model, which becomes champion in place of the shipped one, for a
reference must have been predicted by the twin of the model that serves.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from airquality.ground.errors import AirQualityError
from airquality.ground.settings import Settings, read_settings
from airquality.model import registry

PREPARED = ("test_data_raw.csv", "reference.csv", "reference_calibration.json")
#: Without it the stream's data are called unlabelled.
LABEL = "source.json"
#: Beside them where they were made: without them nothing is judged hour by hour, and predictions have no intervals.
OPTIONAL = (LABEL, "detectors.json", "detectors.npz", "intervals.json")
RAW = "AirQualityUCI.csv"
SIMULATED = "simulated"
#: The API is started beside this job, and looks for a new champion every 10 s.
SERVED_WITHIN_SECONDS = 180.0


def main(argv: list[str]) -> int:
    """Prepare the containers' data; 0 done, 1 failure."""
    own, host = map(Path, argv)
    try:
        prepare(own, host, read_settings())
    except subprocess.CalledProcessError as error:
        print(f"data-init: {' '.join(error.cmd)} failed; it says why above", file=sys.stderr)
        return 1
    except (AirQualityError, TimeoutError) as error:
        print(f"data-init: {error}", file=sys.stderr)
        return 1
    return 0


def prepare(own: Path, host: Path, settings: Settings) -> None:
    """Fill ``own`` and say with what."""
    if complete(host):
        copy((*PREPARED, *OPTIONAL), host, own)
        say(f"took the data and the reference in dataset/, data source: {source(own)}")
        return
    if not complete(own):
        make(own, host)
    if source(own) == SIMULATED:
        say("*** SIMULATED DATA: the real data set could not be had. Nothing in this stack is a measurement. ***")
        serve(own / "artifacts", settings)
    say(f"the data and the reference are there, data source: {source(own)}")


def make(own: Path, host: Path) -> None:
    """Make what streaming and judging need, by the programs a person would run."""
    copy((RAW,), host, own)
    environment = {"DATASET_DIR": str(own)}
    run("dataset/create_dataset.py", **environment)
    if source(own) == SIMULATED:
        environment |= {"AIR_QUALITY_DATA_SOURCE": SIMULATED, "ARTIFACTS_DIR": str(own / "artifacts")}
        run("training/train.py", "--quick", **environment)
    run("generate_reference_dataset.py", **environment)


def serve(artifacts: Path, settings: Settings) -> None:
    """Make the simulated model champion unless one serves already, and wait until the API answers with it.

    Raises:
        TimeoutError: the API did not take it up.
    """
    deadline = time.monotonic() + SERVED_WITHIN_SECONDS
    registered = False
    while (serving := served_source(settings.api_url)) != SIMULATED:
        if serving and not registered:
            registry.register(artifacts, settings, settings.model_alias)
            registered = True
        if time.monotonic() >= deadline:
            raise TimeoutError(f"the API at {settings.api_url} does not serve the simulated model")
        time.sleep(1)


def served_source(api_url: str) -> str:
    """Return which data the served model was fitted on; empty while none answers."""
    try:
        with urllib.request.urlopen(f"{api_url}/version", timeout=5) as answer:
            return str(json.load(answer)["data_source"])
    except (urllib.error.URLError, OSError, ValueError, KeyError):
        return ""


def complete(directory: Path) -> bool:
    """Return whether a dataset directory holds all that streaming and judging need."""
    return all((directory / name).is_file() for name in PREPARED)


def source(directory: Path) -> str:
    """Return what the directory's label says of its data."""
    label = directory / LABEL
    return str(json.loads(label.read_text())["data_source"]) if label.is_file() else "unlabelled"


def copy(names: Iterable[str], host: Path, own: Path) -> None:
    """Copy those of the files that there are, readable for every user of the containers."""
    for name in names:
        if (host / name).is_file():
            shutil.copyfile(host / name, own / name)
            (own / name).chmod(0o644)


def run(*command: str, **environment: str) -> None:
    """Run one of the system's programs to its end; raises ``CalledProcessError`` if it fails."""
    subprocess.run([sys.executable, *command], check=True, env={**os.environ, **environment})


def say(words: str) -> None:
    """Print a line for the container's log."""
    print(f"data-init: {words}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
