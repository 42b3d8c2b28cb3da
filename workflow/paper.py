"""``python -m workflow paper NAME``: a table or figure of the papers from the present experiment, with their numbers.

Files are written to ``report/paper/``. What the experiment cannot show is said in the file.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from novelseg.core.errors import InputError, nearest
from novelseg.core.files import whole_file
from novelseg.core.numbers import fixed
from novelseg.evaluation.comparisons import MEAN
from novelseg.formats import tables
from novelseg.formats.protocol import caution
from novelseg.formats.results import SCORES
from workflow.config import Config, load
from workflow.published import DATASETS, FILE, NOTE
from workflow.study import FOLDER as STUDIES
from workflow.study import study

REPORT = Path("report")
OUT = REPORT / "paper"
PROTOCOL = ("source", "train_list", "val_list", "novel_images", "folds", "min_object_pixels", "resolution", "weights")
FOLDS = 4
FOLD_COLUMNS = tuple(f"fold {number}" for number in range(FOLDS))
MISSING = "–"


@dataclass(frozen=True)
class Line:
    """A row of a table of a paper: its method there, and the variant that has the same parts here; empty for none."""

    method: str
    variant: str = ""


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper.

    Attributes
    ----------
    title
        What it compares.
    table
        Paper and number, as in ``published.tsv``.
    dataset
        Data set of the paper's numbers.
    lines
        Rows that this project has too; further published rows follow them.
    shots
        Numbers of supports.
    metric
        ``miou`` or ``fb_iou``.
    """

    title: str
    table: tuple[str, str]
    dataset: str
    lines: tuple[Line, ...]
    shots: tuple[int, ...]
    metric: str = "miou"


@dataclass(frozen=True)
class PaperFigure:
    """A figure of a paper: what it shows, and the function that draws it and returns remarks."""

    title: str
    draw: Callable[[Config, Path, list[str]], list[str]]


def _table_v(config: Config) -> tuple[Line, ...]:
    gamma = ", ".join(f"{value:g}" for value in config.values("train")["gamma"])
    return (Line(f"γ = {gamma}", "spfl+srofb"),)


METHOD_A = (Line("the paper's method", "spfl+srofb"),)
TABLES = {
    "A-I": PaperTable(
        "Comparison on PASCAL-5i", ("A", "I"), "PASCAL-5i", (Line("the paper's method", "spfl+srofb"),), (1, 5)
    ),
    "A-II": PaperTable(
        "Comparison on COCO-20i", ("A", "II"), "COCO-20i", (Line("the paper's method", "spfl+srofb"),), (1, 5)
    ),
    "A-III": PaperTable(
        "Effect of each component",
        ("A", "III"),
        "PASCAL-5i",
        (
            Line("Baseline", "baseline"),
            Line("single-level SPFL", "spfl-single-level"),
            Line("SPFL", "spfl"),
            Line("SPFL + SROFB", "spfl+srofb"),
        ),
        (1,),
    ),
    "A-IV": PaperTable(
        "Effect of self-refining",
        ("A", "IV"),
        "PASCAL-5i",
        (Line("SROFB without the query", "spfl+srofb-support-only"), Line("SROFB with the query", "spfl+srofb")),
        (1,),
    ),
    "A-V": PaperTable("Weights γ of the levels", ("A", "V"), "PASCAL-5i", (), (1,)),
    "B-II": PaperTable(
        "Comparison by FB-IoU", ("B", "II"), "PASCAL-5i", (Line("the paper's method", "cam"),), (1, 5), "fb_iou"
    ),
}


# ---- figures


def _cards(config: Config, kind: str) -> list[dict[str, Any]]:
    """Return the cards of the report's browser of episodes or pseudo labels."""
    from novelseg.data.index import read_index
    from novelseg.data.store import ImageStore
    from novelseg.evaluation.comparisons import read_evaluations
    from novelseg.report.cards import episodes_browser, group_by_fold, labels_browser

    targets, params = config.targets, config.values("report")
    paths = {stage: [Path(path) for path in targets.of(stage)] for stage in ("images", "regions", "features")}
    paths |= {stage: [Path(path) for path in targets.of(stage)] for stage in ("prototypes", "pseudolabels")}
    data = read_index(Path(*targets.of("index")))
    with ImageStore(paths["images"], data) as store:
        if kind == "episodes":
            results = read_evaluations([Path(folder) for folder in targets.evaluations()])
            return episodes_browser(data, store, results, params["episodes"]).items
        files = group_by_fold(paths["prototypes"], paths["features"], paths["pseudolabels"], paths["regions"])
        return labels_browser(data, store, paths["regions"], files, params["images"]).items


def _draw_cards(path: Path, cards: list[dict[str, Any]], captions: list[str], wanted: str) -> None:
    """Draw the first cards that have all views as one picture.

    Raises
    ------
    InputError
        If none has the view ``wanted``.
    """
    from novelseg.report.sheet import sheet, views_of

    rows = [(card["title"], views_of(card, captions)) for card in cards]
    rows = [(title, views) for title, views in rows if any(caption.startswith(wanted) for caption, *_ in views)]
    if not rows:
        raise InputError(f"no stored episode shows '{wanted}'; {REMEDIES.get(wanted, 'run the pipeline first')}")
    with whole_file(path.with_suffix(".png")) as scratch:
        scratch.write_bytes(sheet(rows[:8]))


CONFIDENT = "confident query cells"
PRIOR = "activation map of the class"
REMEDIES = {
    CONFIDENT: "name spfl+srofb in evaluate.refinements, and evaluate again",
    PRIOR: "set plan.cam to true (the preset demo-cam has it), and run the pipeline",
    "spfl+srofb": "name it in evaluate.refinements, and evaluate again",
}


def _pseudo_labels(config: Config, path: Path, _: list[str]) -> list[str]:
    clusters = config.values("prototypes")["clusters"]
    cards = _cards(config, "labels")
    for card in cards:
        for view in card["views"]:
            view["caption"] = "regions" if view["caption"].endswith(" regions") else view["caption"]
    levels = [f"level {number} (K = {k})" for number, k in enumerate(clusters, 1)]
    _draw_cards(path, cards, ["image", "regions", *levels], "level 1")
    return [
        "MLC, the other column of the paper's figure, is not part of this project. Colours are random per prototype."
    ]


def _segmentations(config: Config, path: Path, _: list[str]) -> list[str]:
    captions = ["support", "ground truth", "baseline", "spfl", "spfl+srofb"]
    _draw_cards(path, _cards(config, "episodes"), captions, "spfl+srofb")
    return ["Above each prediction, its IoU in the episode. MLC is not part of this project."]


def _confident(config: Config, path: Path, _: list[str]) -> list[str]:
    cards = _cards(config, "episodes")
    for card in cards:
        for view in card["views"]:
            view["caption"] = CONFIDENT if view["caption"].startswith(CONFIDENT) else view["caption"]
    captions = ["support", "ground truth", "spfl+srofb-support-only", CONFIDENT, "spfl+srofb"]
    _draw_cards(path, cards, captions, CONFIDENT)
    return [
        "Confident cells: red object, blue background. Left of them the classifier without the query, right with it."
    ]


def _activation_maps(config: Config, path: Path, _: list[str]) -> list[str]:
    cards = _cards(config, "episodes")
    for card in cards:
        for view in card["views"]:
            view["caption"] = PRIOR if view["caption"].startswith(PRIOR) else view["caption"]
    _draw_cards(path, cards, ["query", "ground truth", PRIOR, "cam-map-only", "cam"], PRIOR)
    return ["Activation maps of classes that training has not seen: dark 0, yellow 1."]


def _study(name: str) -> Callable[[Config, Path, list[str]], list[str]]:
    def draw(config: Config, path: Path, words: list[str]) -> list[str]:
        printed = study(name, None, words)
        for suffix in (".tsv", ".svg"):
            shutil.copyfile(STUDIES / name / f"curve{suffix}", path.with_suffix(suffix))
        shots = config.values("plan")["shots"]
        remarks = ["The paper gives a curve and no numbers.", "```", printed, "```"]
        if name == "supports" and max(shots) != 5:
            remarks.insert(0, f"Encoders here were trained with {max(shots)} support(s), those of the paper with 5.")
        return remarks

    return draw


FIGURES = {
    "A-4": PaperFigure("Pseudo labels at three levels", _pseudo_labels),
    "A-5": PaperFigure("Segmentations of Baseline, SPFL and SROFB", _segmentations),
    "A-6": PaperFigure("Confident query pixels of SROFB", _confident),
    "A-7": PaperFigure("Thresholds of SROFB", _study("thresholds")),
    "A-8": PaperFigure("mIoU against the number of supports", _study("supports")),
    "B-2": PaperFigure("Activation maps of unseen classes", _activation_maps),
}
NAMES = (*TABLES, *FIGURES)
STUDIED = ("A-7", "A-8")  # figures that run a study


# ---- tables


def _published(table: PaperTable, backbone: str) -> list[dict[str, str]]:
    with FILE.open(encoding="utf8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [row for row in rows if (row["paper"], row["table"]) == table.table and row["backbone"] in ("", backbone)]


def _own(scores: pd.DataFrame, line: Line, shot: int, metric: str) -> dict[str, str]:
    """Return our cells of a row: score per fold, and the mean with its interval, over all folds or the only one."""
    part = scores[(scores["variant"] == line.variant) & (scores["shot"] == shot)]
    by_fold = {row["fold"]: row for row in part.to_dict("records")}
    numbers = {name: by_fold.get(name.removeprefix("fold ")) for name in FOLD_COLUMNS}
    cells = {name: fixed(row[metric]) if row else MISSING for name, row in numbers.items()}
    mean = by_fold.get(MEAN)
    cells["mean"] = MISSING
    if mean and metric == "miou":
        cells["mean"] = f"{fixed(mean['miou'])} [{fixed(mean['miou_low'])}, {fixed(mean['miou_high'])}]"
    elif mean:
        cells["mean"] = f"{fixed(mean[metric])} ± {fixed(mean['fb_iou_std'])}"
    elif len(by_fold) == 1:
        (row,) = by_fold.values()
        interval = f"[{fixed(row['miou_low'])}, {fixed(row['miou_high'])}]"  # of the mIoU; FB-IoU has a deviation
        spread = interval if metric == "miou" else f"± {fixed(row['fb_iou_std'])}"
        cells["mean"] = f"(fold {row['fold']} only) {spread}"
    return cells


def _rows(table: PaperTable, scores: pd.DataFrame, backbone: str) -> list[dict[str, str]]:
    published = _published(table, backbone)
    rows = []
    for shot in table.shots:
        theirs = {row["method"]: row for row in published if row["shots"] == str(shot)}
        for line in table.lines:
            row, own = theirs.pop(line.method, {}), _own(scores, line, shot, table.metric)
            rows.append({"method": line.method, "ours": line.variant, "shots": str(shot), **own, **_theirs(row)})
        blank = dict.fromkeys([*FOLD_COLUMNS, "mean"], "")
        for method, row in theirs.items():
            rows.append({"method": method, "ours": "", "shots": str(shot), **blank, **_theirs(row)})
    return rows


def _theirs(row: dict[str, str]) -> dict[str, str]:
    """Return the paper's cells of a row."""
    return {f"paper, {name}": row.get(name.replace(" ", ""), "") or MISSING for name in (*FOLD_COLUMNS, "mean")}


def _remarks(table: PaperTable, scores: pd.DataFrame) -> list[str]:
    """Return what the experiment cannot show."""
    protocol = str(scores["protocol"].iloc[0])
    dataset = next((name for start, name in DATASETS.items() if protocol.startswith(start)), "")
    remarks = []
    if dataset != table.dataset:
        remarks.append(
            f"The paper's numbers are of {table.dataset} with an ImageNet ResNet; ours are of '{protocol}'. They stand "
            "side by side and cannot be compared."
        )
    present = set(zip(scores["variant"], scores["shot"], strict=True))
    absent = [
        f"{line.variant} with {shot}"
        for line in table.lines
        for shot in table.shots
        if (line.variant, shot) not in present
    ]
    if absent:
        remarks.append(f"Not in this experiment: {', '.join(absent)} support(s); see plan and evaluate in params.yaml.")
    folds = sorted({fold for fold in scores["fold"] if fold != MEAN})
    if len(folds) < FOLDS:
        remarks.append(f"Only fold {', '.join(folds)} of four: the paper's mean has no counterpart.")
    if table.table == ("A", "V"):
        remarks.append(
            'Each γ is a training of its own (docs/studies.md, "Level weights"); run this command after each: rows of '
            "earlier values are kept while the rest of the protocol is the same."
        )
    return [*remarks, *filter(None, [caution(str(scores["source"].iloc[0]))]), NOTE.replace("\n", " ")]


def _scores() -> pd.DataFrame:
    return tables.read(REPORT / "results.tsv", SCORES)


def _protocol_lines(scores: pd.DataFrame) -> list[str]:
    first = scores.iloc[0]
    counted = scores[scores["fold"] != MEAN].groupby("shot")[["episodes", "seeds"]].first()
    episodes = [
        f"{shot}-shot: {row.episodes} episodes per fold, {row.seeds} seed(s)" for shot, row in counted.iterrows()
    ]
    return [f"* {name}: {first[name]}" for name in PROTOCOL] + [f"* {text}" for text in episodes]


def _write(path: Path, text: str) -> None:
    with whole_file(path) as scratch:
        scratch.write_text(text, encoding="utf8")


def _with_earlier(rows: list[dict[str, str]], path: Path, key: str) -> list[dict[str, str]]:
    """Add our cells of earlier trainings, which the file at ``path`` has, if the protocol is the same."""
    if not path.exists():
        return rows
    with path.open(encoding="utf8", newline="") as file:
        stored = [row for row in csv.DictReader(file, delimiter="\t") if row.pop("protocol", "") == key]
    earlier = {row["method"]: row for row in stored if row["ours"] and row.keys() == rows[0].keys()}
    filled = [row if row["ours"] else earlier.get(row["method"], row) for row in rows]
    known = {row["method"] for row in rows}
    return [*filled, *(row for method, row in earlier.items() if method not in known)]


def _table(name: str, config: Config) -> list[Path]:
    table = TABLES[name]
    scores = _scores()
    if table.table == ("A", "V"):
        table = PaperTable(table.title, table.table, table.dataset, _table_v(config), table.shots)
    backbone = "ResNet-101" if config.values("encoder")["arch"] == "resnet101" else "ResNet-50"
    rows = _rows(table, scores, backbone)
    key = " ".join(str(scores.iloc[0][column]) for column in ("protocol", *PROTOCOL))
    target = OUT / f"{name}.tsv"
    if table.table == ("A", "V"):
        rows = _with_earlier(rows, target, key)
    columns = list(rows[0])
    with whole_file(target) as scratch, scratch.open("w", encoding="utf8", newline="") as file:
        writer = csv.DictWriter(file, [*columns, "protocol"], delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "protocol": key} for row in rows)
    metric = "mIoU, %" if table.metric == "miou" else "FB-IoU, %"
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(row[column] for column in columns) + " |" for row in rows]
    spread = "95 % interval" if table.metric == "miou" else "deviation over seeds"
    head = [f"{metric}; ours per fold, and the mean with its {spread}; beside them the paper's ({backbone}).", ""]
    page = _page(name, table.title, scores, [*head, *lines, "", *(f"* {text}" for text in _remarks(table, scores))])
    return [page, target]


def _figure(name: str, config: Config, words: list[str]) -> list[Path]:
    figure = FIGURES[name]
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / name
    remarks = figure.draw(config, path, words)
    pictures = [file for file in sorted(OUT.glob(f"{name}.*")) if file.suffix in (".png", ".svg")]
    scores = _scores()
    body = [*(f"![{figure.title}]({picture.name})" for picture in pictures), "", *remarks]
    body += filter(None, ["", caution(str(scores["source"].iloc[0]))])
    files = [file for file in sorted(OUT.glob(f"{name}.*")) if file.suffix != ".md"]
    return [_page(name, figure.title, scores, body), *files]


def _page(name: str, title: str, scores: pd.DataFrame, body: list[str]) -> Path:
    paper, _, number = name.partition("-")
    kind = "Table" if name in TABLES else "Figure"
    path = OUT / f"{name}.md"
    lines = [f"# {kind} {number} of paper {paper}: {title}", ""]
    lines += [f"Written by `python -m workflow paper {name}`. Protocol: {scores['protocol'].iloc[0]}", ""]
    _write(path, "\n".join([*lines, *_protocol_lines(scores), "", *body]) + "\n")
    return path


def overview() -> str:
    """Return the list of tables and figures, each with its command."""
    titles = {**{name: table.title for name, table in TABLES.items()}, **{n: f.title for n, f in FIGURES.items()}}
    more = dict.fromkeys(STUDIED, "; further options go to the study")
    lines = (f"python -m workflow paper {name:<6} {title}{more.get(name, '')}" for name, title in titles.items())
    return "\n".join(lines)


def paper(name: str, words: list[str]) -> str:
    """Write a table or figure and return the paths of its files.

    Raises
    ------
    InputError
        If there is no such table or figure, the pipeline has not run, or nothing of it can be shown.
    """
    if name not in NAMES:
        raise InputError(f"there is no '{name}'; {nearest(name, NAMES)}\n{overview()}")
    if words and name not in STUDIED:
        raise InputError(f"{name} takes no options; '{words[0]}' is one of `python -m stages studies`")
    if not (REPORT / "results.tsv").exists():
        raise InputError(f"{REPORT / 'results.tsv'}: no such file; run the pipeline first (`python -m workflow run`)")
    config = load()
    files = _table(name, config) if name in TABLES else _figure(name, config, words)
    return "\n".join(map(str, files))
