rule episodes:
    """Draw the episode list of a fold, shot and seed."""
    input:
        **TRACKING.inputs(
            "episodes",
            index="artifacts/index/index.h5",
        ),
    output:
        "artifacts/episodes/fold{fold}/{shot}shot/seed{seed}.tsv",
    shell:
        "python -m stages episodes"
        " --index {input.index:q}"
        " --fold {wildcards.fold}"
        " --shot {wildcards.shot}"
        " --seed {wildcards.seed}"
        " --out {output:q}"
        " --record provenance/episodes/fold{wildcards.fold}/{wildcards.shot}shot/seed{wildcards.seed}.json"


SINGLE_LEVEL = TARGETS.trained and "single-level" in TARGETS.plan.training_variants


rule evaluate:
    """Score all variants on the same episodes of a fold and shot."""
    input:
        **TRACKING.inputs(
            "evaluate",
            implied={"images": "index"},
            index="artifacts/index/index.h5",
            images=IMAGES,
            episodes=lambda wildcards: TARGETS.episodes(
                wildcards.fold, wildcards.shot
            ),
            baseline=(
                ["artifacts/baseline/fold{fold}/{shot}shot/weights.safetensors"]
                if TARGETS.trained
                else []
            ),
            spfl=(
                [
                    "artifacts/train/fold{fold}/{shot}shot/hierarchical/weights.safetensors"
                ]
                if TARGETS.trained
                else []
            ),
            cam=(
                ["artifacts/cam/fold{fold}/weights.safetensors"]
                if TARGETS.plan.cam
                else []
            ),
            single_level=(
                [
                    "artifacts/train/fold{fold}/{shot}shot/single-level/weights.safetensors"
                ]
                if SINGLE_LEVEL
                else []
            ),
        ),
    output:
        rows="artifacts/evaluate/fold{fold}/{shot}shot/rows.parquet",
        examples="artifacts/evaluate/fold{fold}/{shot}shot/examples.h5",
        about="artifacts/evaluate/fold{fold}/{shot}shot/about.json",
    threads: share(len(TARGETS.evaluations()))
    resources:
        **GPU,
    params:
        images=IMAGES,
        weights=literal(CONFIG.weights),
        baseline="--baseline" if TARGETS.trained else "",
        spfl="--spfl" if TARGETS.trained else "",
        single_level="--single-level" if SINGLE_LEVEL else "",
        cam="--cam" if TARGETS.plan.cam else "",
    shell:
        "python -m stages evaluate"
        " --index {input.index:q}"
        " --images {params.images:q}"
        " --episodes {input.episodes:q}"
        " --weights {params.weights:q}"
        " {params.baseline} {input.baseline:q}"
        " {params.spfl} {input.spfl:q}"
        " {params.cam} {input.cam:q}"
        " {params.single_level} {input.single_level:q}"
        " --fold {wildcards.fold}"
        " --shot {wildcards.shot}"
        " --threads {threads}"
        " --out $(dirname {output.rows:q})"
        " --record provenance/evaluate/fold{wildcards.fold}/{wildcards.shot}shot.json"


def report_output(path):
    """Mark an output of the report for `snakemake --report`, with its caption and category."""
    name = "plots" if path.startswith("report/plots/") else Path(path).stem
    name = "page" if name == "index" else name
    category = {"page": "Page", "plots": "Losses"}.get(name, "Tables")
    labels = {"file": Path(path).name}
    return report(
        path, caption=f"../captions/{name}.rst", category=category, labels=labels
    )


rule report:
    """Write tables, metrics and the page."""
    input:
        **TRACKING.inputs(
            "report",
            implied={
                "images": "index",
                "regions": "prototypes",
                "features": "prototypes",
                "pseudolabels": "trainings",
            },
            index="artifacts/index/index.h5",
            images=IMAGES,
            regions=TARGETS.of("regions"),
            features=TARGETS.of("features"),
            prototypes=TARGETS.of("prototypes"),
            pseudolabels=TARGETS.of("pseudolabels"),
            trainings=TARGETS.of("baseline") + TARGETS.of("train") + TARGETS.of("cam"),
            evaluations=TARGETS.of("evaluate"),
        ),
    output:
        [report_output(path) for path in TARGETS.of("report")],
    params:
        images=IMAGES,
        regions=TARGETS.of("regions"),
        features=TARGETS.of("features"),
        pseudolabels=(
            ["--pseudolabels", *TARGETS.of("pseudolabels")] if TARGETS.trained else []
        ),
        trainings=["--trainings", *TARGETS.trainings()] if TARGETS.trainings() else [],
        evaluations=TARGETS.evaluations(),
        studies=literal(
            f"--studies {shlex.quote(CONFIG.studies)}" if CONFIG.studies else ""
        ),
    shell:
        "python -m stages report"
        " --index {input.index:q}"
        " --images {params.images:q}"
        " --regions {params.regions:q}"
        " --features {params.features:q}"
        " --prototypes {input.prototypes:q}"
        " {params.pseudolabels:q}"
        " {params.trainings:q}"
        " --evaluations {params.evaluations:q}"
        " {params.studies}"
        " --out report"
        " --record provenance/report.json"
