"""The pipeline as a picture, ``docs/dag.svg``, drawn from the plan."""

from __future__ import annotations

from collections.abc import Iterable

from workflow.plan import READS

WIDTH, HEIGHT, BOX_W, BOX_H = 1060, 412, 124, 44
# Column and row of each stage; that none is missing is checked when drawing.
PLACES: dict[str, tuple[float, float]] = {
    "images": (0, 1.5),
    "index": (1, 1.5),
    "hierarchies": (1, 0),
    "regions": (2, 0),
    "baseline": (2, 1.5),
    "features": (3, 0),
    "prototypes": (4, 0),
    "pseudolabels": (5, 0),
    "train": (5, 1.5),
    "cam": (2, 2.25),
    "episodes": (2, 3),
    "evaluate": (5, 3),
    "report": (6, 3),
}
NOTES = {
    "images": "encoded, counted",
    "index": "folds, protocol",
    "hierarchies": "UCM per image",
    "regions": "cut at τ",
    "baseline": "encoder F_p",
    "features": "pooled regions",
    "prototypes": "k-means, 3 levels",
    "pseudolabels": "3 maps per image",
    "train": "encoder F_s (SPFL)",
    "cam": "CAM prior (B)",
    "episodes": "lists as files",
    "evaluate": "every variant",
    "report": "tables, page",
}
# Arrows that a sentence names: drawn too, they would hide the order of the stages.
BOTH = [stage for stage in READS if stage != "report" and {"images", "index"} <= set(READS[stage])]
UNDRAWN = {("images", stage) for stage in BOTH} | {
    ("index", stage) for stage in BOTH if stage not in ("baseline", "cam")
}
SIDE_READS = {(stage, "report") for stage in READS if stage != "evaluate"}


def _centre(stage: str) -> tuple[float, float]:
    column, row = PLACES[stage]
    return 76 + column * 150, 62 + row * 92


def _arrow(read: str, stage: str) -> str:
    (x0, y0), (x1, y1) = _centre(read), _centre(stage)
    if x0 == x1:
        path = f"M{x0:g},{y0 + BOX_H / 2:g} V{y1 - BOX_H / 2 - 4:g}"
    else:
        start, end = x0 + BOX_W / 2, x1 - BOX_W / 2 - 4
        middle = (start + end) / 2
        path = f"M{start:g},{y0:g} C{middle:g},{y0:g} {middle:g},{y1:g} {end:g},{y1:g}"
    return f'<path d="{path}" class="arrow" marker-end="url(#tip)"/>'


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def legend() -> list[str]:
    """State in sentences what the picture shows, and which arrows it leaves out."""
    unread = [stage for stage in READS if stage != "report" and stage not in READS["report"]]
    return [
        f"{len(READS)} stages, from images to the report; an arrow leads from a stage to one that reads its output.",
        f"Not all arrows are drawn: {_listed(BOTH)} read both images and index; "
        f"report reads all but {_listed(unread)}.",
    ]


def _box(stage: str) -> str:
    x, y = _centre(stage)
    return (
        f'<rect x="{x - BOX_W / 2:g}" y="{y - BOX_H / 2:g}" width="{BOX_W}" height="{BOX_H}" rx="7"/>'
        f'<text x="{x:g}" y="{y - 3:g}" class="name">{stage}</text>'
        f'<text x="{x:g}" y="{y + 13:g}" class="note">{NOTES[stage]}</text>'
    )


def dag_picture() -> str:
    """Text of the SVG."""
    assert set(PLACES) == set(NOTES) == set(READS)
    edges = [(read, stage) for stage, reads in READS.items() for read in reads]
    arrows = [_arrow(*edge) for edge in edges if edge not in UNDRAWN | SIDE_READS]
    boxes = [_box(stage) for stage in READS]
    style = (
        "text{font-family:system-ui,sans-serif;text-anchor:middle;fill:#1b1f24}.name{font-size:14px;font-weight:600}"
        ".note{font-size:11px;fill:#57606a}rect{fill:#eef4ff;stroke:#3b6fd4;stroke-width:1.3}"
        ".arrow{fill:none;stroke:#57606a;stroke-width:1.4}"
    )
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#57606a"/></marker></defs>'
    )
    lines = legend()
    title = " ".join(lines)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">',
            f"<style>{style}</style>{tip}",
            f'<rect width="{WIDTH}" height="{HEIGHT}" style="fill:#fff;stroke:none"/>',
            *arrows,
            *boxes,
            *(
                f'<text x="{WIDTH / 2:g}" y="{HEIGHT - 28 + 18 * number:g}" class="note">{line}</text>'
                for number, line in enumerate(lines)
            ),
            "</svg>\n",
        ]
    )
