"""What is said of a server's refusal."""

from __future__ import annotations

from esl_dist.tracking.backend import MAX_REASON, reason

OUTDATED = (
    "Detected out-of-date database schema (found version 7ac759974ad8, but expected 451aebb31d03). Take a backup of "
    "your database, then run 'mlflow db upgrade <database_uri>'\n to migrate your database to the latest schema."
)


def test_the_remedy_is_not_cut_off() -> None:
    try:
        try:
            raise ValueError(OUTDATED)
        except ValueError as error:
            raise RuntimeError("the store cannot be opened") from error
    except RuntimeError as error:
        said = reason(error)
    assert "out-of-date" in said and "mlflow db upgrade" in said and said.endswith("latest schema.")
    assert "\n" not in said and "cannot be opened" not in said


def test_it_stays_one_line_of_bounded_length() -> None:
    assert reason(TimeoutError()) == "TimeoutError"
    assert len(reason(ValueError("word " * 1000))) == MAX_REASON
