"""Parameters: one home each, everything else refused with section, key, value, range and the nearest known key."""

from __future__ import annotations

import copy
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from novelseg.core.dialect import parse_yaml
from novelseg.core.errors import InputError
from novelseg.core.settings import Range, limits, meanings, types_of
from novelseg.methods.closed_form.settings import ClosedFormSettings
from novelseg.methods.refiners import SETTINGS
from stages.params import prototypes
from stages.params.images import MOST_SHARDS
from stages.params.schema import check_section, describe, load_sections, read_yaml, section_of
from tests.makers import tiny_values, write_values
from workflow import presets
from workflow.config import check, load
from workflow.plan import Targets

CASES: list[tuple[str, Any, str]] = [
    ("train.itertions", 5, "unknown key 'itertions' in section 'train'; did you mean 'iterations'"),
    ("train.iterations", 0, "train.iterations is 0; expected integer ≥ 1"),
    ("train.iterations", 1.5, "train.iterations is 1.5; expected integer ≥ 1"),
    ("train.iterations", "many", "train.iterations is 'many'; expected integer ≥ 1"),
    ("train.iterations", True, "train.iterations is True; expected integer ≥ 1"),
    ("train.gamma", [1.0, 1.0], "train.gamma is [1.0, 1.0]; expected list of 3 (number ≥ 0)"),
    ("train.gamma", [1.0, -1.0, 0.0], "train.gamma[1] is -1.0; expected list of 3 (number ≥ 0)"),
    ("baseline.momentum", 1.0, "baseline.momentum is 1.0; expected number ≥ 0 and < 1"),
    ("baseline.learning_rate", "1e-3", "baseline.learning_rate is '1e-3'; expected number > 0"),
    ("encoder.arch", "resnet19", "encoder.arch is 'resnet19'; expected one of resnet18, resnet34, resnet50, resnet101"),
    ("encoder.train", "some", "encoder.train is 'some'; expected one of all, none or integer ≥ 1"),
    ("encoder.train", 0, "encoder.train is 0; expected one of all, none or integer ≥ 1"),
    ("encoder.train", 5, "train is 5; expected all, none or at most the 4 parts of resnet18"),
    ("train.optimiser", "adam", "train.optimiser is 'adam'; expected one of sgd, adamw"),
    ("prototypes.clusters", [4, 9, 2], "clusters is [4, 9, 2]; expected numbers that do not grow from fine to"),
    ("plan.folds", [4], "plan.folds names fold 4; expected 0…3, since index.folds is 4"),
    ("index.held_out", 0, "index.held_out is 0; expected −1, or one of 0…3 that is not in plan.folds"),
    ("index.held_out", 4, "index.held_out is 4; expected −1"),
    ("plan.folds", [], "plan.folds is []; expected list of 1 or more (integer ≥ 0)"),
    ("plan.seeds", [1, 1], "seeds is [1, 1]; expected each entry once"),
    ("evaluate.refinements", ["spfl+srofb"] * 2, "expected each entry once"),
    ("plan.training_variants", ["single-level"], "expected 'hierarchical' among them"),
    ("images.source", "voc", "images.root is empty; expected the folder that holds the voc data"),
    ("images.shards", 100, "images.shards is 100; expected at most the 44 pictures of scenes"),
    ("hierarchies.method", "mcg", "hierarchies.method is 'mcg'; expected one of ucm, felzenszwalb, slic, precomputed"),
    ("hierarchies.method", "precomputed", "hierarchies.maps is empty; the method precomputed needs it"),
    ("hierarchies.weights", "", "hierarchies.weights is empty; the method ucm needs it"),
    ("augmentation.scales", [2.0, 0.5], "scales is [2.0, 0.5]; expected the lower end first"),
    ("augmentation.hue", 0.6, "augmentation.hue is 0.6; expected number ≥ 0 and ≤ 0.5"),
    ("augmentation.cutout_area", [0.1, 1.1], "augmentation.cutout_area[1] is 1.1; expected list of 2"),
    ("self_support.weight", -0.1, "self_support.weight is -0.1; expected number ≥ 0 and ≤ 1"),
    ("self_suport.weight", 0.5, "unknown section 'self_suport'; did you mean 'self_support'"),
    ("trian.iterations", 5, "unknown section 'trian'; did you mean 'train'"),
]


def changed(place: str, value: object) -> dict[str, dict[str, Any]]:
    """The tiny values with one entry changed or added."""
    section, key = place.split(".")
    values = copy.deepcopy(tiny_values())
    values.setdefault(section, {})[key] = value
    return values


@pytest.mark.parametrize(("place", "value", "sentence"), CASES, ids=[f"{place}={value}" for place, value, _ in CASES])
def test_a_mistake_is_told_in_one_sentence(place: str, value: object, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        check(changed(place, value), Path("params.yaml"))
    assert str(caught.value).startswith("params.yaml: ")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_key_and_a_missing_section_are_named() -> None:
    values = tiny_values()
    del values["srofb"]["tau_fg"]
    with pytest.raises(InputError, match=r"srofb.tau_fg is missing; expected number ≥ 0 and ≤ 1"):
        check(values, Path("p"))
    del values["srofb"]
    with pytest.raises(InputError, match="section 'srofb' is missing"):
        check(values, Path("p"))


def test_a_stage_reads_only_its_own_section(tmp_path: Path) -> None:
    values = changed("train.itertions", 5)  # another stage's mistake
    path = write_values(tmp_path / "params.yaml", values)
    assert load_sections(path, {"prototypes": prototypes.Params})
    with pytest.raises(InputError, match="itertions"):
        load(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: {b: 1\n", "not valid YAML"),
        ("\ta: 1\n", "not valid YAML: line 1: while scanning for the next token found character that cannot start"),
        ("a: \x07\n", "not valid YAML: unacceptable character"),
        (f"a: {'[' * 90_000}", "nested more than 40 levels deep"),  # the reader in C would end the process
        ("a: !!python/object:os.system x\n", "not valid YAML: line 1: could not determine a constructor"),
        ("a: !!int x\n", "not valid YAML: invalid literal"),
        ("- 1\n", "expected sections with keys, found list"),
        ("train: {seed: 1, seed: 2}\n", "key 'seed' is written twice"),
        ("train: 5\n", "section 'train' is 5; expected keys with values"),
    ],
)
def test_a_file_that_is_no_parameter_file_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=sentence):
        check({**tiny_values(), **read_yaml(path)}, path)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        *(("0500", 500), ("0o17", 15), ("1e-05", 1e-05), ("2e-05", 2e-05), ("1e5", 1e5), ("1_000", 1000)),
        *(("8:20", "8:20"), ("no", "no"), ("on", "on"), ("~", None), ("2001-01-01", date(2001, 1, 1))),
    ],
)
def test_one_dialect_that_of_dvc(written: str, read: object, tmp_path: Path) -> None:
    from dvc.utils.serialize import load_yaml

    path = tmp_path / "params.yaml"
    path.write_text(f"a:\n  b: {written}\n")
    assert read_yaml(path) == {"a": {"b": read}} == load_yaml(path)


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_is_written_so_that_it_is_read_back(name: str) -> None:
    assert parse_yaml(presets.render(name)) == presets.resolve_preset(name)


@pytest.mark.parametrize("encoding", ["latin1", "utf16", "utf32"])
def test_another_encoding_is_told(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes("# gro\xdfe Bilder\ntrain: {seed: 1}\n".encode(encoding))
    with pytest.raises(InputError, match=r"params\.yaml: not in UTF-8 \(byte \d+\); save it as UTF-8"):
        read_yaml(path)
    path.write_bytes("# gro\xdfe Bilder\ntrain: {seed: 1}\n".encode("utf-8-sig"))
    assert read_yaml(path) == {"train": {"seed": 1}}


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_numbers_are_finite(value: float) -> None:
    floats = [
        (section, key)
        for section, entries in tiny_values().items()
        for key, entry in entries.items()
        if isinstance(entry, float)
    ]
    assert len(floats) > 20
    for section, key in floats:
        with pytest.raises(InputError, match=rf"{section}\.{key} is -?(inf|nan); expected a finite value, number"):
            check(changed(f"{section}.{key}", value), Path("p"))
    with pytest.raises(InputError, match=r"augmentation\.scales\[1\] is -?(inf|nan); expected a finite value"):
        check(changed("augmentation.scales", [0.5, value]), Path("p"))


def test_an_absent_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; `python -m workflow use demo` writes one"):
        read_yaml(tmp_path / "params.yaml")


def test_the_settings_of_refinements_without_a_parameter_file_are_those_of_the_base_preset() -> None:
    values = read_yaml(presets.FOLDER / "base.yaml")
    for name, settings in SETTINGS.items():
        assert check_section(section_of(settings), name, values[name], Path("p")).for_stage() == settings()


def test_a_section_has_the_ranges_and_the_words_of_the_settings() -> None:
    for name, settings in SETTINGS.items():
        assert set(meanings(settings)) == set(types_of(settings)) == set(limits(settings))
        for key, allowed in limits(settings).items():
            value = allowed.low - 1 if isinstance(allowed, Range) else "either"
            with pytest.raises(InputError, match=rf"{name}\.{key} is .*; expected "):
                check(changed(f"{name}.{key}", value), Path("p"))
            with pytest.raises(ValueError, match=rf"^{key} is .*; expected "):
                settings(**{key: value})
    kind = section_of(ClosedFormSettings)
    assert describe(kind.model_fields["reduction"]) == "integer ≥ 1 and ≤ 64"
    assert kind.model_fields["ridge"].description == (
        "Penalty of the discriminant, in units of the mean variance of a feature channel."
    )
    assert str(kind.__doc__).startswith("Closed-form head: discriminant, several prototypes")


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_resolves_and_says_only_what_differs(name: str) -> None:
    resolved = presets.resolve_preset(name)
    own = read_yaml(presets.FOLDER / f"{name}.yaml")
    like = own.pop("like", None)
    base = presets.resolve_preset(like) if like else read_yaml(presets.FOLDER / "base.yaml")
    for section, values in own.items():
        for key, value in values.items():
            assert base[section][key] != value, f"{section}.{key} repeats what it is like"
            assert resolved[section][key] == value


def test_a_preset_takes_over_what_it_is_like() -> None:
    contiguous, fwb = (presets.resolve_preset(f"coco20i-{layout}") for layout in ("contiguous", "fwb"))
    assert fwb["index"].pop("layout") == "fwb"
    assert contiguous["index"].pop("layout") == "contiguous"
    assert fwb["report"].pop("protocol") != contiguous["report"].pop("protocol")
    assert fwb == contiguous
    assert fwb["prototypes"]["clusters"] == [75, 50, 25]
    assert fwb["episodes"]["count"] == 4000


def test_a_preset_that_is_like_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in presets.FOLDER.iterdir():
        (tmp_path / path.name).write_text(path.read_text(encoding="utf8"), encoding="utf8")
    monkeypatch.setattr(presets, "FOLDER", tmp_path)
    for like, nearest in (("pascal5", "pascal5i"), ("coco20i-fwb", "coco20i-contiguous"), ("own", "")):
        (tmp_path / "own.yaml").write_text(f"like: {like}\n")
        with pytest.raises(InputError, match=f"like is '{like}'; expected a preset without a key 'like'.*{nearest}"):
            presets.resolve_preset("own")


def test_an_id_that_yaml_takes_for_a_number_is_told_so(tmp_path: Path) -> None:
    values = tiny_values(images={"source": "voc", "root": "x", "exclude": [2007000032]})
    with pytest.raises(
        InputError, match=r"exclude\[0\] is 2007000032, which YAML reads as a number: write it in quotes"
    ):
        check(values, tmp_path)


@pytest.mark.parametrize(("value", "kind"), [(date(2001, 1, 1), "a date"), (True, "true or false"), (None, "nothing")])
def test_any_name_that_yaml_takes_for_something_else_is_told_so(value: object, kind: str, tmp_path: Path) -> None:
    values = tiny_values(images={"source": "voc", "root": "x", "exclude": [value]})
    with pytest.raises(InputError, match=rf"exclude\[0\] is .*, which YAML reads as {kind}: write it in quotes"):
        check(values, tmp_path)


def test_folds_that_do_not_divide_the_classes_are_refused_at_once(tmp_path: Path) -> None:
    values = tiny_values(images={"source": "voc", "root": "x", "classes": ["a", "b", "c", "d", "e", "f", "g"]})
    with pytest.raises(InputError, match=r"index\.folds is 4, but 7 classes do not divide evenly into 4 folds"):
        check(values, tmp_path)


def test_use_overwrites_presets_but_not_edits(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    assert presets.use("demo", force=False, path=path)
    assert not presets.use("demo", force=False, path=path)
    assert presets.use("pascal5i", force=False, path=path)  # nobody's work is lost
    edited = yaml.safe_load(path.read_text())
    edited["train"]["seed"] = 7
    write_values(path, edited)
    with pytest.raises(InputError, match="holds values of your own"):
        presets.use("demo", force=False, path=path)
    assert yaml.safe_load(path.read_text()) == edited
    assert presets.use("demo", force=True, path=path)
    assert load(path).values("plan")["folds"] == [0]


def test_an_unknown_preset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no preset 'voc_subset'; expected one of coco-subset, coco20i"):
        presets.use("voc_subset", force=False, path=tmp_path / "params.yaml")


def test_the_longest_command_is_one_that_a_shell_takes() -> None:
    targets = Targets(check(presets.resolve_preset("coco20i-fwb"), Path("fwb")).targets.plan, MOST_SHARDS)
    assert len(targets.plan.folds) == 4
    read = ("images", "regions", "features", "prototypes", "pseudolabels", "baseline", "train", "cam", "evaluate")
    command = " ".join(path for stage in read for path in targets.of(stage))
    assert 60_000 < len(command) < (128 << 10) - 2000  # Linux: of one argument, here that of `bash -c`
