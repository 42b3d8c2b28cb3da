rule images:
    """Encode, check and count one shard of the data set."""
    input:
        lists=CONFIG.lists,
    output:
        "artifacts/images/{shard}.h5",
    params:
        recipe=recipe("images", CONFIG),
        raw=f"--raw {shlex.quote(CONFIG.raw)}" if CONFIG.raw else "",
    shell:
        "python -m stages images {params.raw}"
        " --shard {wildcards.shard}"
        " --out {output:q}"


rule index:
    """Join what the shards know, and lay down folds and protocol."""
    input:
        images=IMAGES,
    output:
        "artifacts/index/index.h5",
    params:
        recipe=recipe("index", CONFIG),
    shell:
        "python -m stages index" " --images {input.images:q}" " --out {output:q}"
