"""The report's first screen, its glossary, and its curves, from tables with known answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from novelseg.core.numbers import fixed
from novelseg.methods.variants import NAMES
from novelseg.report import pictures
from novelseg.report.answers import NO_DIFFERENCE, answers, verdict
from novelseg.report.cards import _iou
from novelseg.report.glossary import NETWORKS, REFINEMENTS, entries, meaning


def scores(source: str = "voc", **mious: tuple[float, float]) -> pd.DataFrame:
    """A table with a score of one and of five supports per variant; each interval reaches two points to both sides."""
    rows = [
        {
            **{"source": source, "fold": "1", "shot": shot, "variant": variant.replace("_", "+"), "miou": miou},
            **{"miou_low": miou - 2, "miou_high": miou + 2, "miou_std": 0.2, "episodes": 2000},
        }
        for variant, pair in mious.items()
        for shot, miou in zip((1, 5), pair, strict=True)
    ]
    return pd.DataFrame(rows)


def gains(*rows: tuple[int, str, str, float, float]) -> pd.DataFrame:
    columns = ["shot", "variant", "reference", "gain_low", "gain_high"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(fold="1", gain=(frame["gain_low"] + frame["gain_high"]) / 2)


def classes(**ious: float) -> pd.DataFrame:
    rows = [
        {"class": name, "variant": "spfl", "shot": shot, "iou": iou, "episodes": 19 if name == "rare" else 300}
        for name, iou in ious.items()
        for shot in (1, 5)
    ]
    return pd.DataFrame(rows)


def test_the_four_questions_are_answered() -> None:
    compared = gains(
        (1, "baseline", "pretrained", 1.0, 3.0),
        (1, "spfl", "baseline", -0.5, 4.5),
        (5, "baseline", "pretrained", 8.0, 10.0),
        (5, "spfl", "baseline", 0.04, 4.0),
        (5, "spfl", "spfl-single-level", 5.0, 6.0),  # not the variant that lacks only this component
    )
    table = scores(pretrained=(30.0, 31.0), baseline=(32.0, 39.9), spfl=(35.0, 44.0))
    asked, came, where, worth = answers(table, classes(cat=50.0, bus=70.0), compared)
    assert asked.sentences == [
        "To segment 2 classes of which training has seen no mask (cat, bus) in images in VOC's layout, from 1 or 5 "
        "example images with a mask: fold 1, 2,000 episodes for each number of examples, 3 variants on the same "
        "episodes."
    ]
    assert came.sentences == [
        "With 1 support, spfl is highest: 35.0 % mIoU [33.0, 37.0]. Not settled: 1 of 2 other intervals overlap.",
        "Shown to help, each over the variant without it: baseline +2.0.",
        "No difference shown: spfl.",
        "With 5 supports, spfl is highest: 44.0 % mIoU [42.0, 46.0]. A clear lead: none of 2 other intervals overlaps.",
        "Shown to help, each over the variant without it: baseline +9.0.",
        "No difference shown: spfl.",
    ]
    assert where.sentences == [
        "Worst class: cat, 50.0 % IoU (spfl, 5 supports, 300 episodes).",
        "Largest gain: baseline over pretrained with 5 supports, +9.0 points.",
        "No row looks suspicious.",
    ]
    assert where.links == [("episodes of cat", "#episodes?episodes.class=cat&episodes.shot=5")]
    assert "Each network was trained once" in worth.sentences[0]


def test_drawings_are_said_to_be_drawings() -> None:
    table = scores("scenes", pretrained=(30.0, 31.0), spfl=(32.0, 40.0))
    *_, worth = answers(table, classes(cat=50.0), gains())
    assert "not comparable with published numbers" in worth.sentences[0]


def test_suspicious_rows_are_named() -> None:
    compared = gains(
        (1, "baseline", "pretrained", -9.0, -3.0), (1, "pretrained+self-support", "pretrained", -9.0, -3.0)
    )
    table = scores(pretrained=(30.0, 31.0), baseline=(24.0, 20.0), spfl=(40.0, 4.0))
    where = answers(table, classes(cat=50.0, rare=60.0).assign(variant="pretrained"), compared)[2]
    assert where.sentences[-1] == (
        "Suspicious: baseline is worse than pretrained with 1 support, baseline is lower with 5 supports than with 1, "
        "spfl is lower with 5 supports than with 1, spfl has 4.0 % mIoU with 5 supports and 1 more."
    )


def test_a_verdict_is_that_of_the_printed_interval() -> None:
    assert [verdict(*ends) for ends in ((0.1, 2.0), (0.04, 2.0), (-2.0, -0.04), (-2.0, -0.06), (-1.0, 1.0))] == [
        *("better", NO_DIFFERENCE, NO_DIFFERENCE, "worse", NO_DIFFERENCE)
    ]


def test_a_number_that_rounds_to_zero_has_no_sign() -> None:
    assert [fixed(value, "+.1f") for value in (-0.04, 0.0, 0.05, -0.06, 12.0)] == [
        "0.0",
        "0.0",
        "+0.1",
        "-0.1",
        "+12.0",
    ]


def test_an_iou_is_rounded_once() -> None:
    truth = np.zeros((20, 20), np.uint8)
    truth.reshape(-1)[:400] = 1
    prediction = np.zeros_like(truth)
    prediction.reshape(-1)[:29] = 1  # 7.25 %, which Python and JavaScript would round differently
    assert _iou(prediction, truth) == 7.2


def test_the_glossary_knows_every_variant() -> None:
    listed = dict(entries(list(NAMES)))
    assert set(NAMES) < set(listed)
    assert all(text.endswith(".") and len(text) > 20 for text in listed.values())
    assert len({meaning(name) for name in NAMES}) == len(NAMES)
    assert meaning("another") == ""
    used = {word for words in (NETWORKS, REFINEMENTS) for word in words}
    assert used <= {*NETWORKS, *REFINEMENTS}


def drawn_figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that are drawn from now on, instead of their pictures."""
    drawn: list[Figure] = []

    def keep(figure: Figure, **_: bool) -> bytes:
        drawn.append(figure)
        return b""

    monkeypatch.setattr(pictures, "svg", keep)
    return drawn


def test_curves_that_may_coincide_have_panels_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = drawn_figures(monkeypatch)
    log = pd.DataFrame({"iteration": [1, 2, 3], "loss": [3.0, 2.0, 1.5]})
    names = ["baseline fold 0 1-shot", "baseline fold 2 1-shot", "baseline fold 0 5-shot", "cam fold 0"]
    titles = [title for title, _ in pictures.loss_curves(dict.fromkeys(names, log))]
    assert titles == ["Loss of stage baseline", "Loss of stage cam"]
    first, second = drawn[0].axes
    assert [first.get_title(), second.get_title()] == ["1-shot", "5-shot"]
    assert [line.get_linestyle() for line in first.lines] == ["-", "--"]  # two folds
    assert len(second.lines) == 1


def test_intervals_do_not_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = drawn_figures(monkeypatch)
    pictures.intervals(scores(pretrained=(30.0, 31.0), baseline=(24.0, 20.0)))
    (axes,) = drawn[0].axes
    marked = [np.asarray(line.get_ydata(), float) for line in axes.lines if line.get_marker() in ("o", "s")]
    heights = np.concatenate(marked).tolist()
    assert len(set(heights)) == 4
    assert [label.get_text() for label in axes.get_yticklabels()] == ["pretrained", "baseline"]
