"""Mutations of ``params.yaml``: what the stages accept is what DVC reads, and everything else is one sentence."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import yaml

from stages.params.schema import read_yaml
from tests.makers import tiny_values
from workflow.config import check

# Scalars that dialects, types and ranges trip over.
SCALARS = """
0500 8:20 190:20:30 no off y ON True tRue 1e-05 1e5 1E+3 2e-05 1e400 -1e400 .inf -.INF .nan .NaN 0o17 0x1F
0b11 1_000 1__0 +1 -0 -0.0 1. .5 0.1e 00 08 07.5 12e03 1,000 2001-01-01 2001-99-99
2001-12-14t21:59:43.10-05:00 ~ null Null = << - ? ! & * '' "" '1' "1.0" [] {} [1] [[1]] [[],[]] {a:1} {a: 1}
{1: 2} [~] [.nan] [no] !!str 1 !!int x !!float 1 !!float no !!bool x !!null x !!binary aGk= !!binary # !!set
{a} !!omap [a: 1] !!python/object:os.system x !local 1 @ ` % | > &x 1 *x &x [*x] 9999999999999999999999
-9999999999999999999999 1e308 5e-324 0.30000000000000004 resnet18 "\\u2028" "\\x00" "\\U0010FFFF" ü
""".split()
SCALARS += [
    "!!set {a, b}",
    "{a: 1}",
    "!!float 1",
    "&a [*a]",
    "9" * 5000,
    "[" * 60 + "]" * 60,
    "a" * 100_000,
    "[1, 2",
    "'",
]
LINES = (
    *(
        "\t",
        "---",
        "...",
        "%YAML 1.1\n---",
        "%TAG ! x:\n---",
        "<<: {plan: 1}",
        "? a",
        "plan: {}",
        "train: 5",
        "- 1",
        ": 1",
    ),
    *("more: {a: 1}", "1: 2", "~: 1", "? [1, 2]\n: 3", "# ü", "\x85", "\u2028", "\x07", "a: &a [*a]", "? {a: 1}\n: 2"),
)
ENCODINGS = ("latin1", "utf16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf32", "cp1252")
Mutation = Callable[[str, random.Random], bytes]


def base() -> str:
    """The parameter file that is mutated."""
    return "# Größe\n" + yaml.safe_dump(tiny_values(), sort_keys=False)


def _value(text: str, order: random.Random) -> bytes:
    """Another value of one key."""
    lines = text.splitlines(keepends=True)
    keyed = [number for number, line in enumerate(lines) if ": " in line]
    number = order.choice(keyed)
    lines[number] = f"{lines[number].partition(': ')[0]}: {order.choice(SCALARS)}\n"
    return "".join(lines).encode()


def _entry(text: str, order: random.Random) -> bytes:
    """Another entry of a list."""
    lines = text.splitlines(keepends=True)
    number = order.choice([number for number, line in enumerate(lines) if line.lstrip().startswith("- ")])
    lines[number] = f"{lines[number].partition('- ')[0]}- {order.choice(SCALARS)}\n"
    return "".join(lines).encode()


def _line(text: str, order: random.Random) -> bytes:
    """A line more, less, twice, elsewhere or deeper."""
    lines = text.splitlines(keepends=True)
    number, other = order.randrange(len(lines)), order.randrange(len(lines))
    what = order.randrange(6)
    if what == 0:
        lines.insert(number, f"{order.choice(LINES)}\n")
    elif what == 1:
        del lines[number]
    elif what == 2:
        lines.insert(number, lines[other])
    elif what == 3:
        lines[number], lines[other] = lines[other], lines[number]
    elif what == 4:
        lines[number] = f"{order.choice((' ', '  ', chr(9), chr(0xA0)))}{lines[number]}"
    else:
        lines[number] = lines[number].replace("\n", order.choice(("\r\n", "\r", "", " \n", "\t\n", " # ü\n")))
    return "".join(lines).encode()


def _bytes(text: str, order: random.Random) -> bytes:
    """A few bytes changed, or the end lost."""
    content = bytearray(text.encode())
    for _ in range(order.randint(1, 4)):
        content[order.randrange(len(content))] = order.randrange(256)
    return bytes(content[: order.randrange(len(content))] if order.random() < 0.3 else content)


def _encoding(text: str, order: random.Random) -> bytes:
    """Another encoding."""
    return text.encode(order.choice(ENCODINGS))


MUTATIONS: tuple[Mutation, ...] = (_value, _value, _value, _entry, _line, _line, _bytes, _encoding)


def mutant(seed: int) -> tuple[str, bytes]:
    """A mutation's name and the bytes of the parameter file."""
    order = random.Random(seed)
    mutation = order.choice(MUTATIONS)
    return mutation.__name__.strip("_"), mutation(base(), order)


def read(content: bytes, folder: Path) -> str:
    """Read a parameter file as both engines do, and summarise what was accepted.

    Raises
    ------
    InputError
        If it is refused.
    AssertionError
        If the stages accept other values than DVC reads.
    """
    from dvc.utils.serialize import load_yaml

    path = folder / "params.yaml"
    path.write_bytes(content)
    config = check(read_yaml(path), path)
    accepted = {name: config.values(name) for name in config.sections}
    by_dvc = load_yaml(path)
    assert accepted == by_dvc, "the stages accept other values than DVC reads"
    plain = tiny_values()
    changed = [
        f"{section}.{key} = {value!r}"
        for section, values in accepted.items()
        for key, value in values.items()
        if value != plain[section][key]
    ]
    return f"{len(accepted)} sections; {', '.join(changed) or 'as before'}"
