"""What `python -m tests.faults` prints: every row once, and a fault that is not as it must be gives status 1."""

import pytest

from tests.faults import __main__ as table
from tests.faults.fault import Fault, Seen


@pytest.mark.parametrize(("is_right", "status"), [(True, 0), (False, 1)])
def test_a_row_that_is_not_as_it_must_be_gives_status_1(monkeypatch, capsys, is_right, status):
    row = Fault("A1", "a | fault", lambda folder: Seen(2, "one\nline", "nothing", is_right))
    monkeypatch.setattr(table, "all_faults", lambda: [row])
    assert table.main([]) == status
    printed = capsys.readouterr().out
    assert "| 2 | nothing | one line |" in printed
    assert f"{int(is_right)} of 1 rows" in printed


def test_a_row_that_breaks_itself_is_wrong_and_does_not_hide_the_next(monkeypatch, capsys):
    def broken(folder):
        raise OSError("gone")

    rows = [Fault("A1", "broken", broken), Fault("A2", "whole", lambda folder: Seen(0, "", "nothing", True))]
    monkeypatch.setattr(table, "all_faults", lambda: rows)
    assert table.main([]) == 1
    assert "the row itself failed: OSError: gone" in capsys.readouterr().out


def test_every_letter_and_number_of_the_table_has_a_row():
    rows = {fault.row for fault in table.all_faults()}
    assert rows == {*(f"A{number}" for number in range(1, 12)), *(f"B{number}" for number in range(1, 5))}


def test_an_unknown_row_is_refused_with_those_there_are():
    with pytest.raises(SystemExit, match=r"--only: got C9, expected A, B or some of A1 .* B4"):
        table.main(["--only", "C9"])
