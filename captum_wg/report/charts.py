"""The charts of a report as Vega-Lite, and the library that draws them, to be written into the page."""

from __future__ import annotations

import functools
from typing import Any

from captum_wg.report.contents import Chart

# After Okabe and Ito, for people who can't tell some colours apart, but seen on white and on dark ground; lines of a
# colour differ in dashes.
_COLOURS = ("#2E86C8", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8A8A8A")
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])


def spec(chart: Chart) -> dict[str, Any]:
    """A chart that is as wide as its place in the page."""
    import altair as alt

    names = [line.name for line in chart.lines]
    values = [
        {"name": line.name, "x": x, "y": y, "order": i}
        | ({"low": line.low[i], "high": line.high[i]} if line.low else {})
        for line in chart.lines
        for i, (x, y) in enumerate(zip(line.x, line.y, strict=True))
    ]
    colours = [_COLOURS[i % len(_COLOURS)] for i in range(len(names))]
    rounds = [divmod(i, len(_COLOURS)) for i in range(len(names))]
    dashes = [_DASHES[(again + place) % len(_DASHES)] for again, place in rounds]
    legend = alt.Legend(
        orient="bottom", columns=1, labelLimit=230, symbolType="stroke", symbolSize=600, symbolStrokeWidth=2, title=None
    )
    scale = alt.Scale(type="log") if chart.logarithmic else alt.Scale(zero=False, nice=False)
    x = alt.X("x:Q", title=chart.x, scale=scale)
    colour = alt.Color("name:N", scale=alt.Scale(domain=names, range=colours), legend=legend)
    base = alt.Chart(alt.InlineData(values=values)).encode(x=x, color=colour)
    few = max((len(line.x) for line in chart.lines), default=0) <= 12
    layers: list[alt.Chart] = [
        base.mark_line(point=few, strokeWidth=2).encode(
            y=alt.Y("y:Q", title=chart.y, scale=alt.Scale(zero=not few)),
            order="order:Q",
            strokeDash=alt.StrokeDash("name:N", scale=alt.Scale(domain=names, range=dashes), legend=legend),
            tooltip=[
                alt.Tooltip("name:N", title="line"),
                alt.Tooltip("x:Q", title=chart.x, format=".3g"),
                alt.Tooltip("y:Q", title=chart.y, format=".3g"),
            ],
        )
    ]
    if any(line.low for line in chart.lines):
        layers.insert(0, base.mark_area(opacity=0.2).encode(y="low:Q", y2="high:Q"))
    whole = alt.layer(*layers).properties(
        width="container", height=260, description=chart.title, background="transparent"
    )
    made: dict[str, Any] = whole.configure_view(stroke=None).to_dict()
    return made


@functools.cache
def library() -> str:
    """The JavaScript of Vega-Embed, Vega-Lite and Vega, which makes `vegaEmbed` known to the page."""
    import altair as alt
    import vl_convert

    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)
