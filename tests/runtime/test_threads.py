"""The team: one call at a time, safe after fork, and its size."""

import os
import sys
import threading

import pytest

from stepwell.runtime import threads


def test_every_thread_enters_once() -> None:
    team = threads.Team(3)
    meeting = threading.Barrier(3, timeout=10)
    seen = []

    def enter(frame: int, number: int) -> int:
        seen.append((frame, number))
        meeting.wait()
        return 7

    for _ in range(20):
        seen.clear()
        assert team.run(enter, 5, None) == 7
        assert sorted(seen) == [(5, 0), (5, 1), (5, 2)]
    team.close()


def test_the_team_serves_one_call_at_a_time() -> None:
    team = threads.Team(2)
    assert team.try_enter()
    assert not team.try_enter()
    team.leave()
    assert team.try_enter()


def test_size_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWELL_NUM_THREADS", "5")
    assert threads.default_threads() == 5
    monkeypatch.setenv("STEPWELL_NUM_THREADS", "many")
    with pytest.raises(ValueError, match="many"):
        threads.default_threads()
    with pytest.raises(ValueError, match="positive"):
        threads.set_num_threads(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="warns of threads in the parent")
def test_a_forked_child_has_a_team_of_its_own() -> None:
    before = threads.get_num_threads()
    threads.set_num_threads(2)
    meeting = threading.Barrier(2, timeout=10)
    threads.team().run(lambda frame, number: meeting.wait(), 0, None)
    child = os.fork()
    if child == 0:
        own = threading.Barrier(2, timeout=5)
        status = 1
        try:
            threads.team().run(lambda frame, number: own.wait(), 0, None)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    threads.set_num_threads(before)
