"""Tables written by hand: a line for each thing, columns parted by `|`, `-` for "not asked"."""


def table(text: str) -> list[tuple[str, ...]]:
    """The rows of a table, its first line (the names of the columns) left out."""
    rows = [tuple(cell.strip() for cell in line.split("|")) for line in text.strip().splitlines()]
    width = len(rows[0])
    for row in rows:
        assert len(row) == width and all(row), f"{width} columns, none empty, not {row}"
    return rows[1:]


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())
