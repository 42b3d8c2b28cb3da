rule hierarchies:
    """Build the region hierarchy of every training image of a shard."""
    input:
        **TRACKING.inputs(
            "hierarchies",
            given={
                "hierarchies.weights": CONFIG.region_weights,
                "hierarchies.maps": CONFIG.maps,
            },
            images="artifacts/images/{shard}.h5",
        ),
    output:
        artifact="artifacts/hierarchies/{shard}.h5",
        record="provenance/hierarchies/{shard}.json",
    params:
        weights=(
            f"--weights {shlex.quote(CONFIG.region_weights)}"
            if CONFIG.region_weights
            else ""
        ),
        maps=f"--maps {shlex.quote(CONFIG.maps)}" if CONFIG.maps else "",
    shell:
        "python -m stages hierarchies {params.weights} {params.maps}"
        " --images {input.images:q}"
        " --out {output.artifact:q}"
        " --record {output.record:q}"


rule regions:
    """Cut the hierarchies at one contour threshold."""
    input:
        **TRACKING.inputs(
            "regions",
            hierarchies="artifacts/hierarchies/{shard}.h5",
        ),
    output:
        artifact="artifacts/regions/{shard}.h5",
        record="provenance/regions/{shard}.json",
    shell:
        "python -m stages regions"
        " --hierarchies {input.hierarchies:q}"
        " --out {output.artifact:q}"
        " --record {output.record:q}"
