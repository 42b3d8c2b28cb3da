# One target per stage, for `dvc repro` and for people: `snakemake features_all`.
for stage in READS:

    rule:
        name:
            f"{stage}_all"
        input:
            TARGETS.of(stage),
