rule hierarchies:
    """Build the region hierarchy of every training image of a shard."""
    input:
        images="artifacts/images/{shard}.h5",
    output:
        "artifacts/hierarchies/{shard}.h5",
    params:
        recipe=recipe("hierarchies", CONFIG),
    shell:
        "python -m stages hierarchies" " --images {input.images:q}" " --out {output:q}"


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
