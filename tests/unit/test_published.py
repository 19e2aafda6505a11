"""The paper's tables: every printed average and gain comes out of the printed scores, but for the cells named here."""

import pytest

from omni_r1.bench.published import ABLATION, BENCH, COUNTS, GAINS, GENERAL_ROWS, SLICES, claims, differences
from omni_r1.bench.statistics import OVERALL

# Mean of Table 3's scores as printed: 45.7361; the scores' own rounding allows 45.732 to 45.740.
DIFFERS = {(3, "Omni-R1-Zero-T"): ("45.73", "45.74")}


@pytest.mark.parametrize("row", [*BENCH, *GENERAL_ROWS, *ABLATION], ids=lambda row: f"{row.table} {row.model}")
def test_averages_to_the_printed_digit(row):
    printed, found = (f"{value:.{row.digits}f}" for value in (row.average, row.recomputed()))
    assert (printed, found) == DIFFERS.get((row.table, row.model), (printed, printed))


@pytest.mark.parametrize("rows", [BENCH, GENERAL_ROWS], ids=lambda rows: f"table {rows[0].table}")
def test_gains_to_the_printed_digit(rows):
    """Table 2's are those of its printed averages, Table 3's of these or of unrounded ones."""
    for row in rows:
        for printed, base in zip(GAINS[row.table][row.model], rows, strict=False):
            found = {f"{100 * (row.average / base.average - 1):.1f}"}
            if row.table == 3:
                found.add(f"{100 * (row.recomputed() / base.recomputed() - 1):.1f}")
            assert printed is None or f"{printed:.1f}" in found


def test_rows_are_of_800_questions():
    assert COUNTS[OVERALL] == 800 and sum(SLICES.values()) == 800
    averaged = [row.model for row in (*BENCH, *ABLATION) if any(row.right(name) is None for name in SLICES)]
    assert averaged == ["Zebra-CoT (Anole)"]  # no whole number of its answers gives its shares: means of several runs


def test_which_claims_are_more_than_noise():
    found = {(one.table, one.model, other.model): differences(one, other) for one, other in claims()}
    assert len(found) == 24
    for (table, model, other), pair in found.items():
        if table == 2:  # every model over Anole, none over Zebra-CoT
            assert pair[OVERALL].excludes_zero == (other == "Anole"), model
    assert found[4, "Omni-R1-Zero-M", "without PeRPO"][OVERALL].excludes_zero
    assert not found[4, "Omni-R1-Zero-M", "without its perception reward"][OVERALL].excludes_zero
    assert found[2, "Omni-R1-Zero-S", "Zebra-CoT (Anole)"]["natural"].value < 0  # claimed better on all slices
