"""Tables: ranks, averages, what is missing."""

from __future__ import annotations

from medcoss_cli.comparing.tables import Cell, Grid, Heading, _average, _ranked, csv_of, html, latex

HIGH = Heading("tiles", "accuracy", "Accuracy", True, False)


def grid(*cells: Cell) -> Grid:
    return Grid("T", "About", [f"m{i}_&" for i in range(len(cells))], [HIGH], [[cell] for cell in cells], "m0_&")


def test_best_and_second_are_marked_and_ties_share_a_rank() -> None:
    cells = [Cell(value) for value in (0.5, 0.9, 0.9, 0.7, None)]
    assert [cell.rank for cell in _ranked(cells, lower=False)] == [0, 1, 1, 2, 0]
    assert [cell.rank for cell in _ranked(cells, lower=True)] == [1, 0, 0, 2, 0]


def test_where_all_are_the_same_nothing_is_marked() -> None:
    assert [cell.rank for cell in _ranked([Cell(0.5), Cell(0.5)], lower=False)] == [0, 0]


def test_an_average_needs_every_task() -> None:
    assert _average([Cell(0.5), Cell(0.7)]).mean == 0.6
    assert _average([Cell(0.5), Cell(status="failed")]).text(True) == "failed"


def test_a_failed_cell_is_shown_as_failed() -> None:
    texts = [cell.text(True) for cell in (Cell(0.5, 0.01), Cell(status="failed"), Cell(status="missing"), Cell())]
    assert texts == ["50.0 ± 1.0", "failed", "not made", "–"]
    made = html(grid(Cell(0.5), Cell(status="failed")))
    assert ">failed<" in made
    assert "m1_&amp;" in made
    assert r"m1\_\& & failed" in latex(grid(Cell(0.5), Cell(status="failed")))


def test_csv_has_a_heading_without_rows_too() -> None:
    assert csv_of([{"a": 1}, {"b": 2}], ("a", "b")).decode() == "a,b\n1,\n,2\n"
    assert csv_of([], ("a", "b")).decode() == "a,b\n"
