rule episodes:
    """Draw the episode list of a fold, shot and seed."""
    input:
        index="artifacts/index/index.h5",
    output:
        "artifacts/episodes/fold{fold}/{shot}shot/seed{seed}.tsv",
    params:
        recipe=recipe("episodes", CONFIG),
    shell:
        "python -m stages episodes"
        " --index {input.index:q}"
        " --fold {wildcards.fold}"
        " --shot {wildcards.shot}"
        " --seed {wildcards.seed}"
        " --out {output:q}"


SINGLE_LEVEL = "single-level" in TARGETS.plan.training_variants


rule evaluate:
    """Score all variants on the same episodes."""
    input:
        index="artifacts/index/index.h5",
        images=IMAGES,
        episodes=lambda wildcards: TARGETS.episodes(wildcards.fold, wildcards.shot),
        weights=CONFIG.weights,
        baseline="artifacts/baseline/fold{fold}/{shot}shot/weights.safetensors",
        spfl="artifacts/train/fold{fold}/{shot}shot/hierarchical/weights.safetensors",
        single_level=(
            ["artifacts/train/fold{fold}/{shot}shot/single-level/weights.safetensors"]
            if SINGLE_LEVEL
            else []
        ),
    output:
        rows="artifacts/evaluate/fold{fold}/{shot}shot/rows.parquet",
        examples="artifacts/evaluate/fold{fold}/{shot}shot/examples.h5",
        about="artifacts/evaluate/fold{fold}/{shot}shot/about.json",
    threads: share(len(TARGETS.evaluations()))
    resources:
        gpu=GPU,
    params:
        recipe=recipe("evaluate", CONFIG),
        single_level="--single-level" if SINGLE_LEVEL else "",
    shell:
        "python -m stages evaluate"
        " --index {input.index:q}"
        " --images {input.images:q}"
        " --episodes {input.episodes:q}"
        " --weights {input.weights:q}"
        " --baseline {input.baseline:q}"
        " --spfl {input.spfl:q}"
        " {params.single_level} {input.single_level:q}"
        " --fold {wildcards.fold}"
        " --shot {wildcards.shot}"
        " --threads {threads}"
        " --out $(dirname {output.rows:q})"


rule report:
    """Write tables, metrics and the page."""
    input:
        index="artifacts/index/index.h5",
        images=IMAGES,
        regions="artifacts/regions/0.h5",
        pseudolabels=f"artifacts/pseudolabels/fold{TARGETS.plan.folds[0]}/0.h5",
        trainings=TARGETS.of("baseline") + TARGETS.of("train"),
        evaluations=TARGETS.of("evaluate"),
    output:
        TARGETS.of("report"),
    params:
        recipe=recipe("report", CONFIG),
        trainings=TARGETS.trainings(),
        evaluations=TARGETS.evaluations(),
    shell:
        "python -m stages report"
        " --index {input.index:q}"
        " --images {input.images:q}"
        " --regions {input.regions:q}"
        " --pseudolabels {input.pseudolabels:q}"
        " --trainings {params.trainings:q}"
        " --evaluations {params.evaluations:q}"
        " --out report"
