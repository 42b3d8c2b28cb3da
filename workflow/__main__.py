"""``python -m workflow use PRESET | check | table``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stages.core.errors import InputError
from workflow import checks, presets


def _table() -> str:
    """The result table for a terminal."""
    from stages.artifacts import tables
    from stages.artifacts.formats.results import SCORES

    frame = tables.read(Path("report/results.tsv"), SCORES)
    head = f"{'shot':>4} {'fold':>5} {'variant':<26} {'mIoU':>6} {'±':>4}  {'95 % interval':<14} {'FB-IoU':>6}"
    lines = [frame["protocol"].iloc[0], head]
    for row in frame.sort_values("shot", kind="stable").to_dict("records"):
        interval = f"[{row['miou_low']:.1f}, {row['miou_high']:.1f}]"
        lines.append(
            f"{row['shot']:>4} {row['fold']:>5} {row['variant']:<26} {row['miou']:>6.1f} {row['miou_std']:>4.1f}"
            f"  {interval:<14} {row['fb_iou']:>6.1f}"
        )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow", description="Everyday commands of the pipeline.")
    commands = parser.add_subparsers(dest="command", required=True)
    use = commands.add_parser("use", help="write params.yaml from a preset")
    use.add_argument("name", help=f"one of {', '.join(presets.names())}")
    use.add_argument("--force", action="store_true", help="overwrite edited values")
    check = commands.add_parser("check", help="verify that the house agrees with itself")
    check.add_argument("--fix", action="store_true", help="renew generated files first")
    commands.add_parser("table", help="print the result table")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command; give the exit code."""
    options = _parser().parse_args(argv)
    try:
        if options.command == "use":
            changed = presets.use(options.name, force=options.force)
            print(f"params.yaml: {'now' if changed else 'already'} {options.name}")
        elif options.command == "table":
            print(_table())
        else:
            if options.fix:
                checks.fix()
            faults = checks.run_checks()
            print("\n".join(faults) if faults else f"{len(checks.CHECKS)} checks: all agree")
            return 1 if faults else 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
