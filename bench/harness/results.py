"""Results: one JSON file for each workload, and RESULTS.md made from all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

BENCH: Final = Path(__file__).parents[1]
_HEAD: Final = """\
# Results

Written by `./tillstream bench NAME`; what is compared, and what is honest about it, is in
[README.md](README.md). Where a figure has three parts they are min / median / max of the runs, which took
turns (A B C A B C). The raw numbers are in [results/](results).
"""


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` are as long as `columns`; cells are text already."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Result:
    """What the command found out. `raw` are the single runs; `notes` are lines below the tables."""

    workload: str
    title: str
    machine: Mapping[str, Any]
    parameters: Mapping[str, Any]
    tables: Sequence[Table]
    notes: Sequence[str] = ()
    raw: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""

    @property
    def name(self) -> str:
        return f"{self.workload}-{self.variant}" if self.variant else self.workload


def spread(values: Iterable[float], digits: int = 0) -> str:
    """`min / median / max`, with thousands separators."""
    found = sorted(values)
    return " / ".join(f"{value:,.{digits}f}" for value in (found[0], median(found), found[-1]))


def save(result: Result, folder: Path = BENCH / "results", page: Path = BENCH / "RESULTS.md") -> None:
    """Replace this workload's file, and write the page anew from all files."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n"
    (folder / f"{result.name}.json").write_text(text)
    page.write_text(render(load(folder)))


def load(folder: Path) -> list[Result]:
    found = []
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text())
        tables = [Table(**table) for table in document.pop("tables")]
        found.append(Result(tables=tables, **document))
    return found


def render(results: Iterable[Result]) -> str:
    """The page, in Markdown."""
    return "\n".join([_HEAD, *(section(result) for result in results)])


def section(result: Result) -> str:
    machine = result.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    given = ", ".join(f"{name} {_text(value)}" for name, value in result.parameters.items())
    size = f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gib']} GiB"
    state = f"kernel {machine['kernel']}; load before {machine['load_before']}"
    lines = [
        f"## {result.title}",
        "",
        f"{machine['date']}; {size}, {state}. {versions}.",
        "",
        f"{given}.",
        "",
    ]
    for table in result.tables:
        lines += [*([f"**{table.title}**", ""] if table.title else []), *markdown(table), ""]
    lines += [f"- {note}" for note in result.notes]
    return "\n".join(lines).rstrip() + "\n"


def markdown(table: Table) -> list[str]:
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
