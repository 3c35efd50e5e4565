"""What the service says of itself: OpenAPI, a client generated from it, and the pages, none of which needs a network."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from airquality.ground.settings import Settings
from airquality.model import features
from airquality.records import RAW_COLUMNS
from airquality.serving import documents, pages
from api_service import create_app
from lab.waiting import PATIENCE_SECONDS
from tests.api_server import Client, running_artifacts


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("reports")
    (folder / "index.html").write_text("<h1>the index</h1>")
    (folder / "daily").mkdir()
    (folder / "daily" / "daily_20050213_020000.html").write_text("a report")
    (folder.parent / "secret.html").write_text("secret")
    (folder / "link.html").symlink_to(folder.parent / "secret.html")
    with running_artifacts(Settings(reports_dir=folder)) as made:
        yield made


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app().openapi()


# --- OpenAPI ---


def test_openapi_names_every_field_of_requests_and_answers(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert list(schemas["FeatureRow"]["properties"]) == list(features.NAMES) == schemas["FeatureRow"]["required"]
    assert list(schemas["Reading"]["properties"]) == ["DateTime", *RAW_COLUMNS] == schemas["Reading"]["required"]
    fields = {"prediction", "unit", "DateTime", "hours_used", "missing_features", "model_version"}
    assert set(schemas["ReadingsPrediction"]["properties"]) == fields
    assert "mg/m3" in schemas["Prediction"]["properties"]["prediction"]["description"]
    assert {name: schemas["Reading"]["properties"][name]["description"] for name in ("CO(GT)", "NOx(GT)", "T")} == {
        "CO(GT)": "mg/m3",
        "NOx(GT)": "ppb",
        "T": "degC",
    }


def test_openapi_every_call_names_its_answer_and_its_problems(document: dict[str, Any]) -> None:
    for path in ("/predict", "/predict/batch", "/predict/from-readings"):
        call = document["paths"][path]["post"]
        assert set(call["responses"]) == {"200", "401", "403", "408", "413", "415", "422", "503"}
        assert "$ref" in call["responses"]["200"]["content"]["application/json"]["schema"]
        for status in ("413", "422", "503"):
            content = call["responses"][status]["content"]["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
        assert "SIMULATED" in call["requestBody"]["description"]
    references = set(re.findall(r"#/components/schemas/(\w+)", orjson.dumps(document).decode()))
    assert references <= set(document["components"]["schemas"])


def test_openapi_examples_run_as_pasted_and_agree(client: Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    found = set()
    for path in ("/predict", "/predict/batch", "/predict/from-readings"):
        for kind, content in paths[path]["post"]["requestBody"]["content"].items():
            example = content["example"]
            body = example.encode() if isinstance(example, str) else orjson.dumps(example)
            answer = requests.post(client.url + path, data=body, headers={"Content-Type": kind}, timeout=PATIENCE_SECONDS)
            assert answer.status_code == 200, (path, answer.text)
            found.add(answer.json().get("prediction") or answer.json()["predictions"][0])
    assert len(found) == 1


def test_openapi_example_is_a_simulated_row_without_gaps() -> None:
    row = documents.example_row()
    assert list(row) == list(features.NAMES)
    assert None not in row.values()
    assert len(set(row.values())) > 100


@pytest.mark.slow
def test_generated_client_predicts(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "openapi.json").write_bytes(client.get("/openapi.json").content)
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", "openapi.json", "--meta", "none"]
    environment = {"PATH": str(Path(sys.executable).parent), "HOME": str(tmp_path), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [*command, "--output-path", "generated"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[:2000]
    assert said.count("WARNING") == said.count("Unsupported content type text/csv") == 1  # it knows JSON only
    monkeypatch.syspath_prepend(str(tmp_path))
    models = importlib.import_module("generated.models")
    one = importlib.import_module("generated.api.default.predict")
    call = importlib.import_module("generated.api.default.predict_from_readings")
    row = models.PredictionRequest.from_dict({"features": documents.example_row()})
    request = models.ReadingsRequest.from_dict({"readings": documents.example_readings()})
    short = models.ReadingsRequest.from_dict({"readings": documents.example_readings()[:3]})
    with importlib.import_module("generated").Client(base_url=client.url) as caller:
        answer = call.sync(client=caller, body=request)
        problem = call.sync(client=caller, body=short)
        predicted = one.sync(client=caller, body=row).prediction
    assert isinstance(answer, models.ReadingsPrediction)
    assert (answer.unit, answer.hours_used, answer.model_version) == ("mg/m3", 169, "1")
    assert answer.prediction == predicted
    assert isinstance(problem, models.Problem)
    assert "168 hours" in problem.detail


# --- pages ---


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc"])
def test_pages_name_nothing_of_another_machine(client: Client, path: str) -> None:
    page = client.get(path)
    assert page.status_code == 200
    assert re.findall(r"""(?:src|href)=["'](?:https?:)?//[^"']*""", page.text) == []
    assert "default-src 'self'" in page.headers["content-security-policy"]
    linked = re.findall(r"""(?:src|href)=["'](/[^"']*)""", page.text)
    assert linked
    for link in linked:
        assert client.get(link).status_code == 200, link


def test_start_page_shows_the_model_and_escapes(client: Client) -> None:
    assert "Version 1 of air-quality-co answers" in client.get("/").text
    assert "<script>" not in pages.start([pages.state(None, "<script>")])


def test_reports_are_served_and_nothing_beside_them(client: Client) -> None:
    assert client.get("/reports").headers["location"] == "/reports/"
    assert client.get("/reports/").text == "<h1>the index</h1>"
    assert client.get("/reports/daily/daily_20050213_020000.html").text == "a report"
    session = requests.Session()
    for path in (
        "/reports/link.html",
        "/reports/../secret.html",
        "/reports/%2e%2e/secret.html",
        "/reports/..%2fsecret.html",
    ):
        request = requests.Request("GET", client.url).prepare()
        request.url = f"{client.url}/reports/{path}"
        answer = session.send(request, timeout=PATIENCE_SECONDS)
        assert (answer.status_code, "secret" in answer.text) == (404, False), path
