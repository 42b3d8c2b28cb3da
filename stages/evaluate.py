"""Score all variants on the episode lists of a fold and shot.

Reads
    ``index``, ``images`` (all shards), ``episodes`` (all seeds), the weights of the pretrained encoder and, where they
    are trained, of the Baseline, of the jointly trained encoder, of the single-level encoder and of the CAM prior's
    network.
Writes
    a folder: ``rows.parquet`` (pixel counts, one row per episode and variant), ``examples.h5`` (pictures for the
    report), ``about.json`` (classes, parameters, origin of the weights).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from novelseg.backbones.contract import Backbone
from novelseg.backbones.encoder import load_encoder, pretrained_encoder
from novelseg.core.compute import pick_device, use_threads
from novelseg.core.errors import InputError
from novelseg.core.files import whole_folder
from novelseg.core.options import Help
from novelseg.data.index import ATTRIBUTES, Index, read_index
from novelseg.data.store import ImageStore
from novelseg.evaluation.evaluate import EvaluationResult, evaluate, example_arrays
from novelseg.evaluation.lists import read_cases
from novelseg.evaluation.networks import EvaluationSettings, Networks, cam_protocol
from novelseg.formats import hdf5, tables
from novelseg.formats.about import write_about
from novelseg.formats.episode_results import RESULTS
from novelseg.formats.examples import EXAMPLES
from novelseg.formats.files import ABOUT, EXAMPLES_FILE, ROWS
from novelseg.formats.record import EncoderRecord, to_json
from novelseg.methods.cam.network import load_cam
from novelseg.methods.closed_form.settings import ClosedFormSettings
from novelseg.methods.foris.settings import ForisSettings
from novelseg.methods.fssdino.settings import FssdinoSettings
from novelseg.methods.insid3.settings import Insid3Settings
from novelseg.methods.refiners import RefinerSettings, settings_to_json
from novelseg.methods.self_support.settings import SelfSupportSettings
from novelseg.methods.srofb.settings import SrofbSettings
from novelseg.methods.variants import CAM, PRETRAINED, SPFL
from stages.options import Batch, Device, Fold, ImageShards, IndexFile, MemoryMb, Out, Pretrained, Shot, Threads
from stages.params.encoder import EncoderParams
from stages.params.evaluate import Params
from stages.params.matching import MatchingParams
from stages.provenance.digests import digest_once


def _networks(
    pretrained: tuple[Backbone, EncoderRecord], trained: dict[str, Path], cam: Path | None, fold: int, base: list[str]
) -> Networks:
    """Load all networks; the pretrained one uses the Baseline's scale and precision, if there is a Baseline."""
    loaded = {name: load_encoder(path, fold, base) for name, path in trained.items()}
    record = loaded["baseline"][1] if loaded else pretrained[1]
    return Networks({PRETRAINED: (pretrained[0], record), **loaded}, load_cam(cam, fold, base) if cam else None)


def run(
    *,
    index: IndexFile,
    images: ImageShards,
    episodes: Annotated[list[Path], Help("episode lists of the fold and shot, one per seed")],
    weights: Pretrained,
    baseline: Annotated[Path | None, Help("weights of the Baseline, unless encoder.train is none")] = None,
    spfl: Annotated[Path | None, Help("weights of the jointly trained encoder, unless encoder.train is none")] = None,
    single_level: Annotated[Path | None, Help("weights of the encoder trained with one level")] = None,
    cam: Annotated[Path | None, Help("weights of the CAM prior's network")] = None,
    out: Out,
    fold: Fold,
    shot: Shot,
    params: Params,
    encoder: EncoderParams,
    matching: MatchingParams,
    srofb: SrofbSettings,
    self_support: SelfSupportSettings,
    closed_form: ClosedFormSettings,
    fssdino: FssdinoSettings,
    insid3: Insid3Settings,
    foris: ForisSettings,
    device: Device = "auto",
    threads: Threads = 0,
    memory_mb: MemoryMb = 0,
    batch: Batch = 0,
) -> None:
    """Evaluate all variants on the same episodes with one pass per network."""
    if batch < 0:
        raise InputError(f"--batch is {batch}; expected a number of episodes, or 0 for as many as fit")
    use_threads(threads)
    data = read_index(index)
    cases = read_cases(episodes, data, fold, shot)
    if (baseline is None) != (spfl is None) or (single_level and not spfl):
        raise InputError("expected both --baseline and --spfl, or no trained encoder at all")
    named = {"baseline": baseline, SPFL: spfl, "spfl-single-level": single_level}
    trained = {name: path for name, path in named.items() if path}
    pretrained = pretrained_encoder(encoder.spec, weights, precision=encoder.precision, scale=matching.scale)
    networks = _networks(pretrained, trained, cam, fold, data.base_names(fold))
    settings = EvaluationSettings(
        params.refinements,
        params.cam_fusion,
        params.cam_threshold,
        RefinerSettings(srofb, self_support, closed_form, fssdino, insid3, foris, batch=batch),
    )
    resolution = networks.resolution()
    with ImageStore(images, data) as store:
        result = evaluate(
            networks,
            cases,
            data,
            store,
            settings,
            device=pick_device(device),
            label=f"evaluate fold {fold} {shot}-shot",
            examples=params.examples,
            memory_mb=memory_mb,
        )
    digests = {
        name: digest_once(path)
        for name, path in {PRETRAINED: weights, **trained, **({CAM: cam} if cam else {})}.items()
    }
    about = {
        **_about(data, fold, result, networks, settings),
        **{"fold": fold, "shot": shot, "weights": digests, **settings_to_json(settings.refiners)},
        "protocol": {
            **{name: getattr(data, name) for name in ATTRIBUTES},
            "resolution": resolution,
            "cam": _cam_protocol(networks, settings),
            "weights": digests[PRETRAINED],
        },
    }
    attrs = {"fold": fold, "shot": shot, "variants": result.variants}
    with whole_folder(out) as scratch:
        tables.write(scratch / ROWS, RESULTS, result.rows)
        hdf5.write(scratch / EXAMPLES_FILE, EXAMPLES, example_arrays(result, data), attrs)
        write_about(scratch / ABOUT, about)


def _cam_protocol(networks: Networks, settings: EvaluationSettings) -> str:
    """Return a description of how the CAM prior was tested; empty if it was not."""
    if networks.cam is None:
        return ""
    network, record = networks.cam
    return cam_protocol(record, network.encoder.note or network.encoder.level, settings)


def _about(
    data: Index, fold: int, result: EvaluationResult, networks: Networks, settings: EvaluationSettings
) -> dict[str, Any]:
    """Return the facts about the rows: their classes, the parameters, and how the networks were trained."""
    labels = sorted({int(label) for label in result.rows["class"].unique()})
    records = {name: record for name, (_, record) in networks.encoders.items() if name != PRETRAINED}
    training = {name: to_json(record) for name, record in records.items()}
    if networks.cam:
        training[CAM] = to_json(networks.cam[1])
    parameters = networks.parameters(settings.refiners)
    return {
        "classes": {str(label): data.classes[label - 1] for label in labels},
        "unscored": [data.classes[label - 1] for label in data.novel(fold).tolist() if label not in labels],
        "parameters": {name: parameters[name] for name in result.variants},
        "training": training,
    }
