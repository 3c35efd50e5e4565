"""What judges the benchmarks: targets, exceptions, medians and ranges; and what measures, where that can break unseen."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from airquality.ground.errors import AirQualityError, ContractError
from airquality.ground.settings import read_settings
from airquality.truth.kinds import DAILY
from benchmarks import __main__ as bench
from benchmarks import catchup, endurance, environments, figures, load, page, results, spread, stages, targets
from benchmarks.figures import Figure, ratio
from benchmarks.ground import Ground, Task
from benchmarks.group import Group
from benchmarks.replay import rates
from benchmarks.results import Result
from benchmarks.sections import Bench, Contender, Outcome, Section, chosen, sections
from benchmarks.targets import Excuse, Target, judge
from benchmarks.topics import Topics
from lab.ports import free_port
from lab.waiting import PATIENCE_SECONDS, Failed

FASTER = Target("speed", "replay", "product / bare", "at least", 0.6, "beside the bare loop")
SMALLER = Target("size", "replay", "MB", "at most", 200, "memory")
EXCUSE = Excuse("speed", "the broker's client is slow", "send takes 40 of 90 us", 0.4)


def figure(*values: float) -> dict[str, dict[str, Figure]]:
    return {"replay": {"product / bare": Figure("", values)}}


def verdict_of(target: Target, values: tuple[float, ...], *excuses: Excuse) -> targets.Verdict:
    measured = {"replay": {target.figure: Figure("", values)}}
    [verdict] = judge(measured, {excuse.target: excuse for excuse in excuses}, [target])
    return verdict


def a_result(**fields: Any) -> Result:
    outcome = Outcome({"product / bare": Figure("", (0.5, 0.7, 0.6))}, {"parse": Figure("us", (3.0, 4.0, 5.0))}, "quiet")
    return replace(Result.of("replay", outcome, quick=False, rounds=3, seconds=9, load=0.5), **fields)


@pytest.mark.parametrize("module", [figures, load, endurance], ids=lambda module: module.__name__)
def test_benchmark_docstrings_are_true(module: ModuleType) -> None:
    tried = doctest.testmod(module)
    assert tried.attempted
    assert not tried.failed


def test_figure_median_and_range_are_of_all_rounds() -> None:
    found = Figure("ms", (9.0, 1.0, 4.0, 2.0, 30.0))
    assert (found.median, found.low, found.high) == (4.0, 1.0, 30.0)
    assert Figure("", (1.0, 2.0)).median == 1.5


def test_ratio_is_taken_round_by_round() -> None:
    assert ratio([10.0, 1.0, 10.0], [20.0, 2.0, 10.0]).values == (0.5, 0.5, 1.0)


@pytest.mark.parametrize(("target", "good", "bad"), [(FASTER, 0.6, 0.599), (SMALLER, 200.0, 200.1)])
def test_target_at_its_limit_is_met_and_beyond_it_is_missed(target: Target, good: float, bad: float) -> None:
    assert verdict_of(target, (good,)).word == "met"
    assert not verdict_of(target, (good,)).failed
    assert verdict_of(target, (bad,)).word == "MISSED"
    assert verdict_of(target, (bad,)).failed


def test_target_is_judged_by_the_median_not_by_the_best_round() -> None:
    assert verdict_of(FASTER, (0.9, 0.5, 0.5)).failed
    assert not verdict_of(FASTER, (0.1, 0.6, 0.6)).failed


def test_exception_excuses_a_miss_up_to_its_own_limit() -> None:
    assert verdict_of(FASTER, (0.45,), EXCUSE).word == "excepted"
    assert not verdict_of(FASTER, (0.45,), EXCUSE).failed
    beyond = verdict_of(FASTER, (0.39,), EXCUSE)
    assert beyond.failed
    assert "0.4" in beyond.word


def test_exception_that_is_no_longer_needed_is_said_and_fails_nothing() -> None:
    verdict = verdict_of(FASTER, (0.7,), EXCUSE)
    assert verdict.word == "met: its exception is no longer needed"
    assert not verdict.failed


def test_target_without_a_figure_is_not_measured() -> None:
    [verdict] = judge({}, {}, [FASTER])
    assert (verdict.word, verdict.failed, verdict.met) == ("not measured", False, False)


def test_exceptions_committed_are_of_targets_and_give_reasons() -> None:
    assert set(targets.excuses()) <= {target.name for target in targets.TARGETS}


@pytest.mark.parametrize(
    ("entry", "said"),
    [({"target": "spede"}, "spede"), ({"reason": " "}, "speed"), ({"where_the_time_goes": ""}, "speed")],
)
def test_exception_without_target_or_reason_is_refused(tmp_path: Path, entry: Mapping[str, str], said: str) -> None:
    path = tmp_path / "exceptions.json"
    own = {"target": "replay", "reason": "r", "where_the_time_goes": "w", "limit": 0.4}
    path.write_text(json.dumps([{**own, **entry}]))
    with pytest.raises(ContractError, match="spede" if "target" in entry else "replay"):
        targets.excuses(path)


def test_targets_are_of_sections_and_named_once() -> None:
    assert {target.section for target in targets.TARGETS} <= set(sections())
    names = [target.name for target in targets.TARGETS]
    assert len(names) == len(set(names))


def test_result_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    result = a_result()
    results.keep(result, tmp_path)
    assert results.kept(tmp_path) == {"replay": result}
    assert result.commit
    assert "numpy" in result.versions


def test_page_says_what_is_met_missed_and_excepted_and_of_which_commit(tmp_path: Path) -> None:
    place = page.Place(tmp_path)
    kept = {"replay": a_result(commit="abc1234", date="2026-11-26 10:00 UTC", quick=True)}
    kept["replay"] = replace(kept["replay"], figures={f"{n}, rows a second": Figure("rows/s", (9.0,)) for n in _REPLAYED})
    both = [verdict_of(FASTER, (0.45,), EXCUSE), verdict_of(SMALLER, (300.0,))]
    page.write(place, kept, both)
    said = place.page.read_text()
    assert "0 met, 1 missed with an exception, 1 missed, 0 not measured." in said
    assert "send takes 40 of 90 us" in said
    assert "| `size` | memory | at most 200 | 300 | MISSED |" in said
    assert "2026-11-26 10:00 UTC, commit abc1234, the small size (QUICK=1), 3 rounds" in said
    assert "Not measured yet." in said
    assert place.image.stat().st_size > 1_000


_REPLAYED = ("bare", "product", "quix", "pandas")


@pytest.mark.parametrize(("value", "code"), [(0.7, 0), (0.3, 1)])
def test_bench_page_exit_code_is_that_of_the_kept_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: float, code: int
) -> None:
    monkeypatch.setattr(bench, "Interruption", lambda: None)
    monkeypatch.setattr(targets, "excuses", dict)
    monkeypatch.setattr(page, "write", lambda *_: tmp_path)
    results.keep(a_result(figures={"product / bare": Figure("", (value,))}), tmp_path / "benchmarks")
    assert bench.main(["--page", "--out", str(tmp_path)]) == code
    assert ("replay: MISSED" in capsys.readouterr().out) == bool(code)


def test_bench_section_that_fails_is_named_and_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Bench) -> Outcome:
        raise KeyError("rows/s")

    def sound(_: Bench) -> Outcome:
        return Outcome({"p99": Figure("ms", (3.0,))})

    made = {"replay": Section(broken, 1, quick=True, minutes=1), "live": Section(sound, 2, quick=True, minutes=1)}
    monkeypatch.setattr(bench, "Interruption", lambda: None)
    monkeypatch.setattr(bench, "sections", lambda: made)
    assert bench.main(["--quick", "--out", str(tmp_path)]) == 1
    assert "not measured, because they failed: replay" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "benchmarks").iterdir()] == ["live.json"]


@pytest.mark.parametrize(("microseconds", "code", "said"), [(61.0, 1, "model-one: MISSED"), (60.0, 0, "model-one: met")])
def test_bench_ends_with_1_where_a_target_without_exception_is_missed_and_names_it(
    microseconds: float,
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def kernels(_: Bench) -> Outcome:
        return Outcome({"model, 1 row": Figure("us", (microseconds,) * 3)})

    monkeypatch.setattr(bench, "Interruption", lambda: None)
    monkeypatch.setattr(bench, "sections", lambda: {"kernels": Section(kernels, 1, quick=True, minutes=1)})
    assert bench.main(["--quick", "--out", str(tmp_path)]) == code
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(("quick", "place"), [(["--quick"], "run/bench"), ([], "docs")])
def test_bench_small_run_leaves_the_published_figures_alone(
    quick: list[str], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"live": Section(lambda _: Outcome({"p99": Figure("ms", (3.0,))}), 1, quick=True, minutes=1)}
    monkeypatch.setattr(bench, "Interruption", lambda: None)
    monkeypatch.setattr(bench, "sections", lambda: made)
    monkeypatch.setattr(bench, "PROJECT", tmp_path)
    bench.main(quick)
    assert [path.parent for path in tmp_path.rglob("live.json")] == [tmp_path / place / "benchmarks"]


def test_results_commit_is_dirty_where_code_differs_not_where_results_were_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: tmp_path / name for name in ("docs/benchmarks/live.json", "code.py")}
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("first")
    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("init",), ("add", "."), (*author, "commit", "-m", "first")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.setattr(results, "PROJECT", tmp_path)
    files["docs/benchmarks/live.json"].write_text("second")
    assert not results.commit().endswith("-dirty")
    files["code.py"].write_text("second")
    assert results.commit().endswith("-dirty")


def test_bench_section_that_takes_long_is_left_out_of_the_small_run_unless_it_is_asked_for() -> None:
    def empty(_: Bench) -> Outcome:
        return Outcome({})

    made = {
        "replay": Section(empty, 1, quick=True, minutes=1),
        "spread": Section(empty, 2, quick=False, minutes=1),
    }
    assert chosen(made, [], quick=False) == ["replay", "spread"]
    assert chosen(made, [], quick=True) == ["replay"]
    assert chosen(made, ["spread"], quick=True) == ["spread"]


def test_bench_whole_run_takes_no_more_than_an_hour() -> None:
    assert sum(sections()[name].minutes for name in chosen(sections(), [], quick=False)) <= 60


def test_catchup_counts_both_pages_of_every_window(tmp_path: Path) -> None:
    names = [f"{station}/daily_2005030{day}_000000.html" for station in "abcd" for day in range(1, 5)]
    for page_of in (f"daily/{name}" for name in names):
        for path in (tmp_path / page_of, tmp_path / "evidently" / page_of):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
    assert catchup.reports_made(tmp_path, DAILY, 4 * 24 + 23) == 16
    with pytest.raises(ContractError, match="20 daily windows closed at least, but there are 16 pages"):
        catchup.reports_made(tmp_path, DAILY, 5 * 24)
    (tmp_path / "evidently" / "daily" / names[0]).unlink()
    with pytest.raises(ContractError, match="16 pages, 15 of Evidently"):
        catchup.reports_made(tmp_path, DAILY, 4 * 24)


def test_topics_of_two_sections_and_of_two_runs_have_names_of_their_own(tmp_path: Path) -> None:
    runs = [tmp_path / "one", tmp_path / "two"]
    grounds = [Ground(run) for run in runs]
    names = [Topics(ground)._new_name("raw") for ground in grounds for _section in range(2)]
    assert len(set(names)) == 4


def test_interleaved_contenders_all_run_in_every_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran: list[str] = []

    def contender(name: str) -> Contender:
        def run() -> Mapping[str, float]:
            ran.append(name)
            return {"rows/s": float(len(ran))}

        return run

    with Ground(tmp_path) as ground:
        found = Bench(ground, rounds=4).interleave({name: contender(name) for name in ("a", "b", "c")})
    assert [set(ran[start : start + 3]) for start in range(0, 12, 3)] == [{"a", "b", "c"}] * 4
    assert len({tuple(ran[start : start + 3]) for start in range(0, 12, 3)}) > 1, "the order changes"
    assert sorted(value for name in found for value in found[name]["rows/s"]) == [float(n) for n in range(1, 13)]


@pytest.mark.parametrize("point", [point for points in stages.POINTS.values() for point in points])
def test_stage_point_is_a_function_that_is_called(point: str) -> None:
    owner, name, original = stages.resolve(point)
    assert callable(original)
    assert getattr(owner, name) is original


def test_stages_inner_time_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 4.0, 10.0])
    monkeypatch.setattr("time.thread_time", lambda: next(now))
    timed = stages.Stages()
    inner = timed._timed("inner", lambda: None)
    timed._timed("outer", inner)()
    assert timed.seconds == {"inner": 3.0, "outer": 7.0}


def test_stages_that_took_no_time_are_named() -> None:
    assert stages.unseen(dict.fromkeys(stages.POINTS, 0.1) | {"parse": 0.0}) == ["parse"]


def commits(*seen: tuple[float, int]) -> dict[str, Any]:
    """Return what a clock says that saw commits of so many predictions at these times, 0.1 s of CPU each second."""
    return {"commits": [[at, done, 0.1 * at, 0.0] for at, done in seen]}


def test_spread_counts_only_while_all_consumers_work() -> None:
    first = commits(*((t, 10 * t) for t in range(1, 11)))
    second = commits(*((t, 20 * (t - 4)) for t in range(5, 16)))
    found = spread.while_all_work([first, second], since=0.0)
    assert found["rows/s"] == pytest.approx(30.0)
    assert found["CPU us"] == pytest.approx(0.2 / 30 * 1e6)


def test_spread_counts_neither_the_first_hour_nor_what_a_consumer_commits_when_it_ends() -> None:
    first = commits((1.0, 50), (20.0, 150), (21.0, 250), (22.0, 350), (40.0, 350))
    second = commits((9.0, 50), (9.5, 50), (20.0, 150), (21.0, 250), (30.0, 250))
    found = spread.while_all_work([first, second], since=10.0)
    assert found["rows/s"] == pytest.approx(200.0)


def test_spread_consumers_that_never_worked_together_are_refused() -> None:
    with pytest.raises(ContractError, match="did not work at the same time"):
        spread.while_all_work([commits((1.0, 50), (2.0, 100)), commits((3.0, 50), (4.0, 100))], since=0.0)


def test_group_a_consumer_that_ends_is_said_with_its_words(tmp_path: Path) -> None:
    task = Task([sys.executable, "-c", "raise SystemExit('no topic')", "{}"], tmp_path, os.environ)
    task.child.wait(PATIENCE_SECONDS)
    settings = read_settings(kafka_bootstrap_servers=f"127.0.0.1:{free_port()}")
    with (
        pytest.raises(Failed, match="a consumer ended before every consumer has partitions: no topic"),
        Group(settings, [task]) as group,
    ):
        group.await_shared(1)


@pytest.mark.parametrize("contender", ["quix", "bentoml", "mlflow"])
def test_contender_requirements_are_pinned(contender: str) -> None:
    lines = (environments.CONTENDERS / contender / "requirements.txt").read_text().splitlines()
    listed = [line for line in lines if not line.startswith("#")]
    assert listed
    assert [line for line in listed if "==" not in line] == []


@pytest.fixture
def echo(request: pytest.FixtureRequest) -> Iterator[int]:
    """Yield the port of a server that answers every body with itself, and with the status that is asked for."""

    class Echo(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(request.param)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(PATIENCE_SECONDS)


@pytest.mark.parametrize("echo", [200], indirect=True)
def test_load_counts_whole_answers(echo: int) -> None:
    answered = load.load(load.Request(echo, "/", b"x" * 300_000, {}), 3, 0.2)
    assert len(answered.latencies) >= 3
    assert answered.quantile_ms(0.5) <= answered.quantile_ms(0.99)


@pytest.mark.parametrize("echo", [503], indirect=True)
def test_load_refused_request_is_an_error(echo: int) -> None:
    with pytest.raises(AirQualityError, match="503"):
        load.load(load.Request(echo, "/", b"x", {}), 1, 0.2)


def test_rates_end_with_the_commit_of_the_last_row_not_with_what_a_program_does_before_it_ends() -> None:
    commits = [[1.0, 500, 0.25, 100.0], [2.0, 1_000, 0.5, 100.0], [9.0, 1_000, 8.0, 100.0]]
    found = {"began": 0.0, "cpu_began": 0.0, "commits": commits}
    assert rates(found, 1_000) == {"rows/s": 500.0, "CPU us": 500.0}
