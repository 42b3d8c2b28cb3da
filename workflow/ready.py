"""Checks before the first job: faults that would otherwise stop a run hours later.

Contradictions between parameters are refused in :mod:`workflow.config`; here the parameters are compared with the data,
the weights and the index.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from novelseg.core.errors import InputError
from novelseg.core.labels import TRAIN
from novelseg.fetch.cache import cache_folder
from novelseg.version import __version__
from stages.params.cam import Params as Cam
from stages.params.encoder import EncoderParams
from workflow.config import Config
from workflow.judge import Judge
from workflow.plan import F_P_SHOT
from workflow.presets import FOLDER, names, resolve_preset

# What a protocol's title stands for, beside the folder of the data.
TITLED = {
    "images": ("source", "classes", "train_list", "val_list"),
    "index": ("folds", "layout"),
}


def require_ready(config: Config, judge: Judge) -> None:
    """Refuse parameters with which a later job must fail, or whose results would carry a wrong title.

    Raises
    ------
    InputError
        If the title of the protocol belongs to another preset, a list does not exist, the pretrained weights are those
        of another architecture, or a current index shows too few objects or images.
    """
    _check_title(config)
    _check_lists(config)
    _check_weights(config, judge)
    _check_index(config, judge)


def _once(check: Callable[[], None], *facts: Any) -> None:
    """Run a check, unless it has passed on this machine with the same facts.

    An empty file in the user's cache folder, named after the facts, says that it has; it may be deleted at any time.
    """
    key = hashlib.md5(json.dumps([__version__, *facts], sort_keys=True).encode()).hexdigest()
    with suppress(OSError, InputError):  # without a cache folder, the check runs each time
        if (cache_folder() / "ready" / key).exists():
            return
    check()
    with suppress(OSError, InputError):
        (cache_folder() / "ready").mkdir(parents=True, exist_ok=True)
        (cache_folder() / "ready" / key).touch()


def _check_title(config: Config) -> None:
    title = config.values("report")["protocol"]
    now = {section: {key: config.values(section)[key] for key in keys} for section, keys in TITLED.items()}
    files = {path.name: path.read_text(encoding="utf8") for path in sorted(FOLDER.glob("*.yaml"))}

    def check() -> None:
        for name in names():
            preset = resolve_preset(name)
            if preset["report"]["protocol"] != title:
                continue
            for section, keys in TITLED.items():
                for key in keys:
                    if now[section][key] != preset[section][key]:
                        raise InputError(
                            f"report.protocol is '{title}', the title of the preset {name}, but {section}.{key} is "
                            f"{now[section][key]}, there {preset[section][key]}; give your results a title of their own"
                        )

    _once(check, "title", title, now, files)


def _check_lists(config: Config) -> None:
    images, root, sbd = config.values("images"), Path(config.raw), Path(config.sbd) if config.sbd else None
    folder = root / {"voc": "ImageSets/Segmentation", "coco": "annotations"}.get(images["source"], "")
    if not config.raw or not folder.is_dir():
        return  # the artifacts may have been fetched; a job that needs the folder names it
    lists = {key: images[key] for key in ("train_list", "val_list")}

    def check() -> None:
        from novelseg.data import coco, voc

        for key, name in lists.items():
            try:
                if images["source"] == "voc":
                    voc.require_list(root, sbd, name)
                else:
                    coco.require_list(root, name)
            except InputError as error:
                raise InputError(f"images.{key} is '{name}': {error}") from None

    _once(check, "lists", str(folder.resolve()), folder.stat().st_mtime_ns, lists, images["source"], bool(sbd))


def _check_weights(config: Config, judge: Judge) -> None:
    encoder, cam = config.sections["encoder"], config.values("cam")
    assert isinstance(encoder, EncoderParams)
    path = Path(config.weights)
    if not path.is_file():
        return  # a job that needs it names it
    lasts = {encoder.spec.last, *([cam["features"]] if config.values("plan")["cam"] else [])}

    def check() -> None:
        from dataclasses import replace

        from novelseg.backbones.encoder import pretrained_backbone  # imports PyTorch

        for last in sorted(lasts):
            try:
                pretrained_backbone(replace(encoder.spec, last=last), path)
            except InputError as error:
                raise InputError(
                    f"encoder.weights does not fit encoder.arch, which is {encoder.arch}: {error}"
                ) from None

    _once(check, "weights", judge.now(str(path)), encoder.model_dump(exclude={"weights"}), sorted(lasts))


def _check_index(config: Config, judge: Judge) -> None:
    """Check supports and clusters against the index; a stale index is checked after it has been computed again."""
    (path,) = config.targets.of("index")
    if not Path(path).exists():
        return
    facts = [config.trained, *(config.values(section) for section in ("plan", "prototypes", "episodes", "cam"))]
    try:
        _once(lambda: _count(config, Path(path)), "index", judge.now(path), *facts)
    except InputError:
        if not judge.chain(path):
            raise


def _count(config: Config, path: Path) -> None:
    from novelseg.data.index import read_index  # imports HDF5
    from novelseg.data.sampling import EpisodeSampler, scored_classes

    plan, cam = config.targets.plan, config.sections["cam"]
    assert isinstance(cam, Cam)
    try:
        data = read_index(path)
    except InputError:
        return  # a job that reads it says what is wrong
    clusters, excluded = config.values("prototypes")["clusters"][0], config.values("episodes")["exclude_classes"]
    shot = max(F_P_SHOT, *plan.shots)
    for fold in plan.folds:
        pool = data.training_images(fold)
        if config.trained:
            EpisodeSampler(data, pool, data.base(fold), shot, "training")
        EpisodeSampler(
            data, data.validation_images(), scored_classes(data, fold, excluded), max(plan.shots), "validation"
        )
        objects = int((data.pixels[pool][:, data.base(fold)] > 0).sum())
        if clusters > objects:
            raise InputError(
                f"prototypes.clusters starts with {clusters} clusters, but the {len(pool)} training images of fold "
                f"{fold} hold {objects} objects (of {int((data.split == TRAIN).sum())} images in the list "
                f"'{data.lists[0]}'); lower prototypes.clusters, or add images"
            )
        if plan.cam:
            unseen = data.novel(cam.unseen_fold(fold, data.folds, data.held_out))
            EpisodeSampler(data, pool, unseen, 1, "training")
