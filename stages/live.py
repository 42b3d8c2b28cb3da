"""Live curves of a training run, written by DVCLive for monitoring; no stage reads them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from novelseg.core.errors import InputError

QUIET = {"report": None, "save_dvc_exp": False, "dvcyaml": None, "cache_images": False, "monitor_system": False}


class Curves:
    """Writer of the curves of a training run; DVCLive's earlier files in the folder are replaced, all others are kept.

    Parameters
    ----------
    folder
        Where DVCLive writes ``plots/metrics/*.tsv`` and ``metrics.json``.

    Raises
    ------
    InputError
        If DVCLive is not installed, or the working directory is outside a DVC project (DVCLive would create one).
    """

    def __init__(self, folder: Path) -> None:
        self._logged = 0
        try:
            from dvclive import Live
        except ImportError:
            raise InputError("--live needs dvclive, which is not installed here; leave --live out") from None
        if not any((up / ".dvc").is_dir() for up in (Path.cwd(), *Path.cwd().parents)):
            raise InputError(
                "--live needs a DVC project, and there is none here; leave --live out, or run `dvc init` first"
            )
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--live is {folder}, a file; expected a folder for curves")
        self._folder, self._live_class = folder, Live
        self._live: Any = None  # created with the first rows, hence only in the first process

    def add(self, log: pd.DataFrame) -> None:
        """Write the new rows of a log; a level without a loss (NaN) has no curve."""
        if self._live is None:
            self._live = self._live_class(dir=str(self._folder), resume=False, **QUIET)
        for row in log.iloc[self._logged :].to_dict("records"):
            self._live.step = int(row["iteration"])
            for name, value in row.items():
                if name != "iteration" and not math.isnan(value):
                    self._live.log_metric(name, value)
            self._live.make_summary()
        self._logged = len(log)
