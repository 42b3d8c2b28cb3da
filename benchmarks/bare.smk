"""The jobs of the preset coco20i-fwb in a workflow without parameters, records and checks, for benchmarks/planning.py.

It has the inputs that Snakemake is given in the real one: an image is left out where the index, made from it, is there.
"""

SHARDS = range(config["shards"])
FOLDS, SHOTS, SEEDS, VARIANTS = (
    range(4),
    (1, 5),
    range(5),
    ("hierarchical", "single-level"),
)
IMAGES = expand("artifacts/images/{shard}.h5", shard=SHARDS)
INDEX = "artifacts/index/index.h5"


wildcard_constraints:
    fold=r"\d+",
    shot=r"\d+",
    shard=r"\d+",
    seed=r"\d+",
    variant="[a-z-]+",


rule all:
    input:
        "report/index.html",


rule images:
    output:
        "artifacts/images/{shard}.h5",
    shell:
        "python -m stages images"
        " --shard {wildcards.shard}"
        " --out {output:q}"
        " --record provenance/images/{wildcards.shard}.json"


rule index:
    input:
        images=IMAGES,
    output:
        INDEX,
    shell:
        "python -m stages index --images {input.images:q} --out {output:q} --record provenance/index/index.json"


rule hierarchies:
    input:
        images="artifacts/images/{shard}.h5",
    output:
        "artifacts/hierarchies/{shard}.h5",
    shell:
        "python -m stages hierarchies"
        " --images {input.images:q}"
        " --out {output:q}"
        " --record provenance/hierarchies/{wildcards.shard}.json"


rule regions:
    input:
        hierarchies="artifacts/hierarchies/{shard}.h5",
    output:
        "artifacts/regions/{shard}.h5",
    shell:
        "python -m stages regions"
        " --hierarchies {input.hierarchies:q}"
        " --out {output:q}"
        " --record provenance/regions/{wildcards.shard}.json"


rule baseline:
    input:
        index=INDEX,
    output:
        weights="artifacts/baseline/fold{fold}/{shot}shot/weights.safetensors",
        log="artifacts/baseline/fold{fold}/{shot}shot/log.tsv",
    params:
        images=IMAGES,
    shell:
        "python -m stages baseline"
        " --index {input.index:q}"
        " --images {params.images:q}"
        " --fold {wildcards.fold}"
        " --shot {wildcards.shot}"
        " --out $(dirname {output.weights:q})"
        " --record provenance/baseline/fold{wildcards.fold}/{wildcards.shot}shot.json"


rule features:
    input:
        index=INDEX,
        images="artifacts/images/{shard}.h5",
        regions="artifacts/regions/{shard}.h5",
        encoder="artifacts/baseline/fold{fold}/1shot/weights.safetensors",
    output:
        "artifacts/features/fold{fold}/{shard}.h5",
    shell:
        "python -m stages features"
        " --index {input.index:q}"
        " --images {input.images:q}"
        " --regions {input.regions:q}"
        " --encoder {input.encoder:q}"
        " --fold {wildcards.fold}"
        " --out {output:q}"
        " --record provenance/features/fold{wildcards.fold}/{wildcards.shard}.json"


rule prototypes:
    input:
        features=expand("artifacts/features/fold{{fold}}/{shard}.h5", shard=SHARDS),
    output:
        "artifacts/prototypes/fold{fold}.h5",
    shell:
        "python -m stages prototypes"
        " --features {input.features:q}"
        " --fold {wildcards.fold}"
        " --out {output:q}"
        " --record provenance/prototypes/fold{wildcards.fold}.json"


rule pseudolabels:
    input:
        index=INDEX,
        images="artifacts/images/{shard}.h5",
        encoder="artifacts/baseline/fold{fold}/1shot/weights.safetensors",
        prototypes="artifacts/prototypes/fold{fold}.h5",
    output:
        "artifacts/pseudolabels/fold{fold}/{shard}.h5",
    shell:
        "python -m stages pseudolabels"
        " --index {input.index:q}"
        " --images {input.images:q}"
        " --encoder {input.encoder:q}"
        " --prototypes {input.prototypes:q}"
        " --fold {wildcards.fold}"
        " --out {output:q}"
        " --record provenance/pseudolabels/fold{wildcards.fold}/{wildcards.shard}.json"


rule train:
    input:
        index=INDEX,
        pseudolabels=expand(
            "artifacts/pseudolabels/fold{{fold}}/{shard}.h5", shard=SHARDS
        ),
    output:
        weights="artifacts/train/fold{fold}/{shot}shot/{variant}/weights.safetensors",
        log="artifacts/train/fold{fold}/{shot}shot/{variant}/log.tsv",
    params:
        images=IMAGES,
    shell:
        "python -m stages train"
        " --index {input.index:q}"
        " --images {params.images:q}"
        " --pseudolabels {input.pseudolabels:q}"
        " --fold {wildcards.fold}"
        " --shot {wildcards.shot}"
        " --variant {wildcards.variant}"
        " --out $(dirname {output.weights:q})"
        " --record provenance/train/fold{wildcards.fold}/{wildcards.shot}shot/{wildcards.variant}.json"


rule episodes:
    input:
        index=INDEX,
    output:
        "artifacts/episodes/fold{fold}/{shot}shot/seed{seed}.tsv",
    shell:
        "python -m stages episodes"
        " --index {input.index:q}"
        " --fold {wildcards.fold}"
        " --shot {wildcards.shot}"
        " --seed {wildcards.seed}"
        " --out {output:q}"
        " --record provenance/episodes/fold{wildcards.fold}/{wildcards.shot}shot/seed{wildcards.seed}.json"


rule evaluate:
    input:
        index=INDEX,
        episodes=expand(
            "artifacts/episodes/fold{{fold}}/{{shot}}shot/seed{seed}.tsv", seed=SEEDS
        ),
        baseline="artifacts/baseline/fold{fold}/{shot}shot/weights.safetensors",
        trained=expand(
            "artifacts/train/fold{{fold}}/{{shot}}shot/{variant}/weights.safetensors",
            variant=VARIANTS,
        ),
    output:
        rows="artifacts/evaluate/fold{fold}/{shot}shot/rows.parquet",
        examples="artifacts/evaluate/fold{fold}/{shot}shot/examples.h5",
        about="artifacts/evaluate/fold{fold}/{shot}shot/about.json",
    params:
        images=IMAGES,
    shell:
        "python -m stages evaluate"
        " --index {input.index:q}"
        " --images {params.images:q}"
        " --episodes {input.episodes:q}"
        " --baseline {input.baseline:q}"
        " --trained {input.trained:q}"
        " --fold {wildcards.fold}"
        " --shot {wildcards.shot}"
        " --out $(dirname {output.rows:q})"
        " --record provenance/evaluate/fold{wildcards.fold}/{wildcards.shot}shot.json"


rule report:
    input:
        index=INDEX,
        prototypes=expand("artifacts/prototypes/fold{fold}.h5", fold=FOLDS),
        baselines=expand(rules.baseline.output, fold=FOLDS, shot=SHOTS),
        trainings=expand(rules.train.output, fold=FOLDS, shot=SHOTS, variant=VARIANTS),
        evaluations=expand(rules.evaluate.output, fold=FOLDS, shot=SHOTS),
    output:
        "report/index.html",
        "report/results.tsv",
        "report/classes.tsv",
        "report/comparisons.tsv",
        "report/metrics.json",
        expand("report/plots/{fold}-{shot}.tsv", fold=FOLDS, shot=SHOTS),
        expand(
            "report/plots/{fold}-{shot}-{variant}.tsv",
            fold=FOLDS,
            shot=SHOTS,
            variant=VARIANTS,
        ),
    shell:
        "python -m stages report"
        " --index {input.index:q}"
        " --prototypes {input.prototypes:q}"
        " --trainings {input.trainings:q}"
        " --evaluations {input.evaluations:q}"
        " --out report"
        " --record provenance/report.json"
