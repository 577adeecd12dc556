"""The command line: parse, call, print. Nothing else in the project prints or writes results."""

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from codegen import VERSION, show
from codegen.board import POLICIES, Board, all_boards, load_board
from codegen.data import Data
from codegen.errors import UserError
from codegen.firmware import (
    Project,
    Toolchain,
    firmware_of,
    make_package,
    make_project,
    package_kinds,
)
from codegen.fixedpoint import Floats
from codegen.graph import Plan
from codegen.interpret import State
from codegen.paths import TEMPLATES
from codegen.pipeline import (
    Samples,
    generate,
    load_spec_data,
    make_plan,
    make_state,
    quantize_samples,
    synthetic_samples,
)
from codegen.report import make_report
from codegen.spec import MODES, Spec, load_spec, parse_spec
from codegen.tuning import read_others, tuning_path, tuning_text
from codegen.weights import load_weights

if TYPE_CHECKING:
    from host_sim.check import CheckResult
    from host_sim.compiler import Platform
    from host_sim.emulator import Core
    from host_sim.line_training import LineEpoch
    from host_sim.link import Link, Transport
    from host_sim.training import TrainingResult

_FILE = click.Path(path_type=Path)
_network = click.argument("network", type=_FILE, metavar="NET.toml")
_data = click.option("--data", type=_FILE, help="Samples: .npz with x and y, or .csv.")
_board = click.option("--board", "board_name", help="A board, see `mcugrad boards`.")
_start = click.option("--start", type=_FILE, help="Weights to start from: .npz by parameter name.")
_seed = click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**31 - 1))
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")


class _Bytes(click.ParamType[int]):
    """A size: bytes, or with kB, MB (1000) or KiB, MiB (1024)."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        units = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "KiB": 2**10, "MiB": 2**20}
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", str(value))
        if match is None or match[2] not in units:
            self.fail(f"'{value}' is no size; write bytes, or 141kB, 0.5MB, 64KiB", param, ctx)
        return int(float(match[1]) * units[match[2]])


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(VERSION, prog_name="mcugrad")
@click.pass_context
def mcugrad(context: click.Context) -> None:
    """Fixed-point C that learns on a microcontroller, from the description of a network."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> None:
    """Runs a command; a mistake of the user is one line on standard error and exit status 2."""
    try:
        status = mcugrad.main(prog_name="mcugrad", standalone_mode=False)
    except UserError as error:
        _fail(str(error))
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "mcugrad"
        _fail(f"{command}: {error.format_message().rstrip('.')}; see {command} --help")
    except click.Abort:
        _fail("stopped")
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    sys.exit(status if isinstance(status, int) else 0)


def _fail(line: str) -> None:
    click.echo(" ".join(line.split("\n")), err=True)
    sys.exit(2)


# ---------------------------------------------------------------- commands


@mcugrad.command()
@click.argument("name")
def new(name: str) -> None:
    """Write NAME.toml, a network file to start from."""
    text = (TEMPLATES / "new.toml").read_text(encoding="utf-8").replace("NAME", name)
    path = Path(f"{name}.toml")
    parse_spec(text, str(path))
    if path.exists():
        raise UserError(f"{path}: exists already; choose another name")
    path.write_text(text, encoding="utf-8")
    click.echo(f"wrote {path}; next: mcugrad report {path}")


@mcugrad.command("generate")
@_network
@click.option("-o", "--output", "folder", required=True, type=_FILE, help="Folder for the C.")
@_board
@_data
@_start
@_seed
def generate_command(
    network: Path,
    folder: Path,
    board_name: str | None,
    data: Path | None,
    start: Path | None,
    seed: int,
) -> None:
    """Write the C of a network. With data, the starting formats fit them."""
    spec, board = load_spec(network), _find_board(board_name)
    _check_folder(folder)
    samples = _quantized(spec, data, seed)
    files = generate(
        spec, board=board, samples=samples, seed=seed, parameters=_weights(spec, start)
    )
    _write_files(folder, files)
    click.echo(f"wrote {', '.join(files)} to {folder}")


@mcugrad.command("firmware")
@_network
@_board
@click.option("-o", "--output", "folder", required=True, type=_FILE, help="Folder for the project.")
@click.option("--package", type=click.Choice(package_kinds()), help="A library instead.")
@click.option("--toolchain", type=click.Choice(["gcc", "zig"]), help="gcc if installed, else zig.")
@_data
@_start
@_seed
@click.option("--build", is_flag=True, help="Build it, and say what it takes.")
@click.option("--run", is_flag=True, help="Build it and run it on the emulated board.")
@_json
def firmware_command(
    network: Path,
    board_name: str | None,
    folder: Path,
    package: str | None,
    toolchain: Toolchain | None,
    data: Path | None,
    start: Path | None,
    seed: int,
    build: bool,
    run: bool,
    as_json: bool,
) -> None:
    """Write a project for a board that learns over a serial line; build and run it."""
    spec, board = load_spec(network), _find_board(board_name)
    if package is not None:
        if build or run:
            raise click.UsageError("a package is not built or run here")
        if toolchain is not None:
            raise click.UsageError("a package has no toolchain; leave --toolchain out")
        _check_folder(folder)
        plan, state = _started(spec, board, _quantized(spec, data, seed), start, seed)
        files = make_package(package, spec, plan, state, board)
        _write_files(folder, files)
        click.echo(f"wrote {len(files)} files to {folder}")
        return
    if board is None:
        raise click.UsageError("Missing option '--board' or '--package'")
    firmware_of(board)
    _check_folder(folder)
    taken = _find_tools(board, toolchain, run) if build or run else toolchain or "gcc"
    plan, state = _started(spec, board, _quantized(spec, data, seed), start, seed)
    project = make_project(spec, plan, state, board, toolchain or "gcc")
    _write_files(folder, project.files, may_hold=("build",))
    if build or run:
        _build(folder, project, taken, as_json)
    else:
        click.echo(f"wrote {len(project.files)} files to {folder}; next: make -C {folder}")
    if run:
        _run(folder, project, network)


@mcugrad.command()
@click.argument("folder", type=_FILE)
@click.option("--port", help="Serial port of a board that is flashed over one.")
def flash(folder: Path, port: str | None) -> int:
    """Put a built firmware on its board, with the tool that its board.toml names."""
    from host_sim.firmware import find_upload

    return find_upload(folder, port).run()


@mcugrad.command()
@_network
@_data
@click.option("--samples", "count", default=32, show_default=True, type=click.IntRange(1))
@click.option("--parameters", type=_FILE, help="Check here: .npz of mcugrad train --save.")
@_seed
@_json
def check(
    network: Path,
    data: Path | None,
    count: int,
    parameters: Path | None,
    seed: int,
    as_json: bool,
) -> int:
    """Prove it: kernels, gradients and C, against floats and integers."""
    from host_sim.check import check as run_check
    from host_sim.device import Device

    spec = load_spec(network)
    device = None
    samples = _quantized(spec, data, seed)
    if parameters is not None:
        device = Device(spec, seed=seed, samples=samples)
        device.load(parameters)
    with _progress(not as_json) as bar:
        task = bar.add_task("samples", total=count, note="")
        result = run_check(
            spec,
            samples=samples,
            count=count,
            seed=seed,
            device=device,
            progress=lambda done: bar.update(task, completed=done),
        )
    if as_json:
        click.echo(json.dumps(result.as_json()))
    else:
        _show_check(result)
    return 0 if result.ok else 1


@mcugrad.command()
@_network
@click.option("--data", required=True, type=_FILE, help="Samples: .npz with x and y, or .csv.")
@click.option("--epochs", default=10, show_default=True, type=click.IntRange(1))
@_start
@_seed
@click.option("--plot", type=_FILE, help="Write the learning curves as an image.")
@click.option("--save", type=_FILE, help="Write the learnt parameters as .npz.")
@click.option("--core", help="Learn on this emulated core, such as cortex-m4.")
@_json
def train(
    network: Path,
    data: Path,
    epochs: int,
    start: Path | None,
    seed: int,
    plot: Path | None,
    save: Path | None,
    core: str | None,
    as_json: bool,
) -> None:
    """Let the compiled C learn on this machine, a float reference beside it."""
    spec = load_spec(network)
    platform = None if core is None else _find_core(core)
    if save is not None:
        _check_writable(save)
    if plot is not None:
        _check_writable(plot)
        _need_matplotlib(plot)
    loaded, parameters = _load(spec, data, seed), _weights(spec, start)
    result = _train(spec, loaded, epochs, seed, as_json, parameters, platform)
    if plot is not None:
        _plot(result, plot)
    if save is not None:
        result.device.save(save)
    if as_json:
        click.echo(json.dumps(result.as_json()))
    else:
        _show_training(result)


@mcugrad.command("link")
@_network
@click.option("--port", help="Serial port of the board, such as /dev/ttyACM0.")
@click.option("--baud", default=115200, show_default=True, type=click.IntRange(1))
@_board
@click.option("--emulate", is_flag=True, help="Instead of a port: build it and emulate the board.")
@_data
@click.option("--epochs", default=1, show_default=True, type=click.IntRange(0))
@_start
@_seed
@click.option("--csv", "table", type=_FILE, help="Write the learning curve as .csv.")
@click.option("--save", type=_FILE, help="Write the learnt parameters as .npz.")
@click.option("--keep", is_flag=True, help="Have the board keep what it learnt through resets.")
@_json
def link_command(
    network: Path,
    port: str | None,
    baud: int,
    board_name: str | None,
    emulate: bool,
    data: Path | None,
    epochs: int,
    start: Path | None,
    seed: int,
    table: Path | None,
    save: Path | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Let a board learn from samples over a serial line; without data, only ask it."""
    from host_sim.line_training import LineResult
    from host_sim.link import link_to_any

    spec, board = load_spec(network), _find_board(board_name)
    if emulate == (port is not None):
        raise click.UsageError("Missing option '--port', or '--board' with '--emulate'")
    if emulate and board is None:
        raise click.UsageError("Missing option '--board'")
    for path in (table, save):
        if path is not None:
            _check_writable(path)
    if table is not None and data is None:
        raise UserError(f"{table}: without samples there is no curve; add --data FILE")
    loaded = None if data is None else _load(spec, data, seed)
    samples = None if loaded is None else quantize_samples(spec, loaded.x, loaded.y)
    parameters = _weights(spec, start)
    # Without the name of the board its sums may be of either kind: the device knows.
    plans = [make_plan(spec, board, accumulate=kind) for kind in POLICIES[: 1 if board else None]]
    ways = ((plan, make_state(spec, plan, samples, seed, parameters)) for plan in plans)
    first = next(ways)
    with _line(spec, *first, port, baud, board) as (place, line):
        link = link_to_any(line, spec, chain([first], ways), place=place)
        curve = _train_over_line(link, spec, loaded, epochs, seed, quiet=as_json)
        if keep:
            link.save()
        trained = link.statistics().trained
        memory = link.read_parameters()
    result = LineResult(spec, place, curve, trained, memory, seed=seed, start=parameters)
    if table is not None:
        result.write_csv(table)
    if save is not None:
        result.save(save)
    click.echo(json.dumps(result.as_json()) if as_json else show.line_result(result))


@mcugrad.command("record")
@click.option("-o", "--output", required=True, type=_FILE, help="The .npz to write.")
@click.option("--port", required=True, help="Serial port of a board that sends lines of numbers.")
@click.option("--baud", default=115200, show_default=True, type=click.IntRange(1))
@click.option("--labels", required=True, help="Names of the labels, such as still,shake.")
@click.option("--samples", "count", default=20, show_default=True, type=click.IntRange(1))
@click.option("--lines", default=1, show_default=True, type=click.IntRange(1))
@_json
def record_command(
    output: Path, port: str, baud: int, labels: str, count: int, lines: int, as_json: bool
) -> None:
    """Collect samples, so many of each label, from the readings that a board sends.

    A sample is one line of numbers, or --lines of them one after the other.
    """
    names = [name.strip() for name in labels.split(",")]
    if "" in names or len(set(names)) < max(2, len(names)):
        raise UserError(f"--labels {labels}: give two or more different names, like still,shake")
    if output.suffix != ".npz":
        raise UserError(f"{output}: samples are kept as .npz; end the name in it")
    _check_writable(output)
    from host_sim.link import SerialLine
    from host_sim.recording import Readings, record

    with SerialLine(port, baud) as line, _progress(not as_json) as bar:
        task = bar.add_task("samples", total=count * len(names), note="")

        def begin(label: str) -> None:
            bar.update(task, note=label)
            click.pause(f"{label}: press a key to begin", err=True)

        result = record(
            Readings(line, port),
            names,
            count=count,
            lines=lines,
            begin=begin,
            got=lambda: bar.advance(task),
        )
    result.save(output)
    facts = {"file": str(output), "samples": len(result.x), "numbers": result.x.shape[1]}
    facts |= {"labels": names, "skipped": result.skipped}
    click.echo(json.dumps(facts) if as_json else show.recorded_line(facts))


@mcugrad.command()
@click.argument("networks", type=_FILE, metavar="NET.toml", nargs=-1, required=True)
@_data
@click.option("--core", "cores", multiple=True, help="Only this core; may be given repeatedly.")
@click.option("--toolchain", default="zig", show_default=True, type=click.Choice(["zig", "gcc"]))
@click.option("--mode", type=click.Choice(MODES), help="Instead of the mode in the file.")
@click.option("--compare", is_flag=True, help="Of any number of networks, beside other libraries.")
@_seed
@_json
def bench(
    networks: tuple[Path, ...],
    data: Path | None,
    cores: tuple[str, ...],
    toolchain: "Toolchain",
    mode: str | None,
    compare: bool,
    seed: int,
    as_json: bool,
) -> None:
    """What a step costs on emulated cores: instructions, stack, code."""
    from host_sim.bench import bench as run_bench

    found = _found_cores(cores, toolchain)
    specs = [load_spec(network) for network in networks]
    if mode is not None:
        specs = [replace(spec, mode=mode) for spec in specs]
    if compare:
        _compare(specs, found, as_json)
        return
    if len(networks) > 1:
        raise click.UsageError("Several networks go with --compare only")
    spec = specs[0]
    samples = _quantized(spec, data, seed)
    with _progress(not as_json) as bar:
        task = bar.add_task("cores", total=len(found), note="")
        result = run_bench(
            spec,
            found,
            samples=samples,
            seed=seed,
            progress=lambda done: bar.update(task, completed=done),
        )
    if as_json:
        click.echo(json.dumps(result.as_json()))
        return
    for table in show.bench_tables(result):
        _console().print(table)


def _found_cores(names: tuple[str, ...], toolchain: "Toolchain") -> "list[Core]":
    """These, or every core but for those whose emulator is missing: of each a line says so."""
    from host_sim.emulator import core_names, missing_emulators

    if names:
        return [_find_core(name, toolchain) for name in names]
    missing = missing_emulators()
    found = [_find_core(name, toolchain) for name in core_names() if name not in missing]
    for line in missing.values():
        click.echo(f"left out: {line}", err=True)
    return found


def _compare(specs: "list[Spec]", cores: "list[Core]", as_json: bool) -> None:
    from host_sim.comparison import compare

    with _progress(not as_json) as bar:
        task = bar.add_task("networks on cores", total=len(specs) * len(cores), note="")
        results = compare(specs, cores, progress=lambda: bar.advance(task))
    if as_json:
        click.echo(json.dumps({"networks": [result.as_json() for result in results]}))
        return
    for result in results:
        click.echo(show.comparison_text(result))


@mcugrad.command("tune")
@_network
@click.option("--core", required=True, help="The core, such as cortex-m4.")
@click.option(
    "--ram",
    default=0,
    type=_Bytes(),
    help="RAM with stack, if that is more than the defaults take.",
)
@click.option("--toolchain", default="zig", show_default=True, type=click.Choice(["zig", "gcc"]))
@_json
def tune_command(network: Path, core: str, ram: int, toolchain: "Toolchain", as_json: bool) -> None:
    """Measure which forms of the C are the fastest on a core, and write them to NET.tune.toml.

    They compute the same. From then on the C for a board with that core has these forms.
    """
    spec, found = load_spec(network), _find_core(core, toolchain)
    from host_sim.tune import tune

    path = tuning_path(spec)
    _check_writable(path)
    others = read_others(spec, found.name)
    with _progress(not as_json) as bar:
        task = bar.add_task("forms", note="")
        result = tune(
            spec,
            found,
            ram=ram,
            progress=lambda done, of: bar.update(task, completed=done, total=of),
        )
    path.write_text(tuning_text(result, others), encoding="utf-8")
    click.echo(json.dumps(asdict(result)) if as_json else show.tuning_lines(result, path))


@mcugrad.command()
@_network
@_board
@_json
def report(network: Path, board_name: str | None, as_json: bool) -> None:
    """What a network costs: RAM, flash, multiplications, formats, bounds."""
    spec, board = load_spec(network), _find_board(board_name)
    plan = make_plan(spec, board)
    state = make_state(spec, plan)
    result = make_report(plan, state)
    stack = None if board is None else _stack(spec, plan, state, board)
    if as_json:
        facts = result.as_json()
        if board is not None:
            facts |= {"stack": stack if isinstance(stack, dict) else None}
            facts |= {"board": {"name": board.name, "missing_ram": result.missing_ram(board)}}
        click.echo(json.dumps(facts))
        return
    for table in show.report_tables(result):
        _console().print(table)
    if board is not None and stack is not None:
        click.echo(show.fit_line(result, board))
        click.echo(show.stack_line(stack))


def _stack(spec: Spec, plan: Plan, state: State, board: Board) -> dict[str, int] | str:
    """Bytes of stack of each function, or why they are not known."""
    try:
        from host_sim.bench import stack_bounds
        from host_sim.emulator import core_names, find_core

        if board.built_core not in core_names():
            return f"{board.built_core} is not emulated"
        return stack_bounds(spec, plan, state, find_core(board.built_core))
    except UserError as error:
        return str(error)


@mcugrad.command("plan")
@_network
@click.option("--ram", required=True, type=_Bytes(), help="RAM for training, such as 141kB.")
@_data
@click.option("-o", "--output", type=_FILE, help="File to write; NET_plan.toml if not given.")
@_start
@_seed
@_json
def plan_command(
    network: Path,
    ram: int,
    data: Path | None,
    output: Path | None,
    start: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Propose which layers, channels and biases learn, so that training fits in RAM."""
    from codegen.sparse import MEASURED, propose, rewrite

    spec = load_spec(network)
    output = output or network.with_name(f"{network.stem}_plan.toml")
    _check_writable(output)
    if data is None:
        samples = synthetic_samples(spec, make_plan(spec), MEASURED, seed)
    else:
        loaded = _load(spec, data, seed)
        samples = quantize_samples(spec, loaded.x, loaded.y)
    with _progress(not as_json) as bar:
        task = bar.add_task("layers", total=None, note="")
        result = propose(
            spec,
            samples,
            ram,
            _weights(spec, start),
            lambda name: bar.update(task, advance=1, note=name),
        )
    text = rewrite(network.read_text(encoding="utf-8-sig"), result.spec)
    output.write_text(text, encoding="utf-8")
    if as_json:
        click.echo(json.dumps(result.as_json() | {"file": str(output)}))
        return
    _console().print(show.proposal_table(result))
    click.echo(f"{result.ram_bytes:,} of {ram:,} bytes of RAM; wrote {output}")


@mcugrad.command()
def boards() -> None:
    """What is known of each board."""
    _console().print(show.boards_table(all_boards()))


@mcugrad.command()
@_seed
def demo(seed: int) -> None:
    """The whole story on real handwritten digits, in ./mcugrad-demo/."""
    from host_sim.check import check as run_check
    from host_sim.demo import write_digits

    folder = Path("mcugrad-demo")
    curve = folder / "learning_curve.png"
    _check_folder(folder / "c")
    _need_matplotlib(curve)
    folder.mkdir(exist_ok=True)
    network, data = write_digits(folder)
    spec = load_spec(network)
    loaded = _load(spec, data, seed)
    samples = quantize_samples(spec, loaded.x, loaded.y)
    files = generate(spec, samples=samples, seed=seed)
    _write_files(folder / "c", files)
    click.echo(f"Generated C that learns: {folder / 'c'}")
    _show_check(run_check(spec, samples=samples, count=16, seed=seed))
    result = _train(spec, loaded, 12, seed, quiet=False)
    _show_training(result)
    plan = make_plan(spec)
    report = make_report(plan, make_state(spec, plan))
    _console().print(show.fits_table(report, all_boards()))
    _plot(result, curve)
    result.device.save(folder / "parameters.npz")
    click.echo(
        f"Wrote the learning curve, the parameters and the C to {folder}/.\n"
        "Next: mcugrad new my_net, then mcugrad train my_net.toml --data my_samples.csv"
    )


# ---------------------------------------------------------------- what the commands share


def _find_board(name: str | None) -> Board | None:
    return None if name is None else load_board(name)


def _load(spec: Spec, path: Path, seed: int) -> Data:
    data = load_spec_data(spec, path, seed)
    if data.beyond:
        click.echo(
            f"warning: {path}: {data.beyond} numbers are beyond input_max = {spec.input_max:g} "
            "and saturate",
            err=True,
        )
    return data


def _quantized(spec: Spec, path: Path | None, seed: int) -> Samples | None:
    """The samples of a data file as the network's integers."""
    if path is None:
        return None
    data = _load(spec, path, seed)
    return quantize_samples(spec, data.x, data.y)


def _weights(spec: Spec, path: Path | None) -> dict[str, Floats] | None:
    return None if path is None else load_weights(path, make_plan(spec).training.tensors.values())


def _find_core(name: str, toolchain: "Toolchain" = "zig") -> "Core":
    from host_sim.emulator import find_core

    return find_core(name, toolchain)


def _train(
    spec: Spec,
    data: Data,
    epochs: int,
    seed: int,
    quiet: bool,
    parameters: Mapping[str, Floats] | None = None,
    platform: "Platform | None" = None,
) -> "TrainingResult":
    from host_sim.training import Epoch
    from host_sim.training import train as run_training

    score = spec.loss.score_name
    with _progress(not quiet) as bar:
        task = bar.add_task("epochs", total=epochs, note="")

        def advance(epoch: Epoch) -> None:
            note = f"loss {epoch.fixed.train_loss:.4f}, {score} {epoch.fixed.score:.4f}"
            bar.update(task, completed=epoch.number, note=note)

        return run_training(
            spec,
            data,
            epochs=epochs,
            seed=seed,
            parameters=parameters,
            platform=platform,
            progress=advance,
        )


def _train_over_line(
    link: "Link", spec: Spec, data: Data | None, epochs: int, seed: int, quiet: bool
) -> "tuple[LineEpoch, ...]":
    from host_sim.line_training import LineEpoch, train_over_line

    if data is None:
        return ()
    total = epochs * len(data.x) + (epochs + 1) * len(data.x_test)
    with _progress(not quiet) as bar:
        task = bar.add_task("samples", total=total, note="")

        def show_epoch(epoch: LineEpoch) -> None:
            if not quiet:
                click.echo(show.epoch_line(epoch, spec.loss.score_name))

        return train_over_line(
            link,
            spec,
            data,
            epochs=epochs,
            seed=seed,
            sent=lambda: bar.advance(task),
            progress=show_epoch,
        )


def _started(
    spec: Spec, board: Board | None, samples: Samples | None, start: Path | None, seed: int
) -> tuple[Plan, State]:
    """The plan for a board, and the state that a device begins with."""
    plan = make_plan(spec, board)
    return plan, make_state(spec, plan, samples, seed, _weights(spec, start))


def _find_tools(board: Board, toolchain: Toolchain | None, run: bool) -> Toolchain:
    """Before anything is written."""
    from host_sim.firmware import emulator_of, find_toolchain, need_elftools

    if run:
        emulator_of(board)
    need_elftools()
    return find_toolchain(board, toolchain)


def _build(folder: Path, project: Project, toolchain: Toolchain, as_json: bool) -> None:
    from host_sim.firmware import build_firmware, write_uf2

    built = build_firmware(folder, project, toolchain)
    if family := firmware_of(project.board).uf2_family:
        write_uf2(built.elf, family)
    click.echo(json.dumps(built.as_json()) if as_json else show.built_lines(built))


def _run(folder: Path, project: Project, network: Path) -> None:
    from host_sim.firmware import running

    with running(project.board, folder / project.elf) as (terminal, process):
        click.echo(
            f"emulated {project.board.name} runs until it is interrupted; "
            f"next: mcugrad link {network} --port {terminal}"
        )
        process.wait()


@contextmanager
def _line(
    spec: Spec, plan: Plan, state: State, port: str | None, baud: int, board: Board | None
) -> "Iterator[tuple[str, Transport]]":
    """What messages call the device, and the line to it: a port, or an emulated board."""
    if port is not None:
        from host_sim.link import SerialLine

        with SerialLine(port, baud) as line:
            yield port, line
        return
    from host_sim.firmware import emulated

    assert board is not None
    with emulated(make_project(spec, plan, state, board)) as device:
        yield f"emulated {board.name}", device


def _show_check(result: "CheckResult") -> None:
    for table in show.check_tables(result):
        _console().print(table)
    same = "equals" if result.c_equals_integers else "DIFFERS FROM"
    click.echo(
        f"{result.network}, {result.mode}, {result.samples} samples: the C {same} the integers "
        f"bit for bit; finite differences agree to {result.finite_difference_error:.0e}"
    )


def _show_training(result: "TrainingResult") -> None:
    _console().print(show.training_table(result))
    saturated = ", ".join(f"{name} {n}" for name, n in result.saturations.items()) or "none"
    click.echo(
        f"{result.ram_bytes:,} bytes of RAM; samples that saturated: {saturated}; parameters' "
        f"CRC-32 {result.parameters_crc32}; {result.steps_per_second:,.0f} steps/s on this machine"
    )


def _check_writable(path: Path) -> None:
    """Before the work of which the file would be the result."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{path}: cannot be written; choose another place")


def _check_folder(folder: Path) -> None:
    """Before the work; a folder that is not there yet is made with its parents."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"{there}: is a file; give a folder that is new or empty")
    if not os.access(there, os.W_OK):
        raise UserError(f"{folder}: cannot be written; choose another place")


def _need_matplotlib(path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("plots need matplotlib; pip install 'mcugrad[demo]'") from None
    known = sorted(Figure().canvas.get_supported_filetypes())
    if path.suffix.removeprefix(".").lower() not in known:
        raise UserError(f"{path}: no image is called so; end it in one of .{', .'.join(known)}")


def _plot(result: "TrainingResult", path: Path) -> None:
    from host_sim.plot import plot_curves

    plot_curves(result, path)


def _console() -> Console:
    """Tables keep their width where the output is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 100)


def _progress(visible: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} {task.fields[note]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not visible or not sys.stderr.isatty(),
    )


def _write_files(folder: Path, files: Mapping[str, str], may_hold: tuple[str, ...] = ()) -> None:
    """All files or none; a folder with anything else in it, but `may_hold`, is left alone."""
    known = {path for file in files for path in (Path(file), *Path(file).parents)}
    foreign = sorted(
        path for path in _inside(folder) if path not in known and path.parts[0] not in may_hold
    )
    if foreign:
        raise UserError(
            f"{folder}: holds {foreign[0]}, which mcugrad would not write; give a folder that is "
            "new or empty"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        for file, text in files.items():
            (Path(name) / file).parent.mkdir(parents=True, exist_ok=True)
            (Path(name) / file).write_text(text, encoding="utf-8")
        for file in files:
            (folder / file).parent.mkdir(exist_ok=True, parents=True)
            os.replace(Path(name) / file, folder / file)


def _inside(folder: Path) -> Iterator[Path]:
    """Everything in a folder, relative to it."""
    return (path.relative_to(folder) for path in folder.rglob("*"))
