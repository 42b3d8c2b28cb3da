"""Names of what is evaluated, in the order of tables."""

SPFL = "spfl"  # matching alone; what the online classifier starts from
SUPPORT_ONLY, REFINED = "spfl+srofb-support-only", "spfl+srofb"
REFINEMENTS = {SUPPORT_ONLY: False, REFINED: True}  # whether confident query cells are learned from too
MAP, CAM = "cam-map-only", "cam"
VARIANTS = ("pretrained", "baseline", "spfl-single-level", SPFL, SUPPORT_ONLY, REFINED, MAP, CAM)
