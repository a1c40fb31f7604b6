import pytest

from app.jobs.states import MOVES, IllegalMove, JobStatus, check_move

LEGAL = {
    ("queued", "running"),
    ("queued", "cancelled"),
    ("queued", "paused"),
    ("paused", "queued"),
    ("paused", "cancelled"),
    ("running", "paused"),
    ("running", "succeeded"),
    ("running", "failed"),
    ("running", "cancelled"),
    ("running", "queued"),
}


@pytest.mark.parametrize("before", JobStatus)
@pytest.mark.parametrize("after", JobStatus)
def test_only_the_written_moves_are_legal(before, after):
    if (before.value, after.value) in LEGAL:
        check_move(before, after)
    else:
        with pytest.raises(IllegalMove, match=f"from {before} to {after}"):
            check_move(before, after)


def test_no_move_leads_out_of_an_end():
    assert {status for status in JobStatus if status.has_ended} == {"succeeded", "failed", "cancelled"}
    assert set(MOVES) == set(JobStatus)
