# One target per stage, which `dvc repro` and people ask for: `snakemake features_all`.
for stage in READS:

    rule:
        name:
            f"{stage}_all"
        input:
            TARGETS.of(stage),
