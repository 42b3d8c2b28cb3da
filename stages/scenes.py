"""Write the built-in data set in VOC layout, to look at it or to use it elsewhere."""

from __future__ import annotations

from pathlib import Path

from stages.core.files import whole_folder
from stages.data.scenes import write_voc
from stages.sections.scenes import Scenes


def run(*, out: Path, params: Scenes) -> None:
    """Write all pictures, masks and lists of the section ``scenes`` under ``out``."""
    with whole_folder(out) as scratch:
        write_voc(scratch, params, range(params.train + params.val))
