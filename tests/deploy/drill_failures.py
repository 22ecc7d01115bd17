"""Replicas that die or are restarted while people type; run by test_cluster.py."""

import asyncio
import json

import pytest

from tests.deploy.editors import counts, failures


async def test_a_killed_replica_takes_only_its_streams_with_it(cluster):
    victim = cluster.replicas[1]
    async with cluster.editors(12) as editors:
        await editors.answers(40)
        victim.kill()
        await editors.answers(60)
        await asyncio.to_thread(victim.start)
        await editors.answers(40)
    found = counts(editors.outcomes)
    assert found["failed"] == found["refused"] == 0, failures(editors.outcomes)
    assert found["cut"] <= 12
    assert not failures(one for one in editors.outcomes if one.retry), "asked once more, all were answered"


async def roll(cluster, editors, replicas):
    for replica in replicas:
        await asyncio.to_thread(cluster.restart, replica)
        await editors.answers(10)


async def test_a_rolling_restart_loses_nothing(cluster):
    async with cluster.editors(12, pause_s=0.5) as editors:
        await editors.answers(20)
        await roll(cluster, editors, cluster.replicas[::2])  # the third one has just been restarted above
    assert not failures(editors.outcomes) and counts(editors.outcomes)["answered"] >= 40


@pytest.mark.full
@pytest.mark.timeout(900)
async def test_a_rolling_restart_under_fifty_editors_loses_nothing(cluster):
    async with cluster.editors(50, pause_s=1.0) as editors:
        await editors.answers(100)
        await roll(cluster, editors, cluster.replicas)
    assert not failures(editors.outcomes), json.dumps(failures(editors.outcomes)[:5])
