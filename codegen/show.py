"""Results -> rich tables for the terminal. Nothing here prints."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from codegen.board import Board
from codegen.report import Report
from codegen.sparse import Proposal
from codegen.tuning import Tuning

if TYPE_CHECKING:
    from host_sim.bench import BenchResult
    from host_sim.check import CheckResult
    from host_sim.comparison import Comparison
    from host_sim.firmware import Built
    from host_sim.line_training import LineEpoch, LineResult
    from host_sim.training import Measures, TrainingResult


def report_tables(report: Report) -> list[Table]:
    """Totals, then tensors, the largest first."""
    totals = _table(f"{report.network}, {report.mode}", "", "bytes")
    for what, count in (
        ("parameters (RAM, saved)", report.parameters),
        (
            f"work area (RAM; arena {report.arena}, at least {report.arena_lower_bound})",
            report.work,
        ),
        ("RAM for training", report.total),
        ("constants (flash)", report.constants),
    ):
        totals.add_row(what, f"{count:,}")
    macs = _table("one training step", "", "multiplications")
    for kind, count in report.macs.items():
        macs.add_row(kind.replace("_", " "), f"{count:,}")
    tensors = _table("tensors", "name", "shape", "bytes", "format", "|sum of products| at most")
    for row in report.rows:
        tensors.add_row(row.name, row.shape, f"{row.bytes:,}", row.format, row.bound)
    return [totals, macs, tensors]


def stack_line(stack: Mapping[str, int] | str) -> str:
    """The deepest that calls can be, or why that is not known."""
    if isinstance(stack, str):
        return f"stack: not known, since {stack}"
    parts = (f"{count:,} bytes in {function}" for function, count in stack.items())
    return f"stack: at most {', '.join(parts)} (zig cc -Os)"


def fit_line(report: Report, board: Board) -> str:
    """Whether the network fits, and if not by how much, and what is largest."""
    missing = report.missing_ram(board)
    if missing == 0:
        share = 100 * report.total / board.ram_bytes
        return (
            f"fits {board.title}: {report.total:,} of {board.ram_bytes:,} bytes RAM ({share:.1f} %)"
        )
    largest = report.rows[0]
    return (
        f"does not fit {board.title}: {missing:,} bytes more than its {board.ram_bytes:,} bytes "
        f"RAM; largest: {largest.name}, {largest.bytes:,} bytes"
    )


def fits_table(report: Report, boards: Iterable[Board]) -> Table:
    """The share of each board's RAM."""
    table = _table("RAM for training", "board", "RAM", "taken")
    for board in boards:
        share = 100 * report.total / board.ram_bytes
        taken = f"{share:.1f} %" if report.missing_ram(board) == 0 else "does not fit"
        table.add_row(board.title, f"{board.ram_bytes:,}", taken)
    return table


def proposal_table(proposal: Proposal) -> Table:
    """What learns, and its share of the first-order loss decrease of the whole network."""
    title = (
        f"{proposal.spec.name}: {len(proposal.levels)} layers learn, "
        f"{100 * proposal.gain / proposal.most:.1f} % of the loss decrease of all"
    )
    table = _table(title, "layer", "learns", "of the loss decrease")
    for name, level in proposal.levels.items():
        table.add_row(name, str(level), f"{100 * level.gain / proposal.most:.1f} %")
    return table


def boards_table(boards: Iterable[Board]) -> Table:
    table = _table("boards", "name", "board", "core", "clock", "flash", "RAM", "firmware")
    for b in boards:
        clock = f"{b.clock_hz / 1e6:g} MHz"
        sizes = (f"{b.flash_bytes:,}", f"{b.ram_bytes:,}")
        table.add_row(b.name, b.title, b.core, clock, *sizes, _firmware(b))
    table.columns[0].no_wrap = True  # it is what commands want to hear
    return table


def _firmware(board: Board) -> str:
    if board.firmware is None:
        return "package"
    return "emulated" if board.firmware.emulator is not None else "yes"


def built_lines(built: "Built") -> str:
    """What a firmware takes of its board."""
    facts = built.as_json()
    lines = [f"built {facts['elf']}"]
    for memory in ("flash", "ram"):
        used, of = facts[memory]["used"], facts[memory]["of"]
        name = {"flash": "flash", "ram": "RAM"}[memory]
        lines.append(f"{name}: {used:,} of {of:,} bytes ({100 * used / of:.1f} %)")
    return "\n".join([*lines, f"left for the stack: {facts['stack']:,} bytes"])


def check_tables(result: "CheckResult") -> list[Table]:
    """Kernels in units in the last place, then gradients against floats."""
    kernels = _table("integer kernels against floats", "step", "worst LSB", "allowed", "")
    for k in result.kernels:
        verdict = "ok" if k.ok else "BEYOND"
        kernels.add_row(k.step, f"{k.worst_lsb:.3f}", f"{k.allowed_lsb:.3f}", verdict)
    tensors = _table(
        "gradients against floats",
        *("parameter", "relative error", "worst", "cosine", "worst", "saturated"),
    )
    for t in result.tensors:
        errors = (f"{t.relative_error_mean:.1e}", f"{t.relative_error_worst:.1e}")
        cosines = (f"{t.cosine_mean:.6f}", f"{t.cosine_worst:.6f}")
        tensors.add_row(t.name, *errors, *cosines, str(t.saturated))
    return [kernels, tensors]


def bench_tables(result: "BenchResult") -> list[Table]:
    """Instructions of a step and a prediction on each core, then of each function in a step."""
    title = f"{result.network}, {result.mode}: instructions, bytes"
    costs = _table(
        title, "core", "train", "per MAC", "typically", "predict", "stack", "code and constants"
    )
    functions = _table("instructions of train, by function", "function", *result.cores)
    for name, c in result.cores.items():
        counts = (f"{c.train_typical:,}", f"{c.predict:,}", f"{c.stack_bytes:,}")
        costs.add_row(name, f"{c.train:,}", f"{c.train_per_mac:.2f}", *counts, f"{c.code_bytes:,}")
    names = {name: None for cost in result.cores.values() for name in cost.functions}
    for name in names:
        functions.add_row(
            name, *(f"{cost.functions.get(name, 0):,}" for cost in result.cores.values())
        )
    return [costs, functions]


def tuning_lines(tuning: Tuning, path: Path) -> str:
    """What was chosen, one line each, then what all of it saves."""
    lines = [
        f"{tuned.step}: {tuned.knob} = {tuned.choice}, {_spaced(tuned.before)} -> "
        f"{_spaced(tuned.after)} instructions a step"
        for tuned in tuning.choices
    ]
    saved = tuning.before - tuning.after
    total = (
        f"{tuning.core}: {_spaced(tuning.before)} -> {_spaced(tuning.after)} instructions a step"
    )
    ram = f"RAM {_spaced(tuning.ram_before)} -> {_spaced(tuning.ram_after)} bytes"
    ram += f", stack {_spaced(tuning.stack_before)} -> {_spaced(tuning.stack_after)}"
    lines.append(f"{total} ({saved / tuning.before:.1%} fewer), {ram}; wrote {path}")
    return "\n".join(lines)


def comparison_text(result: "Comparison") -> str:
    """A table in Markdown, as the README has it."""
    lines = [
        f"`{result.network}`, {_spaced(result.macs)} multiplications a step",
        "",
        "| | core | instructions a step | per MAC | predict | code | stack | RAM |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result.rows:
        per_mac = "" if row.train_per_mac is None else f"{row.train_per_mac:.2f}"
        bytes_ = (row.code_bytes, row.stack_bytes, row.ram_bytes)
        figures = (_spaced(row.train), per_mac, *map(_spaced, (row.predict, *bytes_)))
        lines.append(f"| {row.name} | {row.core} | {' | '.join(figures)} |")
    return "\n".join([*lines, ""])


def _spaced(number: int | None) -> str:
    return "" if number is None else f"{number:,}".replace(",", " ")


def training_table(result: "TrainingResult") -> Table:
    """Fixed point beside float."""
    title = f"{result.network}, {result.mode}: {result.epochs} epochs, {result.steps:,} steps"
    table = _table(title, "", "fixed point", "float")
    rows: tuple[tuple[str, str], ...] = (
        (f"test {result.score_name}", "score"),
        ("test loss", "loss"),
        ("training loss", "train_loss"),
    )
    for label, name in rows:
        table.add_row(label, _value(result.fixed, name), _value(result.float_, name))
    return table


def epoch_line(epoch: "LineEpoch", score_name: str) -> str:
    """What a board has reached."""
    measures = epoch.measures
    before = "before training" if epoch.number == 0 else f"epoch {epoch.number}"
    learnt = f", training loss {measures.train_loss:.4f}" if epoch.number else ""
    return f"{before}: test {score_name} {measures.score:.4f}, loss {measures.loss:.4f}{learnt}"


def line_result(result: "LineResult") -> str:
    """What is on the board now."""
    return (
        f"{result.port}: {result.spec.name}, {result.trained:,} steps since it was started; "
        f"parameters' CRC-32 {result.parameters_crc32}"
    )


def _value(measures: "Measures", name: str) -> str:
    return f"{getattr(measures, name):.4f}"


def recorded_line(facts: Mapping[str, Any]) -> str:
    """What a recording has."""
    skipped = f"; {facts['skipped']} damaged lines were skipped" if facts["skipped"] else ""
    return (
        f"wrote {facts['samples']} samples of {facts['numbers']} numbers, labels "
        f"{', '.join(facts['labels'])}, to {facts['file']}{skipped}"
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    return table
