"""Another network than the declared one: PM2.5 beside a road, by light scattering, humidity, pressure and an NO analyser.

Its columns, units and target share nothing with the real network's, and its target is not the first column.
"""

from __future__ import annotations

from airquality.network.declaration import Column, Guideline, Network, Outage, Recorded, Response, Twin, View

ROADSIDE = Network(
    name="a road",
    columns=(
        Column(
            "NO",
            "no",
            "analyser",
            "ppb",
            (0.0, 5_000.0),
            floor=0.5,
            recorded=Recorded(0.5, 900, 1),
            simulated=Response(3.0, 0.8, -0.01, 0.0, 0.1, 0.2),
        ),
        Column("PM2.5", "pm25", "target", "µg/m³", (0.0, 2_000.0), floor=0.5, label="PM2.5", recorded=Recorded(0.1, 90, 1)),
        Column(
            "scatter",
            "sc",
            "sensor",
            "1/Mm",
            (0.0, 50_000.0),
            floor=0.5,
            recorded=Recorded(1, 9_000, 0),
            simulated=Response(5.0, 0.6, 0.0, 0.1, -0.05, 0.1),
        ),
        Column("dust", "du", "sensor", "µg/m³", (0.0, 9_000.0), floor=0.1, recorded=Recorded(0.1, 900, 2)),
        Column(
            "counter",
            "cn",
            "sensor",
            "1/cm³",
            (0.0, 900_000.0),
            floor=1.0,
            recorded=Recorded(10, 99_000, 0),
            simulated=Response(7.0, 0.5, 0.0, -0.1, 0.1, 0.12),
        ),
        Column(
            "humidity",
            "hu",
            "weather",
            "%",
            (0.0, 105.0),
            level_feature="air_humidity",
            recorded=Recorded(5, 99, 1),
            simulated="humidity",
        ),
        Column(
            "pressure",
            "pr",
            "weather",
            "hPa",
            (500.0, 1_100.0),
            level_feature="air_pressure",
            recorded=Recorded(900, 1_080, 1),
            simulated=Response(6.92, 0.0, 0.0005, 0.002, 0.0, 0.004),
        ),
    ),
    calibrated=(("scatter", 1.5), ("NO", 1.0)),
    pairs=(("scatter", "counter"),),
    weather_products=(("humidity", "pressure"),),
    twins=(Twin("dust", "scatter", 100.0, 2, (0.05, 0.01), doubt_beyond=0.5, simulated=(0.02, 3.0, 0.5)),),
    views=(View(), View(without=("scatter",)), View(without=("counter",)), View(only=("scatter", "counter", "NO"))),
    guidelines=(Guideline(15, "WHO 2021, 24-hour mean"), Guideline(50, "a bad hour")),
    outages=(
        Outage(("PM2.5",), (0.05, 0.05, 0.05)),
        Outage(("scatter", "dust", "counter", "humidity", "pressure"), (0.02, 0.02, 0.02)),
    ),
)
