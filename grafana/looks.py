"""How panels look: the few kinds this dashboard uses, on top of Grafana's foundation SDK.

One rule holds for all: no data is never green. The lowest threshold, which Grafana also paints an absent value with, is
grey; green begins at a value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, gauge, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import common as enums
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="prometheus")  # the uid pinned in datasources.yml
GREY, GREEN, YELLOW, ORANGE, RED, BLUE = "#6e6e6e", "green", "yellow", "orange", "red", "blue"
HEIGHT = 8

Steps = Sequence[tuple[float, str]]
States = Mapping[int, tuple[str, str]]


def thresholds(steps: Steps) -> build.ThresholdsConfig:
    """Return thresholds from lower bounds and their colours; below the first, and without data, grey."""
    found = [models.Threshold(value=None, color=GREY), *(models.Threshold(value=low, color=color) for low, color in steps)]
    return build.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(found)


def mappings(states: States) -> list[models.ValueMapping]:
    """Return the words and colours of whole-number states, and grey words for no value."""
    values = {
        str(value): models.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(states.items())
    }
    absent = models.DashboardSpecialValueMapOptions(
        match=models.SpecialValueMatch.NULL_AND_NAN, result=models.ValueMappingResult(text="no data", color=GREY)
    )
    return [models.ValueMap(options=values), models.SpecialValueMap(options=absent)]


def query(ref: str, expression: str, legend: str, *, over_time: bool) -> prometheus.Dataquery:
    """Return one query: its whole course where time is the axis, else only its value now."""
    made = prometheus.Dataquery().ref_id(ref).datasource(DATASOURCE).expr(expression).legend_format(legend)
    return made.range() if over_time else made.instant()


def link(title: str, url: str) -> build.DashboardLink:
    """Return a link, in a panel's corner or above all panels, that opens in a new tab."""
    return build.DashboardLink(title).type(models.DashboardLinkType.LINK).icon("external link").url(url).target_blank(True)


def dressed(panel: Any, title: str, description: str, width: int, height: int, queries: Mapping[str, str]) -> Any:
    """Give a panel of any kind what all of them have; ``queries`` maps a legend to its expression."""
    over_time = isinstance(panel, (timeseries.Panel, statetimeline.Panel))
    panel.title(title).description(description).span(width).height(height).datasource(DATASOURCE)
    for number, (legend, expression) in enumerate(queries.items()):
        panel.with_target(query(chr(ord("A") + number), expression, legend, over_time=over_time))
    return panel


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def course(width: int, title: str, description: str, queries: Mapping[str, str], unit: str = "short") -> timeseries.Panel:
    """Return values over time, from zero up."""
    panel = dressed(timeseries.Panel(), title, description, width, HEIGHT, queries)
    panel.unit(unit).min(0).fill_opacity(10).line_width(2).show_points(enums.VisibilityMode.NEVER).thresholds(
        thresholds([(0, GREEN)])
    )
    panel.legend(
        common.VizLegendOptions()
        .display_mode(enums.LegendDisplayMode.LIST)
        .placement(enums.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    panel.tooltip(common.VizTooltipOptions().mode(enums.TooltipDisplayMode.MULTI).sort(enums.SortOrder.DESCENDING))
    return panel  # type: ignore[no-any-return]


def dotted(panel: timeseries.Panel, names: str) -> timeseries.Panel:
    """Return the panel with the lines whose names match the regular expression dotted."""
    style = models.DynamicConfigValue("custom.lineStyle", {"fill": "dot", "dash": [0, 10]})
    return panel.override_by_regexp(names, [style])


def tile(
    width: int,
    title: str,
    description: str,
    queries: Mapping[str, str],
    *,
    states: States | None = None,
    steps: Steps = (),
    unit: str = "none",
) -> stat.Panel:
    """Return a coloured answer, in words where the value is a state."""
    panel = dressed(stat.Panel(), title, description, width, 4, queries)
    panel.unit(unit).no_value("no data").reduce_options(_last()).graph_mode(enums.BigValueGraphMode.NONE)
    panel.color_mode(enums.BigValueColorMode.BACKGROUND_SOLID).text_mode(enums.BigValueTextMode.VALUE_AND_NAME)
    if len(queries) == 1 and "{{" not in next(iter(queries)):
        panel.text_mode(enums.BigValueTextMode.VALUE)
    return panel.thresholds(thresholds(steps)).mappings(mappings(states or {}))  # type: ignore[no-any-return]


def history(title: str, description: str, queries: Mapping[str, str], states: States, steps: Steps) -> statetimeline.Panel:
    """Return a band for each series that shows when it was in which state."""
    panel = dressed(statetimeline.Panel(), title, description, 24, 6, queries)
    panel.mappings(mappings(states)).thresholds(thresholds(steps)).fill_opacity(80).line_width(0)
    panel.color_scheme(build.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    return panel.show_value(enums.VisibilityMode.NEVER).merge_values(True).row_height(0.8)  # type: ignore[no-any-return]


def bars(
    width: int, title: str, description: str, queries: Mapping[str, str], steps: Steps, unit: str = "short"
) -> bargauge.Panel:
    """Return one bar for each series, from zero: without a fixed lower end the smallest bar would be empty."""
    panel = dressed(bargauge.Panel(), title, description, width, HEIGHT, queries)
    panel.unit(unit).min(0).no_value("no data").reduce_options(_last()).thresholds(thresholds(steps))
    panel.display_mode(enums.BarGaugeDisplayMode.BASIC).orientation(enums.VizOrientation.HORIZONTAL)
    return panel.show_unfilled(True).value_mode(enums.BarGaugeValueMode.COLOR)  # type: ignore[no-any-return]


def dial(
    width: int, title: str, description: str, queries: Mapping[str, str], steps: Steps, unit: str, highest: float
) -> gauge.Panel:
    """Return a dial from zero to ``highest``."""
    panel = dressed(gauge.Panel(), title, description, width, HEIGHT, queries)
    panel.unit(unit).min(0).max(highest).decimals(2).no_value("no data").reduce_options(_last())
    return panel.thresholds(thresholds(steps)).show_threshold_labels(True).show_threshold_markers(True)  # type: ignore[no-any-return]


def listing(width: int, title: str, description: str, expression: str, hidden: Sequence[str], url: str) -> table.Panel:
    """Return the series of an instant query as rows, without the ``hidden`` columns; each cell links to ``url``."""
    panel = table.Panel().title(title).description(description).span(width).height(HEIGHT).datasource(DATASOURCE)
    panel.with_target(query("A", expression, "", over_time=False).format(PromQueryFormat.TABLE)).no_value("none")
    organize = {"excludeByName": dict.fromkeys(hidden, True)}
    panel.with_transformation(models.DataTransformerConfig(id_val="organize", options=organize))
    return panel.thresholds(thresholds([])).links([link("What to do", url)])
