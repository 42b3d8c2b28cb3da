"""Names of what is evaluated, in the order of tables."""

from typing import Final

from stages.sections.evaluate import Refined

SPFL = "spfl"  # matching alone; what the online classifier starts from
SUPPORT_ONLY: Final = "spfl+srofb-support-only"
REFINED: Final = "spfl+srofb"
REFINEMENTS: dict[Refined, bool] = {SUPPORT_ONLY: False, REFINED: True}  # whether query cells are learned from too
MAP, CAM = "cam-map-only", "cam"
VARIANTS = ("pretrained", "baseline", "spfl-single-level", SPFL, SUPPORT_ONLY, REFINED, MAP, CAM)
