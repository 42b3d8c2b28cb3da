rule hierarchies:
    """Build the region hierarchy of every training image of a shard."""
    input:
        **TRACKING.inputs(
            "hierarchies",
            images="artifacts/images/{shard}.h5",
        ),
    output:
        "artifacts/hierarchies/{shard}.h5",
    params:
        weights=literal(
            f"--weights {shlex.quote(CONFIG.region_weights)}"
            if CONFIG.region_weights
            else ""
        ),
        maps=literal(f"--maps {shlex.quote(CONFIG.maps)}" if CONFIG.maps else ""),
    shell:
        "python -m stages hierarchies {params.weights} {params.maps}"
        " --images {input.images:q}"
        " --out {output:q}"
        " --record provenance/hierarchies/{wildcards.shard}.json"


rule regions:
    """Cut the hierarchies of a shard at one contour threshold."""
    input:
        **TRACKING.inputs(
            "regions",
            hierarchies="artifacts/hierarchies/{shard}.h5",
        ),
    output:
        "artifacts/regions/{shard}.h5",
    shell:
        "python -m stages regions"
        " --hierarchies {input.hierarchies:q}"
        " --out {output:q}"
        " --record provenance/regions/{wildcards.shard}.json"
