"""An ELF file -> the bytes to load, and the function and line that each instruction comes from."""

from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from elftools.dwarf.descriptions import describe_form_class
from elftools.dwarf.ranges import BaseAddressEntry
from elftools.elf.elffile import ELFFile

_HEADER = ".h"  # what comes from a header counts for the function that it is inlined into


class Elf:
    """A linked program; `sources` are the C files whose functions are told apart when inlined."""

    def __init__(self, path: Path, sources: frozenset[str]):
        self._file = ELFFile(BytesIO(path.read_bytes()))
        self._sources = sources
        text = self._file.get_section_by_name(".text")
        self.start: int = text["sh_addr"]
        self.code: bytes = text.data()

    @cached_property
    def symbols(self) -> dict[str, int]:
        """Addresses of functions; bit 0 says that an address holds Thumb code."""
        return {name: address for name, address, _ in self._functions}

    def function_at(self, address: int) -> str:
        """The function of the C files that an instruction comes from, even where it is inlined.

        What comes from a header belongs to the function that it is inlined into.
        """
        index = (address - self.start) >> 1
        inside = 0 <= index < len(self._owners)
        return self._names[self._owners[index]] if inside else "unknown code"

    def extent(self, address: int) -> tuple[int, int]:
        """First address of the function that begins here, and the first behind it.

        Those of assembly have no size: they end where the next one begins. One of them may jump
        into the middle of another, which then counts from there.
        """
        sizes = [size for _, start, size in self._functions if start & ~1 == address]
        size = max(sizes, default=0)
        later = [start & ~1 for _, start, _ in self._functions if start & ~1 > address]
        end = min(later, default=self.start + len(self.code))
        return address, address + size if size else end

    def word(self, address: int, size: int) -> int:
        """Of `size` bytes."""
        at = address - self.start
        return int.from_bytes(self.code[at : at + size], "little")

    def is_data(self, address: int) -> bool:
        """Whether constants lie here, among the instructions of Thumb."""
        starts, kinds = self._mapping
        index = bisect_right(starts, address) - 1
        return index >= 0 and kinds[index].startswith("$d")

    @cached_property
    def _mapping(self) -> tuple[list[int], list[str]]:
        """Where code and constants begin, by the mapping symbols of the Arm ELF specification."""
        table = self._file.get_section_by_name(".symtab").iter_symbols()
        marks = sorted((s["st_value"], s.name) for s in table if s.name.startswith(("$d", "$t")))
        return [start for start, _ in marks], [kind for _, kind in marks]

    def line_at(self, address: int) -> str:
        """File and line of an instruction, or nothing where the compiler left no trace of it."""
        starts, places = self._lines
        index = bisect_right(starts, address) - 1
        return places[index] if index >= 0 else ""

    @cached_property
    def _functions(self) -> list[tuple[str, int, int]]:
        """Name, address and bytes; of several names for one address the shortest comes last."""
        table = self._file.get_section_by_name(".symtab")
        found = [s for s in table.iter_symbols() if s["st_info"]["type"] == "STT_FUNC"]
        ordered = sorted(found, key=lambda s: -len(s.name))
        return [(s.name, s["st_value"], s["st_size"]) for s in ordered]

    # who owns an instruction: the symbol, then whatever was inlined there, the innermost last

    @cached_property
    def _names(self) -> list[str]:
        return ["unknown code"]

    @cached_property
    def _owners(self) -> np.ndarray:
        """For each halfword of code the index of its function's name."""
        owners = np.zeros(len(self.code) // 2, np.intp)
        for name, address, size in self._functions:
            self._paint(owners, name, address & ~1, (address & ~1) + size)
        for unit in self._units():
            for name, low, high in self._inlined(unit, unit.get_top_DIE()):
                self._paint(owners, name, low, high)
        return owners

    def _paint(self, owners: np.ndarray, name: str, low: int, high: int) -> None:
        if name not in self._names:
            self._names.append(name)
        owners[(low - self.start) >> 1 : (high - self.start) >> 1] = self._names.index(name)

    @cached_property
    def _dwarf(self) -> Any:
        return self._file.get_dwarf_info()

    def _units(self) -> Iterator[Any]:
        if not self._file.has_dwarf_info():
            return
        for unit in self._dwarf.iter_CUs():
            name = unit.get_top_DIE().attributes["DW_AT_name"].value.decode()
            if PurePosixPath(name).name in self._sources:
                yield unit

    def _inlined(self, unit: Any, parent: Any) -> Iterator[tuple[str, int, int]]:
        """Ranges of what is inlined, each before those that are inlined into it."""
        for die in parent.iter_children():
            if die.tag == "DW_TAG_inlined_subroutine":
                origin = die.get_DIE_from_attribute("DW_AT_abstract_origin")
                if not self._file_of(unit, origin).endswith(_HEADER):
                    name = origin.attributes["DW_AT_name"].value.decode()
                    yield from ((name, low, high) for low, high in self._ranges(unit, die))
            yield from self._inlined(unit, die)

    def _file_of(self, unit: Any, die: Any) -> str:
        program = self._dwarf.line_program_for_CU(unit)
        return _file_name(program, die.attributes["DW_AT_decl_file"].value)

    def _ranges(self, unit: Any, die: Any) -> Iterator[tuple[int, int]]:
        attributes = die.attributes
        if "DW_AT_low_pc" in attributes:
            low, high = attributes["DW_AT_low_pc"].value, attributes["DW_AT_high_pc"]
            is_address = describe_form_class(high.form) == "address"
            yield low, high.value if is_address else low + high.value
        elif "DW_AT_ranges" in attributes:
            base = unit.get_top_DIE().attributes["DW_AT_low_pc"].value
            lists = self._dwarf.range_lists()
            for entry in lists.get_range_list_at_offset(attributes["DW_AT_ranges"].value, cu=unit):
                if isinstance(entry, BaseAddressEntry):
                    base = entry.base_address
                else:
                    offset = 0 if getattr(entry, "is_absolute", False) else base
                    yield offset + entry.begin_offset, offset + entry.end_offset

    @cached_property
    def _lines(self) -> tuple[list[int], list[str]]:
        """Addresses in order, and the line that each begins."""
        places: dict[int, str] = {}
        for unit in self._units():
            program = self._dwarf.line_program_for_CU(unit)
            for entry in program.get_entries():
                state = entry.state
                if state is None:
                    continue
                place = f"{_file_name(program, state.file)}:{state.line}"
                places[state.address] = "" if state.end_sequence else place
        starts = sorted(places)
        return starts, [places[start] for start in starts]


def _file_name(program: Any, number: int) -> str:
    """Files are counted from 1 before DWARF 5, from 0 since."""
    header = program.header
    index = number if header["version"] >= 5 else number - 1
    name: bytes = header["file_entry"][index].name
    return PurePosixPath(name.decode()).name


def section_bytes(path: Path, *beginnings: str) -> int:
    """Bytes of the sections of an object file whose names begin so."""
    sections = ELFFile(BytesIO(path.read_bytes())).iter_sections()
    return sum(s["sh_size"] for s in sections if s.name.startswith(beginnings))
