"""Order of the shards that a stage is given: by what they are, not by how they are listed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from novelseg.core.errors import InputError
from novelseg.formats.hdf5 import Spec, opened


class _Shard:
    """Number of a shard, number of all shards, and the images in it; None where the file does not say."""

    def __init__(self, path: Path, spec: Spec) -> None:
        self.path = path
        with opened(path, spec, checked=True) as file:
            self.number: int | None = file.attributes["shard"]
            self.shards: int | None = file.attributes["shards"]
            names = [name for name in spec.fields if name in ("id", "bg/image", "fg/image")]
            self.ids = {text for name in names for text in file[name].texts()}
            if self.number is None and "position" in spec.fields and len(file["position"]):
                self.number = int(file["position"][0])  # shard s begins with image s
        if self.number is None and path.stem.isdecimal():
            self.number = int(path.stem)

    def key(self) -> tuple[bool, int, str]:
        """Return what shards are sorted by: the number, or the first image of a shard without one."""
        return self.number is None, self.number or 0, min(self.ids, default="")


def in_order(paths: Sequence[Path], spec: Spec) -> list[Path]:
    """Sort the shards of one artifact by their numbers, which the files hold.

    Files of earlier code have no number: for images it is that of the first image, for others the one in the file's
    name. Shards without either are sorted by their images.

    Raises
    ------
    InputError
        If a shard or an image is given twice, a shard is missing, or the shards are of different divisions.
    """
    shards = sorted((_Shard(path, spec) for path in paths), key=_Shard.key)
    for first, second in pairwise(shards):
        if first.number is not None and first.number == second.number:
            raise InputError(
                f"{second.path}: is shard {second.number} of {spec.name}, as is {first.path}; give every shard once"
            )
    owners: dict[str, Path] = {}
    for shard in shards:
        if twice := shard.ids & owners.keys():
            image = min(twice)
            raise InputError(
                f"{shard.path}: contains the image '{image}', as does {owners[image]}; give every shard once, all of "
                "the same images.shards"
            )
        owners |= dict.fromkeys(shard.ids, shard.path)
    _refuse_gaps(shards, spec)
    return [shard.path for shard in shards]


def _refuse_gaps(shards: list[_Shard], spec: Spec) -> None:
    counts = {shard.shards for shard in shards if shard.shards is not None}
    if len(counts) > 1:
        raise InputError(
            f"{shards[0].path.parent}: its shards are of {min(counts)} and of {max(counts)} shards in all; "
            f"rerun `{spec.stage}` for all"
        )
    if not counts:
        return
    total = counts.pop()
    absent = [str(number) for number in range(total) if number not in {shard.number for shard in shards}]
    if absent:
        listed = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
        raise InputError(
            f"{shards[0].path.parent}: got {len(shards)} of the {total} shards of {spec.name}; missing: {listed}; "
            "give all of them"
        )
