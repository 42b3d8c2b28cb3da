"""Many episodes at once give what one at a time gives, whatever the batch, the order and the memory (A8, A9)."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from novelseg.backbones.encoder import load_encoder
from novelseg.backbones.extraction import FeatureExtractor, groups_by_size
from novelseg.backbones.grid import AlignedGrid
from novelseg.core.errors import InputError
from novelseg.core.labels import VOID, binary
from novelseg.core.random import key_to_seed
from novelseg.data.index import read_index
from novelseg.data.store import ImageStore
from novelseg.evaluation.lists import read_cases
from novelseg.evaluation.scoring import count_many, score
from novelseg.formats import tables
from novelseg.formats.episode_results import RESULTS
from novelseg.formats.episodes import EPISODES
from novelseg.formats.study_results import STUDY_ROWS
from novelseg.methods.bank import FeatureBank, SupportBank
from novelseg.methods.contract import Case, Prediction, Refiner
from novelseg.methods.matching.predictor import MatchingPredictor
from novelseg.methods.matching.prototypes import match, match_many
from novelseg.methods.srofb.classifier import Cells, Task
from novelseg.methods.srofb.refiner import SrofbRefiner
from novelseg.methods.srofb.settings import SrofbSettings
from novelseg.methods.variants import NAMES, VARIANTS
from novelseg.ops.counts import pixel_counts
from novelseg.ops.pooling import EPSILON
from stages.params.evaluate import Params as EvaluateParams
from tests.makers import TRAINED, Project, tiny_values, write_values
from tests.test_srofb import slow_training

CPU = torch.device("cpu")
SPFL = "train/fold0/1shot/hierarchical/weights.safetensors"
MARGIN = 1e-5
GRID = AlignedGrid(8)


def srofb(**changes: Any) -> SrofbSettings:
    """The online classifier of the tiny experiment."""
    return SrofbSettings(**tiny_values(srofb=changes)["srofb"])


def held_bytes(bank: FeatureBank) -> int:
    """Memory that the bank's features really keep alive."""
    storages = {feature.untyped_storage().data_ptr(): feature.untyped_storage() for feature in bank._features.values()}
    return sum(storage.nbytes() for storage in storages.values())


def predictions(
    project: Project, cases: list[Case], refiners: Mapping[str, Refiner], budget: int = 1 << 30
) -> dict[tuple[Case, str], Prediction]:
    """All predictions of the jointly trained encoder; what is held never exceeds the budget, but for one episode."""
    index = read_index(project.path("index/index.h5"))
    net, record = load_encoder(project.path(SPFL))
    with pytest.MonkeyPatch.context() as patch, ImageStore([Path(path) for path in project.images()], index) as store:
        patch.setattr("novelseg.methods.bank.memory_budget", lambda device, asked: budget)
        bank = SupportBank(FeatureExtractor(net, "fp32", CPU), index.size, store.image, store.mask, 0)
        predictor = MatchingPredictor(bank, record.scale, refiners)
        found = []
        for block in predictor.blocks(cases, "test"):
            found += list(predictor(block, "matching"))
            assert held_bytes(bank) <= budget or len(block) == 1
    assert predictor.count == 1 + len(refiners)
    assert len(found) == len(cases) * predictor.count
    return {(made.case, made.variant): made for made in found}


def all_cases(project: Project, shots: int = 1) -> list[Case]:
    """The episodes of both seeds; with more shots, further supports are those of other episodes of the class."""
    index = read_index(project.path("index/index.h5"))
    lists = [project.path(f"episodes/fold0/1shot/seed{seed}.tsv") for seed in (0, 1)]
    cases = read_cases(lists, index, 0, 1)
    pools = {case.label: index.holds(index.validation_images(), case.label).tolist() for case in cases}
    return [
        Case(
            case.seed,
            case.episode,
            case.query,
            case.label,
            tuple(image for image in pools[case.label] if image != case.query)[:shots],
        )
        for case in cases
    ]


def slow_prediction(project: Project, case: Case, with_query: bool) -> dict[str, Tensor]:
    """One episode alone: features upsampled before they are pooled, autograd, double; (h, w) logits."""
    index, values = read_index(project.path("index/index.h5")), srofb()
    net, record = load_encoder(project.path(SPFL))
    with ImageStore([Path(path) for path in project.images()], index) as store:
        images = [store.image(image) for image in (*case.supports, case.query)]
        masks = [torch.from_numpy(binary(store.mask(image), case.label)) for image in case.supports]
    with torch.inference_mode():
        maps = [net(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)[0].double() for image in images]
    *supports, query = maps
    sides = []
    for side in (0, 1):
        pooled = []
        for features, mask in zip(supports, masks, strict=True):
            full = F.interpolate(features[None], size=tuple(mask.shape), mode="bilinear", align_corners=True)[0]
            pooled.append((full * (mask == side)).sum((1, 2)) / ((mask == side).sum() + EPSILON))
        sides.append(torch.stack(pooled).mean(0))
    logits = record.scale * torch.stack([F.cosine_similarity(query, side[:, None, None], dim=0) for side in sides])
    cells, labels = [], []
    for features, mask in zip(supports, masks, strict=True):
        at = GRID.labels_at_cells(mask, (features.shape[1], features.shape[2])).flatten()
        cells.append(features.flatten(1).T[at != VOID])
        labels.append(at[at != VOID].long())
    norms = [float(cell.norm()) for cell in torch.cat(cells)]
    factor = values.feature_norm * len(norms) / sum(norms)
    cells, query = [factor * part for part in cells], factor * query
    if with_query:
        confidence = logits.softmax(0).flatten(1)
        chosen = torch.zeros(confidence.shape[1], dtype=torch.long)
        for side, tau in ((0, values.tau_bg), (1, values.tau_fg)):
            passed = confidence[side] > tau
            if not passed.any():
                passed[confidence[side].argsort(descending=True)[: values.fallback_cells]] = True
            chosen[passed] = side + 1
        cells.append(query.flatten(1).T[chosen > 0])
        labels.append(chosen[chosen > 0] - 1)
    task = Task(
        Cells(torch.cat(cells).float(), torch.cat(labels), torch.ones(len(torch.cat(labels)), dtype=torch.long)),
        query.float(),
        key_to_seed(values.seed, "srofb", case.seed, case.episode),
    )
    steps = values.steps_one_shot if len(case.supports) == 1 else values.steps_many_shots
    return {"matching": logits[1] - logits[0], "srofb": slow_training(task, steps, values)}


@pytest.mark.parametrize(("shots", "with_query"), [(1, True), (1, False), (3, True)])
def test_fast_evaluation_is_the_plain_one(project: Project, shots: int, with_query: bool) -> None:
    cases = all_cases(project, shots)[:4]
    found = predictions(project, cases, {"srofb": SrofbRefiner(srofb(), with_query=with_query)})
    for case in cases:
        for name, logits in slow_prediction(project, case, with_query).items():
            assert float((found[case, name].logits - logits).abs().max()) < 1e-4 * float(logits.abs().max()), name


def test_no_prediction_depends_on_the_batch_or_the_order(project: Project) -> None:
    cases = all_cases(project)

    def refiners(batch: int) -> dict[str, Refiner]:
        return {
            "alone": SrofbRefiner(srofb(), with_query=False, batch=batch),
            "refined": SrofbRefiner(srofb(), with_query=True, batch=batch),
        }

    expected = predictions(project, cases, refiners(1))
    shuffled = random.Random(0).sample(cases, len(cases))
    near = 0
    image = 9 * 9 * 64 * 4  # bytes that the bank reckons for one
    for batch, budget in ((7, 1 << 30), (32, 1 << 30), (7, 5 * image), (1, 1)):
        for key, made in predictions(project, shuffled, refiners(batch), budget).items():
            size = 64, 64
            one, other = (
                F.interpolate(logits[None, None], size=size, mode="bilinear", align_corners=True)[0, 0]
                for logits in (expected[key].logits, made.logits)
            )
            differing = (one > 0) != (other > 0)
            assert bool((one[differing].abs() < MARGIN).all())  # only where nothing is decided
            near += int(differing.sum())
    assert near <= 4


def test_matching_many_prototypes_is_matching_each(rng: np.random.Generator) -> None:
    query = torch.from_numpy(rng.normal(size=(8, 5, 6))).float()
    prototypes = torch.from_numpy(rng.normal(size=(3, 2, 8))).float()
    expected = torch.cat([match(query[None], pair[None], 10.0) for pair in prototypes])
    assert torch.allclose(match_many(query, prototypes, 10.0), expected, atol=1e-5)


def test_counting_many_is_counting_each(rng: np.random.Generator) -> None:
    logits = torch.from_numpy(rng.normal(size=(3, 4, 5))).float()
    masks = torch.from_numpy(rng.choice([0, 1, VOID], size=(3, 13, 17))).to(torch.uint8)
    shown = F.interpolate(logits[:, None], size=(13, 17), mode="bilinear", align_corners=True)[:, 0] > 0
    for row, counts in enumerate(count_many(logits, masks, GRID).tolist()):
        assert tuple(counts) == pixel_counts(shown[row].numpy().astype(np.uint8), masks[row].numpy())


def test_scoring_tells_the_classes_of_an_image_apart() -> None:
    truth = np.array([[1, 2], [0, VOID]], np.uint8)
    made = [Prediction(Case(0, n, 0, label, (1,)), "x", torch.ones((2, 2)), GRID) for n, label in enumerate((1, 2, 1))]
    assert score(made, truth).tolist() == [[1, 3, 0, 2]] * 3
    upper = Prediction(Case(0, 0, 0, 2, (1,)), "x", torch.tensor([[-1.0, 1.0], [-1.0, -1.0]]), GRID)
    assert score([upper], truth).tolist() == [[1, 1, 2, 2]]


def test_images_of_one_size_are_grouped() -> None:
    sizes = [(3, 4), (4, 3), (3, 4), (3, 4)]
    assert groups_by_size(sizes, 2, 1000) == [[0, 2], [3], [1]]
    assert groups_by_size(sizes, 4, 24) == [[0, 2], [3], [1]]  # two of twelve pixels each
    assert groups_by_size(sizes, 4, 1) == [[0], [2], [3], [1]]


def study(project: Project, out: Path, *words: object) -> int:
    """The tool `studies` on the tiny experiment."""
    return project.run("studies", *project.data(), "--encoder", project.path(SPFL), "--fold", 0, "--out", out, *words)


def test_a_study_of_supports_shows_one_set_of_episodes_with_more_and_more(project: Project, tmp_path: Path) -> None:
    assert study(project, tmp_path / "out", "--study", "supports", "--grid", "1 3", "--episodes", 5) == 0
    rows = tables.read(tmp_path / "out/rows.parquet", STUDY_ROWS)
    assert rows.groupby(["setting", "variant"]).size().to_dict() == {
        (k, variant): 5 for k in ("1", "3") for variant in ("matching", "srofb")
    }
    queries = rows.groupby(["setting", "variant"])["query"].apply(list)
    assert all(part == queries.iloc[0] for part in queries)
    assert {len(names.split()) for names in tables.read(tmp_path / "out/episodes.tsv", EPISODES)["supports"]} == {3}
    about = json.loads((tmp_path / "out/about.json").read_text())
    assert about["classes"]
    assert about["grid"] == [1, 3]


def test_a_study_of_thresholds_has_every_pair(project: Project, tmp_path: Path) -> None:
    assert study(project, tmp_path / "out", "--study", "thresholds", "--grid", "0.5 0.9", "--episodes", 4) == 0
    rows = tables.read(tmp_path / "out/rows.parquet", STUDY_ROWS)
    assert sorted(rows["setting"].unique()) == ["0.5/0.5", "0.5/0.9", "0.9/0.5", "0.9/0.9", "none"]
    assert set(rows.loc[rows["setting"] == "none", "variant"]) == {"matching"}
    # The pair of the parameters is what `evaluate` would say.
    again = srofb(tau_fg=0.9, tau_bg=0.5)
    index = read_index(project.path("index/index.h5"))
    listed = tables.read(tmp_path / "out/episodes.tsv", EPISODES)
    numbers = {name: number for number, name in enumerate(index.ids)}
    cases = [
        Case(0, int(e), numbers[q], int(c), tuple(numbers[name] for name in s.split()))
        for e, q, c, s in listed.itertuples(index=False)
    ]
    found = predictions(project, cases, {"srofb": SrofbRefiner(again, with_query=True)})
    with ImageStore([Path(path) for path in project.images()], index) as store:
        expected = [score([found[case, "srofb"]], store.mask(case.query))[0].tolist() for case in cases]
    counts = rows[rows["setting"] == "0.9/0.5"].sort_values("episode")
    assert counts.iloc[:, -4:].to_numpy().tolist() == expected


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--study", "supports", "--grid", "1 1"], "expected numbers of supports from 1 to 100, each only once"),
        (["--study", "supports", "--grid", "many"], "--grid is 'many'"),
        (["--study", "thresholds", "--grid", "0.5 1.5"], "expected thresholds from 0 to 1"),
        (["--study", "supports", "--grid", "1.5 2"], "expected numbers of supports from 1 to 100"),
        (["--study", "supports", "--grid", "1", "--episodes", "0"], "expected both to be at least 1"),
        (["--study", "supports", "--grid", "1", "--batch", "-3"], "--batch is -3; expected a number of episodes"),
        (["--study", "supports", "--grid", "1", "--memory-mb", "-5"], "--memory-mb is -5; expected a size in MiB"),
        (["--study", "supports", "--grid", "99"], "no novel class has 100 usable validation images"),
    ],
)
def test_a_study_that_cannot_be(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert study(project, tmp_path / "out", *words) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unknown_study_is_refused_with_the_known_ones(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        study(project, tmp_path / "out", "--study", "colours", "--grid", "1")
    assert stopped.value.code == 2
    assert re.search(r"invalid choice: 'colours' \(choose from '?supports'?, '?thresholds'?\)", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_pictures_of_studies_show_every_setting(project: Project, tmp_path: Path) -> None:
    from novelseg.report.studies import PICTURES, curve

    for name, grid, settings in (("supports", "1 2", 2), ("thresholds", "0.5 0.9", 5)):
        assert study(project, tmp_path / name, "--study", name, "--grid", grid, "--episodes", 6) == 0
        rows = tables.read(tmp_path / name / "rows.parquet", STUDY_ROWS)
        table = curve({0: rows, 1: rows})
        assert table["setting"].nunique() == settings
        assert bool((table["miou_low"] <= table["miou_high"]).all())
        one = rows[(rows["setting"] == table["setting"][0]) & (rows["variant"] == table["variant"][0])]
        by_class = one.groupby("class")[["fg_intersection", "fg_union"]].sum()
        mean = 100 * (by_class["fg_intersection"] / by_class["fg_union"]).mean()
        assert table["miou"][0] == pytest.approx(mean)
        assert PICTURES[name](table, "title").startswith(b"<?xml")
        pd.testing.assert_frame_equal(table, curve({0: rows, 1: rows}))


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("seed0.tsv", {"class": 1}, "episode 0 has class 1, which is not novel in fold 0"),
        ("seed0.tsv", {"supports": "a b"}, "image 'a' is not in the index"),
        ("seed0.tsv", {"supports": None}, "episode 0 has 2 supports, not 1; give the lists of this shot"),
        ("episodes.tsv", {}, "expected a list that `episodes` wrote, named seed<n>.tsv"),
        ("seed.tsv", {}, "expected a list that `episodes` wrote, named seed<n>.tsv"),
    ],
)
def test_lists_of_another_fold_or_shot_are_refused(
    project: Project, tmp_path: Path, name: str, change: dict[str, Any], told: str
) -> None:
    index = read_index(project.path("index/index.h5"))
    frame = tables.read(project.path("episodes/fold0/1shot/seed0.tsv"), EPISODES)
    base = int(index.base(0)[0])
    for column, value in change.items():
        frame[column] = {"class": base, "supports": value or frame["supports"] + " " + frame["supports"]}[column]
    frame.to_csv(tmp_path / name, sep="\t", index=False)
    with pytest.raises(InputError, match=re.escape(told.replace("class 1", f"class {base}"))):
        read_cases([tmp_path / name], index, 0, 1)


def test_every_refinement_that_can_be_asked_for_is_known() -> None:
    values = tiny_values()["evaluate"]
    refined = tuple(variant.name for variant in VARIANTS if variant.refiner)
    assert tuple(EvaluateParams.model_json_schema()["properties"]["refinements"]["items"]["enum"]) == refined
    assert EvaluateParams.model_validate({**values, "refinements": list(refined)}).refinements == list(refined)
    for unknown in ("spfl", "srofb"):
        with pytest.raises(ValidationError, match=f"'{unknown}' is not known"):
            EvaluateParams.model_validate({**values, "refinements": [unknown]})
    pairs = [(variant.name, reference) for variant in VARIANTS for reference in variant.compared_with]
    assert {name for pair in pairs for name in pair} == set(NAMES)  # each is compared with another


@pytest.mark.parametrize(
    ("refinements", "cam"),
    [
        ([], True),
        (["spfl+srofb"], True),
        (["spfl+srofb-support-only", "spfl+srofb"], False),
        (["pretrained+self-support", "spfl+self-support"], False),
    ],
)
def test_what_is_left_out_changes_no_other_row(
    project: Project, tmp_path: Path, refinements: list[str], cam: bool
) -> None:
    values = tiny_values(evaluate={"refinements": refinements})
    here = Project(write_values(tmp_path / "params.yaml", values).parent, project.weights)
    words = project.evaluate_words(tmp_path / "out")
    place = words.index("--cam")
    assert here.run("evaluate", *(words if cam else words[:place] + words[place + 2 :])) == 0
    found = tables.read(tmp_path / "out/rows.parquet", RESULTS)
    assert set(found["variant"]) == {"pretrained", "baseline", "spfl", *refinements, *(["cam-map-only", "cam"] * cam)}
    whole = tables.read(project.path("evaluate/fold0/1shot/rows.parquet"), RESULTS)
    assert found.equals(whole[whole["variant"].isin(found["variant"])].reset_index(drop=True))
    report = [*project.data(), *project.shown_words(), "--trainings", project.path(TRAINED["baseline"])]
    assert here.run("report", *report, "--evaluations", tmp_path / "out", "--out", tmp_path / "report") == 0
    page = (tmp_path / "report/index.html").read_text()
    assert ("confident query cells" in page) == ("spfl+srofb" in refinements)
    assert f'data-worst="{"spfl+srofb" if "spfl+srofb" in refinements else "spfl"}"' in page
