"""Plain text tables for printed reports."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from onebit.printable import printable


def lay_out(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Lay out rows of cells in columns with two spaces between them. The first row is the heading, with a rule below it.

    Args:
        rows: the cells, equally many in each row. Control characters in them are escaped.
        right: the indices of columns that are aligned at the right, such as numbers.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = (
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    return "\n".join([line(rows[0]), "  ".join("-" * width for width in widths), *map(line, rows[1:])])
