"""Write the built-in data set in VOC's layout, for viewing or for use elsewhere."""

from __future__ import annotations

from novelseg.core.files import whole_folder
from novelseg.data.scenes import SceneSettings, write_voc
from stages.options import Out
from stages.params.scenes import Scenes


def run(*, out: Out, params: Scenes) -> None:
    """Write the pictures, masks and lists that the section ``scenes`` describes to the folder ``out``."""
    with whole_folder(out) as scratch:
        write_voc(scratch, params.to(SceneSettings), range(params.train + params.val))
