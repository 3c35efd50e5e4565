"""The network of UCI data set 360, "Air Quality": one station in an Italian town, 2004 and 2005.

Source: https://archive.ics.uci.edu/dataset/360/air+quality. The simulator's parameters (``recorded``, ``simulated``,
``outages``) are means, ranges and least-squares fits to the logs of the real station, all rounded.
"""

from __future__ import annotations

from airquality.network.declaration import Column, Guideline, Network, Outage, Recorded, Response, Twin, View

_CO, _C6H6, _NOX, _NO2 = "CO(GT)", "C6H6(GT)", "NOx(GT)", "NO2(GT)"
_S1, _S2, _S3, _S4, _S5 = "PT08.S1(CO)", "PT08.S2(NMHC)", "PT08.S3(NOx)", "PT08.S4(NO2)", "PT08.S5(O3)"
_RESISTANCE = (0.0, 20_000.0)
_CONCENTRATION = (0.0, 20_000.0)

UCI_360 = Network(
    name="UCI data set 360",
    columns=(
        Column(
            _CO, "co", "target", "mg/m³", (0.0, 500.0),
            floor=0.05, detector_floor=0.1, label="CO", median_limits=(0.0, 50.0), recorded=Recorded(0.1, 11.9, 1),
        ),
        Column(
            _S1, "s1", "sensor", "ohm", _RESISTANCE,
            floor=1.0, aliases=("PT08.S1",), recorded=Recorded(600, 2100, 0),
            simulated=Response(6.85, 0.222, -0.003, 0.095, -0.012, 0.098),
        ),
        # Its analyser is silent after the first weeks: it is carried along, and nothing reads it.
        Column(
            "NMHC(GT)", "nmhc", "analyser", "µg/m³", (0.0, 50_000.0),
            used=False, recorded=Recorded(7, 1200, 0, rows=1231), simulated=Response(4.42, 1.1, 0.0, 0.0, 0.0, 0.3),
        ),
        # Computed from PT08.S2, whatever its name says: no reference.
        Column(
            _C6H6, "c6h6", "sensor", "µg/m³", (0.0, 5_000.0),
            floor=0.05, aliases=("C6H6", "benzene", "benzene(GT)"), recorded=Recorded(0.1, 64.0, 1),
        ),
        Column(
            _S2, "s2", "sensor", "ohm", _RESISTANCE,
            floor=1.0, aliases=("PT08.S2",), recorded=Recorded(380, 2300, 0),
            simulated=Response(6.53, 0.34, 0.005, 0.035, -0.024, 0.113),
        ),
        Column(
            _NOX, "nox", "analyser", "ppb", _CONCENTRATION,
            floor=0.5, detector_floor=1.0, label="NOx", recorded=Recorded(2, 1500, 0),
            simulated=Response(4.41, 0.938, -0.013, -0.087, 1.106, 0.36),
        ),
        Column(
            _S3, "s3", "sensor", "ohm", _RESISTANCE,
            floor=1.0, aliases=("PT08.S3",), recorded=Recorded(300, 2700, 0),
            simulated=Response(7.26, -0.313, -0.001, -0.21, -0.4, 0.141),
        ),
        Column(
            _NO2, "no2", "analyser", "µg/m³", _CONCENTRATION,
            floor=0.5, detector_floor=1.0, label="NO2", recorded=Recorded(2, 350, 0),
            simulated=Response(4.47, 0.476, 0.008, -0.458, 0.41, 0.255),
        ),
        Column(
            _S4, "s4", "sensor", "ohm", _RESISTANCE,
            floor=1.0, aliases=("PT08.S4",), recorded=Recorded(500, 2800, 0),
            simulated=Response(6.98, 0.189, 0.002, 0.299, -0.315, 0.092),
        ),
        Column(
            _S5, "s5", "sensor", "ohm", _RESISTANCE,
            floor=1.0, aliases=("PT08.S5",), recorded=Recorded(200, 2600, 0),
            simulated=Response(6.53, 0.461, -0.008, 0.193, 0.084, 0.223),
        ),
        Column(
            "T", "t", "weather", "°C", (-90.0, 70.0),
            level_feature="temperature", aliases=("temperature", "temp", "air temperature"), median_limits=(-60.0, 45.0),
            recorded=Recorded(-2.0, 45.0, 1), simulated="temperature",
        ),
        Column(
            "RH", "rh", "weather", "%", (0.0, 105.0),
            level_feature="humidity", aliases=("relative humidity", "rel humidity"), median_limits=(1.0, 105.0),
            recorded=Recorded(9.0, 89.0, 1), simulated="humidity",
        ),
        # The data set says no unit; what it holds is close to, but is not, g/m³.
        Column(
            "AH", "ah", "weather", "", (0.0, 100.0),
            floor=0.01, level_feature="absolute_humidity", aliases=("absolute humidity", "abs humidity"),
            median_limits=(0.0, 4.5), recorded=Recorded(0.15, 2.3, 4), simulated="vapour",
        ),
    ),
    calibrated=((_C6H6, 1.0), (_NOX, 1.0), (_S1, 3.0)),
    pairs=((_NOX, _NO2), (_C6H6, _NOX), (_S1, _S2), (_S3, _S5), (_S2, _S4), (_C6H6, _NO2)),
    weather_products=(("T", "RH"),),
    twins=(
        Twin(
            _C6H6, _S2, 1000.0, 5, (0.15, 0.012), doubt_beyond=0.5, simulated=(-1.7811, 20.7176, -8.7492, 0.4035),
        ),
        Twin("AH", "T", 20.0, 4, (0.005, 0.008), factor="RH"),
    ),
    views=(View(), View(without=(_S1,)), View(without=(_S2,)), View(without=(_S3,)), View(without=(_S5,)),
           View(only=(_S1, _S2, _NOX, _NO2))),
    # WHO air quality guidelines 2021 (EU 2024/2881 takes it over for 2030); EU 2008/50/EC and WHO 2010. One hour above them
    # is not yet an exceedance, hence yellow before red.
    guidelines=(Guideline(4, "WHO 2021, 24-hour mean"), Guideline(10, "EU 2008/50/EC, 8-hour mean")),
    outages=(
        Outage((_CO,), (0.226, 0.121, 0.021)),
        Outage(("NMHC(GT)",), (0.255, 0.0, 0.0)),
        Outage((_NOX, _NO2), (0.221, 0.108, 0.026)),
        Outage((_S1, _S2, _S3, _S4, _S5, _C6H6, "T", "RH", "AH"), (0.023, 0.1, 0.055)),
    ),
)  # fmt: skip
