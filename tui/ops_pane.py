"""The ops of one row in causal order: state, fingerprints of both runs, kernels."""

from functools import partial

from rich.text import Text

from detrec.printable import counted
from detrec.replayer.survey.cell import State
from detrec.replayer.survey.rows import OpOfRow, Row
from detrec.tui import words
from detrec.tui.listing import Listing
from detrec.tui.palette import Palette
from detrec.tui.pane import holding
from detrec.tui.table import Column, Table, widest


class OpsPane(Listing):
    """`ops[line]` is the op that a line shows: a filter leaves some out."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, title="Ops")
        self.ops: tuple[int, ...] = ()

    def show_row(
        self,
        row: Row,
        op: int,
        palette: Palette,
        *,
        alone: bool,
        several: bool,
        find: str = "",
        born_only: bool = False,
    ) -> None:
        """The row's ops whose line holds `find`, the cursor on `op` or the nearest after it."""
        self.entitle(f"Ops of {words.place(row.cell)}", find)
        table = _table(row, alone=alone, several=several)
        line = partial(_line, table, palette=palette, alone=alone, several=several)
        kept = [op for op in row.ops if op.state is State.BORN] if born_only else row.ops
        shown = holding(kept, line, find)
        self.ops = tuple(each.op for each in shown)
        self.border_subtitle = counted(len(shown), "op")
        cursor = next((at for at, number in enumerate(self.ops) if number >= op), len(self.ops) - 1)
        self.offer(len(shown), lambda at: line(shown[at]), header=lambda: [table.header()], cursor=cursor)


def _table(row: Row, *, alone: bool, several: bool) -> Table:
    name = Column("op", widest([op.name for op in row.ops], 8, 20))
    rank = [Column("rank", 4, right=True)] if several else []
    if alone:
        return Table(
            (Column("", 1), name, Column("state", 9), *rank, Column("fingerprint", 16), Column("kernel"))
        )
    return Table(
        (
            Column("", 1),
            name,
            Column("state", 9),
            *rank,
            Column("recorded", 16),
            Column("replayed", 16),
            Column("kernel"),
        )
    )


def _line(table: Table, op: OpOfRow, *, palette: Palette, alone: bool, several: bool) -> Text:
    state = palette.states[op.state]
    cells: list[str | Text] = [palette.symbol(op.state), op.name, Text(op.state.name.lower(), state)]
    if several:
        cells.append(str(op.rank))
    differs = palette.changed if op.recorded != op.replayed and not alone else palette.quiet
    cells.append(Text(words.bits(op.recorded), palette.quiet))
    if not alone:
        cells.append(Text(words.bits(op.replayed), differs))
    return table.line(*cells, kernels(op.recorded_kernel, op.replayed_kernel, palette, alone=alone))


def kernels(recorded: str, replayed: str, palette: Palette, *, alone: bool) -> Text:
    """One name where both runs had the same kernel, else both."""
    if alone or recorded == replayed:
        return Text(recorded or "not run", palette.quiet)
    return Text.assemble(
        (recorded or "not run", palette.quiet), " → ", (replayed or "not run", palette.changed)
    )
