"""A cohort on a Dask scheduler with two worker processes, one of which is killed."""

import os
import signal

import pytest

from CLMorphCore.cohorts.cluster import work_on
from CLMorphCore.cohorts.scans import find_cohort
from CLMorphCore.errors import Cancelled

from .conftest import NAMES, check_whole, digests

distributed = pytest.importorskip("distributed")


def test_one_of_two_workers_is_killed_and_the_labels_are_the_same(made_scans, settings, tmp_path, expected):
    out, outcomes, killed = tmp_path / "out", [], []
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:

        def kill_one():
            if outcomes and not killed:
                worker = next(iter(cluster.workers.values()))
                killed.append(worker.pid)
                os.kill(worker.pid, signal.SIGKILL)

        address = cluster.scheduler_address
        for outcome in work_on(address, find_cohort(made_scans, out).scans, settings, settings.made(), kill_one):
            outcomes.append(outcome)
    assert killed
    assert sorted(o.name for o in outcomes) == list(NAMES) and not any(o.failure for o in outcomes)
    assert digests(out) == expected
    check_whole(out)


def test_a_scheduler_without_workers_is_waited_for_and_said(made_scans, settings, tmp_path, capsys):
    scans = find_cohort(made_scans, tmp_path / "out").scans

    def cancel():
        raise Cancelled

    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        pytest.raises(Cancelled),
    ):
        list(work_on(cluster.scheduler_address, scans, settings, settings.made(), cancel))
    assert "has no worker yet" in capsys.readouterr().err
