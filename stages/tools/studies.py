"""Evaluate one trained encoder under many test-time settings on the same episodes.

Only the online classifier is trained for each setting. This is not a pipeline stage: ``python -m workflow study STUDY``
runs it for every fold and draws the curves.

Reads
    ``index``, ``images`` (all shards), and an encoder of ``train``.
Writes
    a folder: ``rows.parquet`` (pixel counts), ``episodes.tsv`` (the episodes), ``about.json`` (settings, classes).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import pandas as pd

from novelseg.backbones.encoder import load_encoder
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.core.compute import pick_device, use_threads
from novelseg.core.errors import InputError
from novelseg.core.files import whole_folder
from novelseg.core.options import Help
from novelseg.data.index import read_index
from novelseg.data.store import ImageStore
from novelseg.evaluation.scoring import predict_and_score, rows_of
from novelseg.evaluation.studies import MATCHING, SROFB, STUDIES, draw_cases, study_passes
from novelseg.formats import tables
from novelseg.formats.about import write_about
from novelseg.formats.episodes import EPISODES
from novelseg.formats.files import ABOUT, ROWS
from novelseg.formats.record import to_json
from novelseg.formats.study_results import STUDY_ROWS
from novelseg.methods.bank import SupportBank
from novelseg.methods.matching.predictor import MatchingPredictor
from novelseg.methods.srofb.settings import SrofbSettings
from stages.options import Batch, Device, Encoder, Fold, ImageShards, IndexFile, MemoryMb, Out, Seed, Shot, Threads
from stages.params.episodes import Params as EpisodesParams
from stages.provenance.digests import digest_once


def _parse_grid(grid: str, study: str) -> list[float]:
    """Return the numbers of a grid: numbers of supports, or thresholds."""
    try:
        numbers = [float(int(word) if study == "supports" else float(word)) for word in grid.split()]
    except ValueError:
        numbers = []
    high, what = (
        (100.0, "numbers of supports from 1 to 100") if study == "supports" else (1.0, "thresholds from 0 to 1")
    )
    low = 1 if study == "supports" else 0
    if not numbers or any(not low <= value <= high for value in numbers) or len(set(numbers)) < len(numbers):
        raise InputError(f"--grid is '{grid}'; expected {what}, each only once, separated by spaces")
    return numbers


def run(
    *,
    study: Annotated[str, Help("setting to vary", STUDIES)],
    grid: Annotated[str, Help("numbers of supports, or thresholds, separated by spaces")],
    index: IndexFile,
    images: ImageShards,
    encoder: Encoder,
    out: Out,
    fold: Fold,
    srofb: SrofbSettings,
    protocol: EpisodesParams,
    shot: Shot = 1,
    episodes: Annotated[int, Help("number of episodes to draw")] = 200,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 0,
    memory_mb: MemoryMb = 0,
    batch: Batch = 0,
) -> None:
    """Score every setting of ``grid``: numbers of supports, or pairs of thresholds at ``shot`` supports."""
    if study not in STUDIES:
        raise InputError(f"--study is '{study}'; expected one of {', '.join(STUDIES)}")
    if min(shot, episodes) < 1:
        raise InputError(f"--shot is {shot} and --episodes is {episodes}; expected both to be at least 1")
    if batch < 0:
        raise InputError(f"--batch is {batch}; expected a number of episodes, or 0 for as many as fit")
    numbers = _parse_grid(grid, study)
    use_threads(threads)
    data = read_index(index)
    net, record = load_encoder(encoder, fold, data.base_names(fold))
    max_shot = int(max(numbers)) if study == "supports" else shot
    cases = draw_cases(data, fold, max_shot, episodes, seed, protocol.exclude_classes)
    frames: list[pd.DataFrame] = []
    with ImageStore(images, data) as store:
        extract = FeatureExtractor(net, record.precision, pick_device(device))
        bank = SupportBank(extract, data.size, store.image, store.mask, memory_mb)
        for setting, setting_cases, refiners in study_passes(study, numbers, cases, srofb, extract.half, batch):
            predictor = MatchingPredictor(bank, record.scale, refiners)
            scores = predict_and_score(predictor, setting_cases, store, f"{study} {setting} fold {fold}", MATCHING)
            frame = pd.concat([rows_of(*score, data) for score in scores])
            # Rows of the online classifier are named after its thresholds; matching has none.
            refined = frame["variant"] != MATCHING
            frame.insert(0, "setting", setting or frame["variant"].where(refined, "none"))
            frames.append(frame.assign(variant=frame["variant"].where(~refined, SROFB)))
    episode_rows = {
        "episode": range(len(cases)),
        "query": [data.ids[case.query] for case in cases],
        "class": [case.label for case in cases],
        "supports": [" ".join(data.ids[image] for image in case.supports) for case in cases],
    }
    about = {
        **{"study": study, "grid": numbers, "fold": fold, "supports": max_shot, "episodes": episodes, "seed": seed},
        "classes": sorted({data.classes[case.label - 1] for case in cases}),
        "encoder": {"md5": digest_once(encoder), **to_json(record)},
        "srofb": asdict(srofb),
    }
    with whole_folder(out) as scratch:
        order = ["setting", "variant", "episode"]
        tables.write(scratch / ROWS, STUDY_ROWS, pd.concat(frames).sort_values(order, kind="stable"))
        tables.write(scratch / "episodes.tsv", EPISODES, pd.DataFrame(episode_rows))
        write_about(scratch / ABOUT, about)
