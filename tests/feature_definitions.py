"""Features computed one by one from what their names say, and made-up hours to compute them from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import Phase, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from airquality.model import features
from airquality.model.features import NAMES
from airquality.records import RAW_COLUMNS, TARGET_INDEX

Floats = NDArray[np.float64]


START = 307_668
#: An hour of the made-up ones that has a whole history before it and enough after it.
T = 300


CO, NMHC = TARGET_INDEX, RAW_COLUMNS.index("NMHC(GT)")


#: Typical values in the order of RAW_COLUMNS.
LEVELS = np.array([2.0, 1100.0, 200.0, 10.0, 940.0, 240.0, 830.0, 113.0, 1450.0, 1020.0, 18.0, 49.0, 1.0])


seeds = st.integers(0, 2**32 - 1)


# what takes long is tried less often, and not shrunk: no seed is simpler than another
few = settings(max_examples=settings().max_examples // 5, phases=[Phase.explicit, Phase.reuse, Phase.generate])


def dense_values(n_hours: int, seed: int = 0) -> Floats:
    return LEVELS * np.random.default_rng(seed).lognormal(0.0, 0.7, (n_hours, len(RAW_COLUMNS)))


def patchy_values(n_hours: int, seed: int) -> Floats:
    """Values with everything that happens to them: cells, hours, days and whole columns missing; zeros; frost; stuck."""
    rng = np.random.default_rng(seed)
    values = dense_values(n_hours, seed)
    shape = values.shape
    values[:, RAW_COLUMNS.index("T")] -= 15.0
    values[:, CO] *= rng.random(n_hours) > 0.05
    values[:, rng.integers(shape[1])] = 3.0
    values[rng.random(shape) < rng.choice([0.0, 0.05, 0.3, 0.9], shape[1])] = np.nan
    for _ in range(3):
        first, columns = rng.integers(n_hours), rng.random(shape[1]) < rng.choice([0.1, 1.0])
        values[first : first + rng.choice([1, 5, 30, 200]), columns] = np.nan
    return values


def hours_of(values: Floats) -> NDArray[np.int64]:
    return np.arange(START, START + len(values))


def batch(values: Floats) -> Floats:
    return features.batch(hours_of(values), values)


def row_at(values: Floats, position: int) -> Floats:
    """The one row of the grid index ``position``, computed alone."""
    row: Floats = features.rows(values, np.array([START + position]), np.array([position]))[0]
    return row


def columns(*patterns: str) -> list[int]:
    return [i for i, name in enumerate(NAMES) if any(re.fullmatch(pattern, name) for pattern in patterns)]


FLOORS = {
    "co": 0.05, "s1": 1.0, "c6h6": 0.05, "s2": 1.0, "nox": 0.5, "s3": 1.0, "no2": 0.5, "s4": 1.0, "s5": 1.0, "ah": 0.01,
}  # fmt: skip


COLUMN = {
    "co": "CO(GT)", "s1": "PT08.S1(CO)", "c6h6": "C6H6(GT)", "s2": "PT08.S2(NMHC)", "nox": "NOx(GT)", "s3": "PT08.S3(NOx)",
    "no2": "NO2(GT)", "s4": "PT08.S4(NO2)", "s5": "PT08.S5(O3)", "t": "T", "rh": "RH", "ah": "AH",
}  # fmt: skip


EXPONENT = {"c6h6": 1, "nox": 1, "s1": 3}


#: What involves no more than one sum of two terms is the same to the last bit; the rest to rounding.
EXACT = columns(r".*_log", r".*diff.*h", r"co_count.*", "temperature.*", ".*humidity")


STD = columns(r"co_std_.*")


class Oracle:
    """The meaning of every feature name, from a table of what was received in which times are looked up."""

    def __init__(self, received: pd.DataFrame, times: pd.DatetimeIndex) -> None:
        raw = pd.DataFrame({short: received[name] for short, name in COLUMN.items()})
        logs = pd.DataFrame({f"log_{x}": np.log(raw[x].clip(lower=floor)) for x, floor in FLOORS.items()})
        ratios = pd.DataFrame({f"ratio_{x}": logs["log_co"] - k * logs[f"log_{x}"] for x, k in EXPONENT.items()})
        table = pd.concat([raw[["t", "rh", "ah"]], logs, ratios], axis=1)
        self._times = times
        self._ago = {n: table.reindex(times - pd.Timedelta(hours=n)).set_axis(times) for n in range(169)}
        windows = {w: self._over(range(1, w + 1)) for w in (3, 6, 12, 24, 72, 168)}
        self._co_windows = {w: window["log_co"] for w, window in windows.items()}
        self._means = {w: window.mean() for w, window in windows.items()}
        self._last = windows[168].first()  # the first that is known, the newest hour coming first
        self._same_hour = self._over(range(24, 169, 24)).mean()
        self._base = self._base_of_now()

    def features(self) -> pd.DataFrame:
        columns = dict(self._calendar()) | dict(self._co()) | dict(self._sensors()) | dict(self._weather())
        assert set(columns) == set(NAMES)
        return pd.DataFrame(columns)[list(NAMES)]

    def _over(self, hours_ago: range) -> Any:
        return pd.concat({n: self._ago[n] for n in hours_ago}).groupby(level=1)

    def _log(self, x: str, hours_ago: int = 0) -> pd.Series:
        return self._ago[hours_ago][f"log_{x}"]

    def _estimate(self, x: str, ratio: pd.Series) -> pd.Series:
        return EXPONENT[x] * self._log(x) + ratio

    def _base_of_now(self) -> pd.Series:
        estimates = pd.DataFrame({x: self._estimate(x, self._last[f"ratio_{x}"]) for x in ("c6h6", "nox", "s1")})
        past = pd.DataFrame({"last": self._last["log_co"], "same hour": self._same_hour["log_co"]})
        return estimates.mean(axis=1).where(estimates.notna().any(axis=1), past.mean(axis=1))

    def _calendar(self) -> Iterator[tuple[str, pd.Series]]:
        phases = {"hour": self._times.hour / 24, "weekday": self._times.weekday / 7, "month": (self._times.month - 1) / 12}
        for name, phase in phases.items():
            yield f"{name}_sin", pd.Series(np.sin(2 * np.pi * phase), self._times)
            yield f"{name}_cos", pd.Series(np.cos(2 * np.pi * phase), self._times)

    def _co(self) -> Iterator[tuple[str, pd.Series]]:
        yield from {"co_base": np.exp(self._base), "log_co_base": self._base}.items()
        for x in EXPONENT:
            ratio = f"ratio_{x}"
            kinds = {"last": self._last[ratio], "same_hour": self._same_hour[ratio]}
            kinds |= {f"{w}h": self._means[w][ratio] for w in (6, 24, 72, 168)}
            yield from ((f"co_from_{x}_{kind}_rel", self._estimate(x, value) - self._base) for kind, value in kinds.items())
            step = EXPONENT[x] * (self._log(x) - self._log(x, 1))
            yield f"co_step_{x}_rel", self._log("co", 1) + step - self._base
        yield from ((f"co_lag_{n}h_rel", self._log("co", n) - self._base) for n in (1, 2, 3, 6, 12, 24, 48, 72, 168))
        yield from ((f"co_count_{w}h", self._co_windows[w].count()) for w in (24, 168))
        for w, window in self._co_windows.items():
            yield f"co_mean_{w}h_rel", window.mean() - self._base
            yield f"co_std_{w}h", window.std(ddof=0).where(window.count() > 1)
            yield f"co_min_{w}h_rel", window.min() - self._base
            yield f"co_max_{w}h_rel", window.max() - self._base
        yield "co_same_hour_rel", self._same_hour["log_co"] - self._base
        one, two, three = (self._log("co", n) for n in (1, 2, 3))
        yield from {"co_diff_1h": one - two, "co_acceleration": (one - two) - (two - three)}.items()
        yield "co_diff_24h", one - self._log("co", 25)

    def _sensors(self) -> Iterator[tuple[str, pd.Series]]:
        for x in ("s1", "c6h6", "s2", "nox", "s3", "no2", "s4", "s5"):
            now, one, two, day = (self._log(x, n) for n in (0, 1, 2, 24))
            yield from {f"{x}_log": now, f"{x}_rel": now - self._base}.items()
            yield from ((f"{x}_over_mean_{w}h", now - self._means[w][f"log_{x}"]) for w in (24, 168))
            yield from {f"{x}_diff_1h": now - one, f"{x}_acceleration": (now - one) - (one - two)}.items()
            yield f"{x}_diff_24h", now - day
        for pair in ("nox no2", "c6h6 nox", "s1 s2", "s3 s5", "s2 s4", "c6h6 no2"):
            a, b = pair.split()
            usual = self._means[168][f"log_{a}"] - self._means[168][f"log_{b}"]
            yield f"{a}_{b}_ratio", (self._log(a) - self._log(b)) - usual
            yield f"{a}_{b}_product_rel", (self._log(a) + self._log(b)) / 2 - self._base

    def _weather(self) -> Iterator[tuple[str, pd.Series]]:
        now, usual = self._ago[0], self._means[24]
        yield from {"temperature": now["t"], "humidity": now["rh"], "absolute_humidity": now["ah"]}.items()
        yield "temperature_x_humidity", now["t"] * now["rh"]
        yield from ((f"{x}_over_mean_24h", now[x] - usual[x]) for x in ("t", "rh"))
        yield "ah_over_mean_24h", now["log_ah"] - usual["log_ah"]
