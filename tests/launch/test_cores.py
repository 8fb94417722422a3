"""How many cores a process takes itself to have: what it is bound to, and what its container is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from esl_dist import processes


def folder(root: Path, path: str, **files: str) -> None:
    (root / path).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (root / path / name.replace("__", ".")).write_text(content + "\n")


@pytest.mark.parametrize(
    ("own", "groups", "expected"),
    [
        # version 2: a container sees its own group as the root
        ("0::/", {"": {"cpu__max": "200000 100000"}}, [2]),
        ("0::/", {"": {"cpu__max": "max 100000"}}, []),
        ("0::/", {"": {"cpu__max": "50000 100000"}}, [1]),
        ("0::/", {"": {"cpu__max": "250000 100000"}}, [3]),
        # a limit of a group above counts, too
        ("0::/pods/mine", {"pods": {"cpu__max": "400000 100000"}, "pods/mine": {"cpu__max": "800000 100000"}}, [8, 4]),
        # the path is the host's: what is mounted is the group
        ("0::/../../docker/17ab", {"": {"cpu__max": "600000 100000"}}, [6]),
        # version 1
        (
            "4:memory:/m\n3:cpu,cpuacct:/docker/17ab\n0::/",
            {"cpu,cpuacct": {"cpu__cfs_quota_us": "350000", "cpu__cfs_period_us": "100000"}},
            [4],
        ),
        ("3:cpu:/", {"cpu": {"cpu__cfs_quota_us": "-1", "cpu__cfs_period_us": "100000"}}, []),
        ("3:cpuset:/", {"cpuset": {"cpu__cfs_quota_us": "100000", "cpu__cfs_period_us": "100000"}}, []),
        # what cannot be read limits nothing
        ("0::/", {"": {"cpu__max": "many"}}, []),
        ("0::/", {"": {"cpu__max": "100000 0"}}, []),
        ("", {}, []),
        ("something else", {}, []),
    ],
)
def test_a_containers_time_is_read(
    own: str, groups: dict[str, dict[str, str]], expected: list[int], tmp_path: Path
) -> None:
    for path, files in groups.items():
        folder(tmp_path, path, **files)
    assert list(processes._quotas(tmp_path, own)) == expected


def test_the_smallest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda who: set(range(64)))
    for quotas, expected in (([], 64), ([8, 4], 4), ([128], 64), ([0], 1)):
        monkeypatch.setattr(processes, "_quotas", lambda mounted, own, found=quotas: iter(found))
        assert processes.cores() == expected
