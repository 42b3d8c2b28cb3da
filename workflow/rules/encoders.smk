rule baseline:
    """Train the Baseline F_p by prototype matching."""
    input:
        index="artifacts/index/index.h5",
        images=IMAGES,
        weights=CONFIG.weights,
    output:
        weights="artifacts/baseline/fold{fold}/{shot}shot/weights.safetensors",
        log="artifacts/baseline/fold{fold}/{shot}shot/log.tsv",
    threads: share(len(TARGETS.of("baseline")) // 2)
    resources:
        gpu=GPU,
    params:
        recipe=recipe("baseline", CONFIG),
    shell:
        "python -m stages baseline"
        " --index {input.index:q}"
        " --images {input.images:q}"
        " --weights {input.weights:q}"
        " --fold {wildcards.fold}"
        " --shot {wildcards.shot}"
        " --threads {threads}"
        " --out $(dirname {output.weights:q})"


rule features:
    """Pool every background region and object of a shard with F_p."""
    input:
        index="artifacts/index/index.h5",
        images="artifacts/images/{shard}.h5",
        regions="artifacts/regions/{shard}.h5",
        encoder="artifacts/baseline/fold{fold}/1shot/weights.safetensors",
    output:
        "artifacts/features/fold{fold}/{shard}.h5",
    resources:
        gpu=GPU,
    params:
        recipe=recipe("features", CONFIG),
    shell:
        "python -m stages features"
        " --index {input.index:q}"
        " --images {input.images:q}"
        " --regions {input.regions:q}"
        " --encoder {input.encoder:q}"
        " --fold {wildcards.fold}"
        " --threads {threads}"
        " --out {output:q}"


rule prototypes:
    """Cluster the corpora at three levels."""
    input:
        features=TARGETS.sharded("artifacts/features/fold{fold}/{shard}.h5"),
    output:
        "artifacts/prototypes/fold{fold}.h5",
    params:
        recipe=recipe("prototypes", CONFIG),
    shell:
        "python -m stages prototypes"
        " --features {input.features:q}"
        " --fold {wildcards.fold}"
        " --out {output:q}"


rule pseudolabels:
    """Label every pixel of a shard with its nearest prototype, at three levels."""
    input:
        index="artifacts/index/index.h5",
        images="artifacts/images/{shard}.h5",
        encoder="artifacts/baseline/fold{fold}/1shot/weights.safetensors",
        prototypes="artifacts/prototypes/fold{fold}.h5",
    output:
        "artifacts/pseudolabels/fold{fold}/{shard}.h5",
    resources:
        gpu=GPU,
    params:
        recipe=recipe("pseudolabels", CONFIG),
    shell:
        "python -m stages pseudolabels"
        " --index {input.index:q}"
        " --images {input.images:q}"
        " --encoder {input.encoder:q}"
        " --prototypes {input.prototypes:q}"
        " --fold {wildcards.fold}"
        " --threads {threads}"
        " --out {output:q}"


rule train:
    """Train F_s jointly on episodes and pseudo labels."""
    input:
        index="artifacts/index/index.h5",
        images=IMAGES,
        pseudolabels=TARGETS.sharded("artifacts/pseudolabels/fold{fold}/{shard}.h5"),
        weights=CONFIG.weights,
    output:
        weights="artifacts/train/fold{fold}/{shot}shot/{variant}/weights.safetensors",
        log="artifacts/train/fold{fold}/{shot}shot/{variant}/log.tsv",
    threads: share(len(TARGETS.of("train")) // 2)
    resources:
        gpu=GPU,
    params:
        recipe=recipe("train", CONFIG),
    shell:
        "python -m stages train"
        " --index {input.index:q}"
        " --images {input.images:q}"
        " --pseudolabels {input.pseudolabels:q}"
        " --weights {input.weights:q}"
        " --fold {wildcards.fold}"
        " --shot {wildcards.shot}"
        " --variant {wildcards.variant}"
        " --threads {threads}"
        " --out $(dirname {output.weights:q})"
