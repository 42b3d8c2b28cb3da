rule hierarchies:
    """Build the region hierarchy of every training image of a shard."""
    input:
        images="artifacts/images/{shard}.h5",
        learned=[path for path in (CONFIG.region_weights, CONFIG.maps) if path],
    output:
        "artifacts/hierarchies/{shard}.h5",
    params:
        recipe=recipe("hierarchies", CONFIG),
        weights=(
            f"--weights {shlex.quote(CONFIG.region_weights)}"
            if CONFIG.region_weights
            else ""
        ),
        maps=f"--maps {shlex.quote(CONFIG.maps)}" if CONFIG.maps else "",
    shell:
        "python -m stages hierarchies {params.weights} {params.maps}"
        " --images {input.images:q}"
        " --out {output:q}"


rule regions:
    """Cut the hierarchies at one contour threshold."""
    input:
        hierarchies="artifacts/hierarchies/{shard}.h5",
    output:
        "artifacts/regions/{shard}.h5",
    params:
        recipe=recipe("regions", CONFIG),
    shell:
        "python -m stages regions"
        " --hierarchies {input.hierarchies:q}"
        " --out {output:q}"
