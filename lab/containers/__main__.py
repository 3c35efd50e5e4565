"""Run the unmodified stack on a container engine: ``python -m lab.containers [fresh] [host] [stream] [scaled] [brokers]``.

``fresh`` starts the stream where nothing is prepared. ``host`` drives the stack with the scripts, as the user types them.
``stream`` drives it with the containers and disturbs them: the consumer stopped, restarted and killed, the API and Kafka
stopped for a while, everything taken down and up again. ``scaled`` runs three consumers and two APIs, and kills one of each.
``brokers`` runs three brokers and two consumers, and kills one of each.
``host`` and ``stream`` must end with the same predictions, to the bit, and whenever containers are stopped, all of them must
end by themselves. Exit status 0 if every promise was kept.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.containers import brokers, monitoring, reader
from lab.containers.endings import stop_cleanly
from lab.containers.incidents import api_away, consumer_killed, consumer_stops_and_goes_on, kafka_away, panel_shows
from lab.containers.reader import PREDICTIONS, RAW, WARMUP_HOURS
from lab.containers.scaled import drive_scaled
from lab.containers.stack import ROLES, SOURCE, Stack, check, copy_tree, fetch, in_image, wait_for
from lab.waiting import Failed

API = "http://localhost:8000"
#: What a person's commands make in dataset/ before `up`.
PREPARED = ("test_data_raw.csv", "reference.csv", "reference_calibration.json")
REPORTS = {"daily": 51, "weekly": 7}
HEALTHY_WITHIN_SECONDS = 60
BUSY_LOAD_PER_CORE = 1.5
API_IMAGE_MAX_MB = 600
NOT_IN_THE_API = ["evidently", "sklearn", "lightgbm", "catboost", "skopt", "matplotlib", "plotly", "kafka"]
#: promlint's one complaint, and why it is accepted: the user fixed the name.
WAIVED_LINT = {'missing_values_count non-histogram and non-summary metrics should not have "_count" suffix'}
#: A user that owns nothing here, to see that reports belong to whoever owns the checkout.
SOMEBODY = 1234

Predictions = dict[tuple[str, str], dict[str, Any]]


def main(flows: list[str]) -> int:
    """Run the named flows, all by default."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # a build that runs out of time still cleans up
    started = time.monotonic()
    tree = Path(tempfile.mkdtemp(prefix="air-quality-e2e-"))
    stack, results = Stack(tree), {}
    try:
        prepare(stack)
        for flow in flows or list(FLOWS):
            stack = Stack(tree, FILES[flow]) if flow in FILES else Stack(tree)
            results[flow] = measured(flow, FLOWS[flow], stack)
        if {"host", "stream"} <= set(results):
            check(results["host"] == results["stream"], "both flows end with the same predictions, to the bit")
    except (Failed, subprocess.CalledProcessError) as failure:
        print(f"FAILED  {failure}\n{last_words(stack)}", flush=True)
        return 1
    finally:
        stack.down("-v")
        shutil.rmtree(tree)
    print(f"e2e: every promise kept in {time.monotonic() - started:.0f} s")
    return 0


def measured(name: str, flow: Callable[[Stack], Predictions], stack: Stack) -> Predictions:
    """Run one flow from empty volumes to empty volumes."""
    print(f"{name}:", flush=True)
    started = time.monotonic()
    outcome = flow(stack)
    stop_cleanly(stack, "down -v", lambda: stack.down("-v"))
    check(not stack.states(), "down leaves no container, whatever profiles were started")
    shutil.rmtree(stack.tree / "reports")
    (stack.tree / "reports").mkdir()
    check(True, "who runs the stack can delete the reports")
    print(f"  {name} took {time.monotonic() - started:.0f} s", flush=True)
    return outcome


def prepare(stack: Stack) -> None:
    """Do what the user does before ``up``: make the data and the reference, build the images."""
    if not (SOURCE / "dataset/AirQualityUCI.csv").exists():
        script("dataset/create_dataset.py", cwd=SOURCE)
    copy_tree(stack.tree)
    print("prepare:", flush=True)
    script("dataset/create_dataset.py", cwd=stack.tree)
    script("generate_reference_dataset.py", cwd=stack.tree)
    started = time.monotonic()
    stack.compose("--profile=stream", "build")
    sizes = stack.image_sizes()
    print(f"  images built in {time.monotonic() - started:.0f} s, MB: {sizes}", flush=True)
    check(sizes["air-quality-api"] <= API_IMAGE_MAX_MB, f"the API image is no larger than {API_IMAGE_MAX_MB} MB")
    images_are_lean()


def images_are_lean() -> None:
    """Look into the images: whose they are, and what is not in them."""
    for role in ROLES:
        check(in_image(role, "id -u") != "0", f"the {role} image does not run as root")
        check(in_image(role, "command -v gcc cc c++ || true") == "", f"the {role} image has no compiler")
    unwanted = f"import importlib.util as u; print([n for n in {NOT_IN_THE_API} if u.find_spec(n)])"
    check(in_image("api", f'python -c "{unwanted}"') == "[]", "the API image neither trains nor reports")


def host_flow(stack: Stack) -> Predictions:
    """Drive the stack with the scripts on the host."""
    healthy_in_time(stack.up)
    log = (stack.tree / "consumer.out").open("w")
    consumer = subprocess.Popen([sys.executable, "consumer.py"], cwd=stack.tree, stdout=log, stderr=subprocess.STDOUT)
    try:
        producer = [sys.executable, "producer.py", "--csv", "dataset/test_data_raw.csv", "--rate", "15"]
        with subprocess.Popen(producer, cwd=stack.tree, stdout=subprocess.DEVNULL) as producing:
            panels_fill(stack, until=lambda: producing.poll() is not None)
            scraped("prometheus localhost", "api", "lag lag-exporter", "consumer host.docker.internal")
        check(producing.returncode == 0, "the producer sent the file")
        outcome = all_predicted(stack)
        metrics_are_clean(stack)
        loud = monitoring.firing()
        check(not loud, f"no alert fires on an undisturbed stream {loud or ''}")
        consumer.send_signal(signal.SIGTERM)
        check(consumer.wait(timeout=60) == 0, "the consumer ends with status 0 when asked to")
    finally:
        consumer.kill()
        log.close()
    lines = (stack.tree / "consumer.out").read_text()
    check("Warmup complete! Starting inference..." in lines, "the consumer said when inference began")
    check("serving air-quality-co version 1" in stack.compose("logs", "api"), "docker-compose logs api says what it serves")
    dashboard_is_provisioned()
    return outcome


def stream_flow(stack: Stack) -> Predictions:
    """Drive the stack with its own consumer and producer, and disturb it."""
    reports_belong_to(stack, SOMEBODY)
    healthy_in_time(lambda: stack.up("stream", STREAM_RATE="8"))
    expected = str(SOMEBODY) if os.getuid() == 0 else str(os.getuid())
    check(stack.host_user_of("consumer", "python consumer.py") == expected, "the consumer is who owns ./reports")
    predicted(300)
    scraped("prometheus localhost", "api", "lag lag-exporter")
    wait_for("the consumer container is scraped", container_scraped, 40)

    consumer_stops_and_goes_on(stack)
    api_away(stack)
    predicted(700)
    kafka_away(stack)
    consumer_killed(stack)
    predicted(1000)
    stop_cleanly(stack, "down", stack.down)
    reports_belong_to(stack, 0)
    before = up_again(stack)

    outcome = all_predicted(stack)
    check(all(outcome[hour] == kept for hour, kept in before.items()), f"down and up: it went on after {len(before)}")
    check(stack.host_user_of("consumer", "python consumer.py") != "0", "nothing consumes as root, whoever owns ./reports")
    wait_for("the producer ends", lambda: stack.states()["producer"] == "exited 0", 120)
    check(True, "the producer ended with status 0")
    return outcome


def scaled_flow(stack: Stack) -> Predictions:
    """Drive the stack with three consumers and two APIs."""
    drive_scaled(stack)
    return unique_predictions()


def brokers_flow(stack: Stack) -> Predictions:
    """Drive the stack with three brokers and lose one."""
    brokers.drive_brokers(stack)
    return unique_predictions(brokers.SERVERS)


def fresh_flow(stack: Stack) -> Predictions:
    """Start the stream where nothing has been prepared, and Alertmanager where nobody has said whom to tell."""
    held = [stack.tree / "dataset" / name for name in (*PREPARED, "AirQualityUCI.csv")]
    aside = Path(tempfile.mkdtemp(prefix="air-quality-held-"))
    for path in held:
        shutil.move(path, aside / path.name)
    try:
        stack.up("stream", within_seconds=400, STREAM_RATE="100")
        predicted(50)
        made = wait_for("a summary", lambda: stack.summary(), 60)
        served = json.loads(fetch(f"{API}/version") or "{}")
        check(made["data_source"] in ("uci", "simulated"), f"a fresh clone streams, data source: {made['data_source']}")
        check(served["data_source"] == made["data_source"], "what is served was fitted on the data that are streamed")
        refused = stack.refused("--profile=alerting", "up", "-d", ALERT_WEBHOOK_URL="")
        complaint = next(
            (line for line in refused.splitlines() if "exited with code 2" in line or "successfully: exit 2" in line), ""
        )
        check(complaint, f"up without a webhook fails and says what failed: {complaint.strip()}")
        log = stack.compose("--profile=alerting", "logs", "--no-color", "alert-webhook-init")
        check("set ALERT_WEBHOOK_URL in .env" in log, "its log says what to do")
        return unique_predictions()
    finally:
        for path in held:
            shutil.move(aside / path.name, path)
        aside.rmdir()


def healthy_in_time(up: Callable[[], float]) -> None:
    """Start the stack and judge the time it took, if the machine was free to do it."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    seconds = up()
    if load > BUSY_LOAD_PER_CORE * cores:
        print(f"  --  all healthy {seconds:.0f} s after up; not judged, the load was {load:.1f} on {cores} cores before")
    else:
        check(seconds <= HEALTHY_WITHIN_SECONDS, f"all healthy {seconds:.0f} s after up, at most {HEALTHY_WITHIN_SECONDS}")


def up_again(stack: Stack) -> Predictions:
    """Start the stack again, and return what had been committed when its consumer was not yet there."""
    stack.up()
    before = unique_predictions()
    stack.up("stream", STREAM_RATE="100")
    return before


def panels_fill(stack: Stack, until: Callable[[], bool]) -> None:
    """Wait until each expression of each panel has returned data, at the latest when ``until`` says so."""
    missing = monitoring.panel_expressions(stack.tree)
    panels = len(set(missing.values()))
    wait_for("panel Consumer shows RUNNING", lambda: panel_shows(stack, "Consumer", "RUNNING"), 60)
    wait_for("panel API shows UP", lambda: panel_shows(stack, "API", "UP"), 60)  # it may have been scraped before its model
    check(True, "panels API and Consumer show UP and RUNNING")
    while missing and not until():
        missing = {expression: panel for expression, panel in missing.items() if not monitoring.query(expression)}
        time.sleep(5)
    check(not missing, f"every expression of {panels} panels returned data during the stream {missing or ''}")


def scraped(*names: str) -> None:
    """Check that Prometheus reaches these targets, each a job and a host, or any one of a job."""

    def all_up() -> bool:
        up = {name for name, health in monitoring.targets().items() if health == "up"}
        return set(names) <= up | {name.split()[0] for name in up}

    wait_for(f"targets {names} are up", all_up, 40)
    check(True, f"Prometheus scrapes {', '.join(names)}")


def container_scraped() -> bool:
    """Return whether Prometheus reaches a consumer other than the host's."""
    found = monitoring.targets()
    return any(name.startswith("consumer ") and "host." not in name and health == "up" for name, health in found.items())


def predicted(number: int) -> None:
    """Wait until that many predictions are committed."""
    wait_for(f"{number} predictions", lambda: reader.count(PREDICTIONS) >= number, 240)
    print(f"  ..  {number} predictions committed", flush=True)


def unique_predictions(servers: str = reader.BOOTSTRAP) -> Predictions:
    """Return the committed predictions by station and hour; no hour may stand there twice."""
    records = reader.committed(PREDICTIONS, servers)
    found = {(record["station_id"], record["DateTime"]): record for record in records}
    check(len(found) == len(records), f"no hour is predicted twice among {len(records)} committed predictions")
    kept = ("prediction", "actual", "model_version")  # where the row was in Kafka may differ between flows
    return {hour: {name: record[name] for name in kept} for hour, record in found.items()}


def all_predicted(stack: Stack) -> Predictions:
    """Wait for the last prediction and the last report; check the law of rows and the files on the host."""
    rows = len((stack.tree / "dataset/test_data_raw.csv").read_text().splitlines()) - 1
    expected = rows - WARMUP_HOURS
    wait_for(f"{expected} predictions", lambda: reader.count(PREDICTIONS) >= expected, 240)
    outcome = unique_predictions()
    check(len(outcome) == expected, f"{expected} committed predictions of {rows} rows")
    wait_for("all reports", lambda: stack.summary().get("reports_generated") == REPORTS, 600)
    found = {kind: len(list((stack.tree / "reports" / kind).glob(f"{kind}_*.html"))) for kind in REPORTS}
    check(found == REPORTS, f"reports on the host: {found}")
    totals = wait_for("the last row is accounted for", lambda: accounted(stack.summary()), 60)
    check(
        totals["rows_in"] == reader.count(RAW),
        f"rows in = rows sent = {totals['rows_in']}, {totals['duplicates']} of them again",
    )
    check(totals["reports_failed"] == 0 and not totals["dead_letters"], "no report failed, no dead letter")
    return outcome


def accounted(totals: dict[str, Any]) -> dict[str, Any] | None:
    """Return the summary once it covers all committed rows and obeys: rows in = the sum of what became of them."""
    if not totals or totals["rows_in"] != reader.count(RAW):
        return None
    became = totals["warmup"] + totals["predictions_total"] + totals["duplicates"]
    became += sum(count for name in ("dead_letters", "truths", "operations") for count in totals[name].values())
    return totals if totals["rows_in"] == became else None


def metrics_are_clean(stack: Stack) -> None:
    """Let promtool read both metric pages."""
    for url in ("http://localhost:8000/metrics", "http://localhost:8001/metrics"):
        promtool = ["docker", "run", "--rm", "-i", "--entrypoint", "promtool", prometheus_image(stack), "check", "metrics"]
        lint = subprocess.run(promtool, input=fetch(url), text=True, capture_output=True)
        complaints = {line for line in (lint.stdout + lint.stderr).splitlines() if line.strip()}
        check(complaints <= WAIVED_LINT, f"promtool check metrics {url} {sorted(complaints - WAIVED_LINT) or ''}")


def prometheus_image(stack: Stack) -> str:
    """Return the image the stack's Prometheus runs."""
    return next(
        line.split("image:")[1].strip()
        for line in (stack.tree / "docker-compose.yml").read_text().splitlines()
        if "image: prom/prometheus" in line
    )


def dashboard_is_provisioned() -> None:
    """Ask Grafana for the dashboard, where Grafana is the real one."""
    found = monitoring.grafana_dashboard("air-quality")
    if found is None:
        print("  --  Grafana is a stand-in here: provisioning not checked by Grafana itself", flush=True)
    else:
        check(len(found["panels"]) >= 5, "Grafana provisioned the dashboard")


def reports_belong_to(stack: Stack, uid: int) -> None:
    """Give the reports to another user, where we may."""
    if os.getuid() == 0:
        reports = stack.tree / "reports"
        for path in (reports, *reports.rglob("*")):
            os.chown(path, uid, uid)


def script(name: str, cwd: Path) -> None:
    """Run one of the system's programs to its end."""
    done = subprocess.run([sys.executable, name], cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    check(done.returncode == 0, f"python {name} {done.stdout[-1000:] if done.returncode else ''}")


def last_words(stack: Stack) -> str:
    """Return what helps to understand a failure."""
    states = ", ".join(f"{name}: {state}" for name, state in sorted(stack.states().items()))
    consumer = stack.tree / "consumer.out"
    host = consumer.read_text()[-3000:] if consumer.exists() else ""
    return f"{states}\n{stack.compose('--profile=stream', 'logs', '--tail=25', '--no-color')}\nhost consumer:\n{host}"


FLOWS: dict[str, Callable[[Stack], Predictions]] = {
    "fresh": fresh_flow,
    "host": host_flow,
    "stream": stream_flow,
    "scaled": scaled_flow,
    "brokers": brokers_flow,
}
#: The compose files of a flow, where it is not docker-compose.yml alone.
FILES = {"brokers": brokers.FILES}

if __name__ == "__main__":
    wrong = set(sys.argv[1:]) - set(FLOWS)
    sys.exit(f"e2e: unknown flows {sorted(wrong)}; there are {sorted(FLOWS)}" if wrong else main(sys.argv[1:]))
