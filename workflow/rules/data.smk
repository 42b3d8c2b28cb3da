rule images:
    """Encode, check and count one shard of the data set."""
    input:
        **TRACKING.inputs(
            "images",
            given={"images.root": CONFIG.raw},
        ),
    output:
        artifact="artifacts/images/{shard}.h5",
        record="provenance/images/{shard}.json",
    params:
        raw=f"--raw {shlex.quote(CONFIG.raw)}" if CONFIG.raw else "",
    shell:
        "python -m stages images {params.raw}"
        " --shard {wildcards.shard}"
        " --out {output.artifact:q}"
        " --record {output.record:q}"


rule index:
    """Join what the shards know, and lay down folds and protocol."""
    input:
        **TRACKING.inputs(
            "index",
            images=IMAGES,
        ),
    output:
        artifact="artifacts/index/index.h5",
        record="provenance/index/index.json",
    shell:
        "python -m stages index"
        " --images {input.images:q}"
        " --out {output.artifact:q}"
        " --record {output.record:q}"
