import json

from captum_wg.report import Chart, Line
from captum_wg.report.charts import library, spec


def test_lines_bands_and_axes() -> None:
    line = Line("a", (1.0, 10.0), (0.5, 0.25), (0.4, 0.2), (0.6, 0.3))
    found = spec(Chart("Title", "price", "score", (line, Line("b", (5.0,), (0.3,))), logarithmic=True))
    band, lines = found["layer"]
    assert band["mark"]["type"] == "area" and lines["mark"]["type"] == "line" and lines["mark"]["point"]
    assert found["width"] == "container" and found["description"] == "Title"
    encoding = lines["encoding"]
    assert encoding["x"]["title"] == "price" and encoding["x"]["scale"]["type"] == "log"
    # No two lines look alike.
    ranges = [encoding[name]["scale"]["range"] for name in ("color", "strokeDash")]
    assert ranges[0][0] != ranges[0][1] and ranges[1][0] != ranges[1][1]
    values = json.dumps(found)
    assert '{"name": "a", "x": 10.0, "y": 0.25, "order": 1, "low": 0.2, "high": 0.3}' in values
    assert "http" not in values.replace(found["$schema"], "")


def test_many_lines_differ_in_colour_and_dashes() -> None:
    lines = tuple(Line(str(i), (0.0, 1.0), (0.0, 1.0)) for i in range(28))
    (drawn,) = spec(Chart("c", "x", "y", lines))["layer"]
    colours, dashes = (drawn["encoding"][name]["scale"]["range"] for name in ("color", "strokeDash"))
    assert len({(colour, *dash) for colour, dash in zip(colours, dashes, strict=True)}) == 28


def test_the_library_is_whole_and_can_be_written_into_a_page() -> None:
    assert "window.vegaEmbed" in library() and len(library()) < 1_200_000
