"""``bench --what study``: trials in a study beside the same trainings bare, and the arithmetic between them."""

from __future__ import annotations

import itertools

import pytest

from esl_dist.benchmarks import study


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_trial_beside_its_own_training_alone() -> None:
    pytest.importorskip("ray")
    pytest.importorskip("optuna")
    found = study.run(trials=3, ranks=1)
    assert len(found["bare_s"]) == 3 and all(seconds > 0 for seconds in found["bare_s"])
    assert len(found["inside_s"]) == len(found["overhead_s"]) == 2
    assert all(inside >= between >= 0 for inside, between in zip(found["inside_s"], found["between_s"], strict=True))
    assert sum(found["inside_s"]) < found["study_s"]
    assert found["overhead_s"] == [
        inside - bare for inside, bare in zip(found["inside_s"], found["bare_s"][1:], strict=True)
    ]
    for low, high in itertools.pairwise(sorted(found["overhead_s"])):
        assert f"({low:.2f} to {high:.2f})" in study.table(found)
