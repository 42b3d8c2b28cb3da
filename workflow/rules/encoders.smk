BASELINE = "artifacts/baseline/fold{fold}/1shot/weights.safetensors"


rule baseline:
    """Train the Baseline F_p by prototype matching."""
    input:
        **TRACKING.inputs(
            "baseline",
            implied={"images": "index"},
            index="artifacts/index/index.h5",
            images=IMAGES,
        ),
    output:
        weights="artifacts/baseline/fold{fold}/{shot}shot/weights.safetensors",
        log="artifacts/baseline/fold{fold}/{shot}shot/log.tsv",
    threads: share(len(TARGETS.of("baseline")) // 2)
    resources:
        **GPU,
    params:
        images=IMAGES,
        weights=literal(CONFIG.weights),
    shell:
        "python -m stages baseline"
        " --index {input.index:q}"
        " --images {params.images:q}"
        " --weights {params.weights:q}"
        " --fold {wildcards.fold}"
        " --shot {wildcards.shot}"
        " --threads {threads}"
        " --live live/baseline/fold{wildcards.fold}/{wildcards.shot}shot"
        " --out $(dirname {output.weights:q})"
        " --record provenance/baseline/fold{wildcards.fold}/{wildcards.shot}shot.json"


rule features:
    """Pool every background region and object of a shard with F_p, or with the pretrained encoder if it is frozen."""
    input:
        **TRACKING.inputs(
            "features",
            index="artifacts/index/index.h5",
            images="artifacts/images/{shard}.h5",
            regions="artifacts/regions/{shard}.h5",
            encoder=[BASELINE] if TARGETS.trained else [],
        ),
    output:
        "artifacts/features/fold{fold}/{shard}.h5",
    resources:
        **GPU,
    params:
        encoder="--encoder" if TARGETS.trained else "",
        weights=literal(
            "" if TARGETS.trained else f"--weights {shlex.quote(CONFIG.weights)}"
        ),
    shell:
        "python -m stages features"
        " --index {input.index:q}"
        " --images {input.images:q}"
        " --regions {input.regions:q}"
        " {params.encoder} {input.encoder:q} {params.weights}"
        " --fold {wildcards.fold}"
        " --threads {threads}"
        " --out {output:q}"
        " --record provenance/features/fold{wildcards.fold}/{wildcards.shard}.json"


rule prototypes:
    """Cluster the region corpora of a fold at three levels."""
    input:
        **TRACKING.inputs(
            "prototypes",
            features=TARGETS.sharded("artifacts/features/fold{fold}/{shard}.h5"),
        ),
    output:
        "artifacts/prototypes/fold{fold}.h5",
    shell:
        "python -m stages prototypes"
        " --features {input.features:q}"
        " --fold {wildcards.fold}"
        " --out {output:q}"
        " --record provenance/prototypes/fold{wildcards.fold}.json"


rule pseudolabels:
    """Label every pixel of a shard with its nearest prototype, at three levels."""
    input:
        **TRACKING.inputs(
            "pseudolabels",
            index="artifacts/index/index.h5",
            images="artifacts/images/{shard}.h5",
            encoder=BASELINE,
            prototypes="artifacts/prototypes/fold{fold}.h5",
        ),
    output:
        "artifacts/pseudolabels/fold{fold}/{shard}.h5",
    resources:
        **GPU,
    shell:
        "python -m stages pseudolabels"
        " --index {input.index:q}"
        " --images {input.images:q}"
        " --encoder {input.encoder:q}"
        " --prototypes {input.prototypes:q}"
        " --fold {wildcards.fold}"
        " --threads {threads}"
        " --out {output:q}"
        " --record provenance/pseudolabels/fold{wildcards.fold}/{wildcards.shard}.json"


rule train:
    """Train F_s jointly on episodes and pseudo labels."""
    input:
        **TRACKING.inputs(
            "train",
            implied={"images": "index"},
            index="artifacts/index/index.h5",
            images=IMAGES,
            pseudolabels=TARGETS.sharded(
                "artifacts/pseudolabels/fold{fold}/{shard}.h5"
            ),
        ),
    output:
        weights="artifacts/train/fold{fold}/{shot}shot/{variant}/weights.safetensors",
        log="artifacts/train/fold{fold}/{shot}shot/{variant}/log.tsv",
    threads: share(len(TARGETS.of("train")) // 2)
    resources:
        **GPU,
    params:
        images=IMAGES,
        weights=literal(CONFIG.weights),
    shell:
        "python -m stages train"
        " --index {input.index:q}"
        " --images {params.images:q}"
        " --pseudolabels {input.pseudolabels:q}"
        " --weights {params.weights:q}"
        " --fold {wildcards.fold}"
        " --shot {wildcards.shot}"
        " --variant {wildcards.variant}"
        " --threads {threads}"
        " --live live/train/fold{wildcards.fold}/{wildcards.shot}shot/{wildcards.variant}"
        " --out $(dirname {output.weights:q})"
        " --record provenance/train/fold{wildcards.fold}/{wildcards.shot}shot/{wildcards.variant}.json"


rule cam:
    """Train the two-branch network of the CAM prior."""
    input:
        **TRACKING.inputs(
            "cam",
            implied={"images": "index"},
            index="artifacts/index/index.h5",
            images=IMAGES,
        ),
    output:
        weights="artifacts/cam/fold{fold}/weights.safetensors",
        log="artifacts/cam/fold{fold}/log.tsv",
    threads: share(len(TARGETS.of("cam")) // 2)
    resources:
        **GPU,
    params:
        images=IMAGES,
        weights=literal(CONFIG.weights),
    shell:
        "python -m stages cam"
        " --index {input.index:q}"
        " --images {params.images:q}"
        " --weights {params.weights:q}"
        " --fold {wildcards.fold}"
        " --threads {threads}"
        " --live live/cam/fold{wildcards.fold}"
        " --out $(dirname {output.weights:q})"
        " --record provenance/cam/fold{wildcards.fold}.json"
