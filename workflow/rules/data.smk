rule images:
    """Encode, check and count one shard of the data set."""
    input:
        **TRACKING.inputs(
            "images",
        ),
    output:
        "artifacts/images/{shard}.h5",
    priority: 1
    params:
        root=literal(f"--root {shlex.quote(CONFIG.raw)}" if CONFIG.raw else ""),
        sbd=literal(f"--sbd {shlex.quote(CONFIG.sbd)}" if CONFIG.sbd else ""),
    shell:
        "python -m stages images {params.root} {params.sbd}"
        " --shard {wildcards.shard}"
        " --out {output:q}"
        " --record provenance/images/{wildcards.shard}.json"


rule index:
    """Join the shards into the index, assign the classes to folds, and check that they suffice for all later jobs."""
    input:
        **TRACKING.inputs(
            "index",
            images=IMAGES,
        ),
    output:
        "artifacts/index/index.h5",
    priority: 1
    shell:
        "python -m stages index"
        " --images {input.images:q}"
        " --out {output:q}"
        " --record provenance/index/index.json"
        " && python -m workflow ready"
