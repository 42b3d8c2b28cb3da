"""Profiles of clusters: their settings are those of the official plugins, where these are installed."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

# Profile → module of its plugin, and settings that a cluster's users look at.
PLUGINS: dict[str, tuple[str, dict[str, Any]]] = {
    "slurm": (
        "snakemake_executor_plugin_slurm",
        {"logdir": Path(".snakemake/slurm"), "keep_successful_logs": True, "init_seconds_before_status_checks": 20},
    ),
    "kubernetes": ("snakemake_executor_plugin_kubernetes", {"namespace": "novelseg"}),
    "aws-batch": ("snakemake_executor_plugin_aws_batch", {"region": "eu-central-1", "task_timeout": 86400}),
}


def needs(plugin: str) -> None:
    if importlib.util.find_spec(plugin) is None:
        pytest.skip(f"{plugin} is not installed: pip install {plugin.replace('_', '-')}")


@pytest.mark.parametrize("profile", PLUGINS)
def test_the_plugin_accepts_the_settings_of_its_profile(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin, expected = PLUGINS[profile]
    needs(plugin)
    from snakemake.cli import parse_args

    registry = importlib.import_module("snakemake_interface_executor_plugins.registry")
    monkeypatch.chdir(ROOT)
    for name in ("QUEUE", "ROLE"):
        monkeypatch.setenv(f"SNAKEMAKE_AWS_BATCH_JOB_{name}", "arn:aws:batch:eu-central-1:1:x")
    _, options = parse_args(["--profile", f"profiles/{profile}", "-n"])
    assert options.executor == profile
    registered = registry.ExecutorPluginRegistry().get_plugin(options.executor)
    settings = registered.get_settings(options)
    registered.validate_settings(settings)
    assert {name: getattr(settings, name) for name in expected} == expected
    assert options.retries == 2
    assert options.set_threads["train"] == 8


def test_jobs_ask_slurm_for_gpus_time_and_memory_that_grows_with_each_attempt() -> None:
    needs("snakemake_executor_plugin_slurm")
    submit, utils = (
        importlib.import_module(f"snakemake_executor_plugin_slurm.{n}") for n in ("submit_string", "utils")
    )

    class Job:
        threads = 8

        def __init__(self, **resources: int) -> None:
            self.resources: Any = type("Resources", (dict,), {"__getattr__": dict.__getitem__})(resources)

    facts = {"run_uuid": "u", "slurm_logfile": "log", "comment_str": "train", "account": "", "partition": ""}
    job = Job(mem_mb=48000, runtime=1440, gpu=1)
    command = submit.get_submit_command(job, {**facts, "workdir": ""}) + utils.set_gres_string(job)
    for words in ("--mem 48000", "-t 1440", "--gpus=1"):
        assert words in command
    assert "--gpus" not in utils.set_gres_string(Job(mem_mb=4000, runtime=60, gpu=0))
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text(encoding="utf8"))
    assert "train:mem_mb=attempt * 24000" in profile["set-resources"]
    assert "train:gpu=1" in profile["set-resources"]


def test_every_profile_gives_each_stage_the_same_resources() -> None:
    profiles = [yaml.safe_load((ROOT / f"profiles/{name}/config.yaml").read_text(encoding="utf8")) for name in PLUGINS]
    for key in ("set-threads", "set-resources"):
        assert profiles[0][key] == profiles[1][key] == profiles[2][key]
