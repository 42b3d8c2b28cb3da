"""The page: one self-contained HTML file, no network, readable in light and dark."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import jinja2
import pandas as pd


@dataclass(frozen=True)
class Strip:
    """A row of pictures with captions."""

    title: str
    pictures: list[tuple[str, str]]  # caption, data URI


TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>novelseg: {{ protocol }}</title>
<style>
:root { color-scheme: light dark; font: 16px/1.45 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 78rem; padding: 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
th:first-child, td:first-child, .text { text-align: left; }
tr.best td { font-weight: 600; }
.strip { display: flex; flex-wrap: wrap; gap: .6rem; }
figure { margin: 0; flex: 0 0 auto; }
figcaption { font-size: .8rem; opacity: .8; max-width: 240px; }
.curve { background: #fff; max-width: 100%; border-radius: 4px; }
.strip img { display: block; max-width: 240px; border-radius: 3px; }
h3 { margin: 1rem 0 .3rem; font-size: 1rem; }
</style>
</head>
<body>
<h1>novelseg: {{ protocol }}</h1>
<p>Few-shot segmentation of novel classes. Each row scores the same episodes; ± is the standard deviation over seeds,
brackets hold the 95 % bootstrap interval over query images. Novel classes: {{ classes | join(", ") }}.
{{ note }}</p>
<h2>Results</h2>
{% for shot, rows in shots %}
<h3>{{ shot }}-shot</h3>
<div class="wide"><table>
<thead><tr><th>variant</th><th>fold</th><th>mIoU %</th><th>±</th><th>interval</th><th>FB-IoU %</th><th>±</th>
<th>episodes</th><th>parameters</th></tr></thead>
<tbody>{% for row in rows %}
<tr{% if row.best %} class="best"{% endif %}><td>{{ row.variant }}</td><td>{{ row.fold }}</td>
<td>{{ "%.1f" % row.miou }}</td><td>{{ "%.1f" % row.miou_std }}</td>
<td>[{{ "%.1f" % row.miou_low }}, {{ "%.1f" % row.miou_high }}]</td>
<td>{{ "%.1f" % row.fb_iou }}</td><td>{{ "%.1f" % row.fb_iou_std }}</td>
<td>{{ row.episodes }}</td><td>{{ "%.3f" % (row.parameters / 1e6) }} M</td></tr>{% endfor %}
</tbody></table></div>
{% endfor %}
<h2>What each component adds, and the methods against each other, points of mIoU</h2>
<p>Paired: both variants of a row are scored on the same resampled query images; the last column is the share of
resamples in which the first is better.</p>
<div class="wide"><table>
<thead><tr><th>variant</th><th class="text">against</th><th>shot</th><th>fold</th><th>gain</th><th>95 % interval</th>
<th>better in</th></tr></thead>
<tbody>{% for row in comparisons %}
<tr><td>{{ row.variant }}</td><td class="text">{{ row.reference }}</td><td>{{ row.shot }}</td><td>{{ row.fold }}</td>
<td>{{ "%+.1f" % row.gain }}</td><td>[{{ "%+.1f" % row.gain_low }}, {{ "%+.1f" % row.gain_high }}]</td>
<td>{{ "%.0f" % (100 * row.better) }} %</td></tr>{% endfor %}
</tbody></table></div>
<h2>Per class, IoU %</h2>
<div class="wide"><table>
<thead><tr><th>variant</th>{% for name in class_names %}<th>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for variant, values in class_rows %}
<tr><td>{{ variant }}</td>{% for value in values %}<td>{{ value }}</td>{% endfor %}</tr>{% endfor %}
</tbody></table></div>
<h2>Training</h2>
<img class="curve" alt="Loss against iterations of every training" src="{{ curves }}">
{% for heading, strips in galleries %}
<h2>{{ heading }}</h2>
{% for strip in strips %}
<h3>{{ strip.title }}</h3>
<div class="strip">{% for caption, uri in strip.pictures %}
<figure><img alt="{{ caption }}" src="{{ uri }}" loading="lazy">
<figcaption>{{ caption }}</figcaption></figure>{% endfor %}
</div>
{% endfor %}{% endfor %}
</body>
</html>
"""


def _shots(table: pd.DataFrame) -> list[tuple[int, list[dict[Hashable, Any]]]]:
    """Rows by shot; the best mIoU of each fold is marked."""
    best = table.groupby(["shot", "fold"])["miou"].transform("max") == table["miou"]
    marked = table.assign(best=best)
    return [(int(str(shot)), part.to_dict("records")) for shot, part in marked.groupby("shot")]


def _class_rows(classes: pd.DataFrame) -> tuple[list[str], list[tuple[str, list[str]]]]:
    names = list(dict.fromkeys(f"{row['class']} ({row['shot']}-shot)" for row in classes.to_dict("records")))
    rows = []
    for variant in dict.fromkeys(classes["variant"]):
        part = classes[classes["variant"] == variant]
        found = {f"{row['class']} ({row['shot']}-shot)": f"{row['iou']:.1f}" for row in part.to_dict("records")}
        rows.append((variant, [found.get(name, "–") for name in names]))
    return names, rows


def render(
    *,
    protocol: str,
    note: str,
    table: pd.DataFrame,
    classes: pd.DataFrame,
    comparisons: pd.DataFrame,
    curves: str,
    galleries: list[tuple[str, list[Strip]]],
) -> str:
    """Fill the template; text is escaped."""
    names, rows = _class_rows(classes)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(TEMPLATE).render(
        protocol=protocol,
        note=note,
        classes=list(dict.fromkeys(classes["class"])),
        shots=_shots(table),
        comparisons=comparisons.to_dict("records"),
        class_names=names,
        class_rows=rows,
        curves=curves,
        galleries=galleries,
    )
