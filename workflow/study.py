"""``python -m workflow study NAME``: one encoder per fold under many test-time settings, as a table and a figure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from novelseg.core.errors import InputError, nearest
from novelseg.core.files import whole_file
from novelseg.formats import tables
from novelseg.formats.about import read_about
from novelseg.formats.files import ABOUT, ROWS, WEIGHTS
from novelseg.formats.study_results import STUDY_CURVE, STUDY_ROWS
from workflow.config import load

FOLDER = Path("studies")
# Fig. 8: supports, with the encoder of the most shots in the plan; Fig. 7: thresholds, with that of the fewest.
GRIDS = {"supports": "1 2 3 5 7 10 15", "thresholds": "0.5 0.6 0.7 0.8 0.9"}
# What Fig. 8 asks for and a plan of one support cannot give.
WARNING = "; those of Fig. 8 with 5: add 5 to plan.shots and train again to compare with it"


def study(name: str, grid: str | None, words: list[str]) -> str:
    """Run a study on every fold of the plan; ``words`` go to ``python -m stages studies``.

    Raises
    ------
    InputError
        If there is no such study, an encoder is missing, or a fold fails.
    """
    if name not in GRIDS:
        raise InputError(f"there is no study '{name}'; {nearest(name, [*GRIDS, 'seeds'])}")
    from novelseg.report.studies import PICTURES, curve, title_of

    config = load()
    if not config.trained:
        raise InputError("encoder.train is none, but a study varies the settings of a trained encoder; train one")
    plan = config.targets.plan
    shot = max(plan.shots) if name == "supports" else min(plan.shots)
    for old in ("curve.tsv", "curve.svg"):  # out of date from now on
        (FOLDER / name / old).unlink(missing_ok=True)
    folders: dict[int, Path] = {}
    for fold in plan.folds:
        encoder = Path(f"artifacts/train/fold{fold}/{shot}shot/hierarchical") / WEIGHTS
        if not encoder.exists():
            raise InputError(f"{encoder}: no such file; run `snakemake train_all` first")
        out = FOLDER / name / f"fold{fold}"
        data = ["--index", *config.targets.of("index"), "--images", *config.targets.of("images")]
        options = ["--study", name, "--grid", grid or GRIDS[name], "--fold", str(fold), "--shot", str(min(plan.shots))]
        command = [*data, *options, "--encoder", str(encoder), "--out", str(out), *words]
        if subprocess.run([sys.executable, "-m", "stages", "studies", *command], check=False).returncode:
            raise InputError(f"the study of fold {fold} did not finish; its message is above")
        folders[fold] = out
    table = curve({fold: tables.read(out / ROWS, STUDY_ROWS) for fold, out in folders.items()})
    tables.write(FOLDER / name / "curve.tsv", STUDY_CURVE, table)
    about = read_about(folders[plan.folds[0]] / ABOUT, "studies")
    picture = FOLDER / name / "curve.svg"
    with whole_file(picture) as scratch:
        scratch.write_bytes(PICTURES[name](table, title_of(about, plan.folds)))
    lines = [f"encoders trained with {shot} support(s)" + (WARNING if name == "supports" and shot == 1 else "")]
    lines += [f"{row['setting']:>9} {row['variant']:<9} {row['miou']:5.1f}" for row in table.to_dict("records")]
    return "\n".join([*lines, f"{picture}"])
