"""Experiments: who is in, what is counted, and when a candidate is taken back."""

import asyncio
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference_service.model import directory
from inference_service.registry.errors import RolloutFault
from inference_service.registry.experiment import Experiment
from inference_service.registry.state import State
from inference_service.registry.statistics import Arm, Limits, verdict, wilson

LIMITS = Limits(min_samples=50)


@given(st.text(), st.floats(0, 100), st.floats(0, 100))
def test_a_session_that_is_in_stays_in_when_the_share_rises(session, one, other):
    small, large = (Experiment("v", "canary", percent) for percent in sorted((one, other)))
    assert small.includes(session) <= large.includes(session)
    assert not Experiment("v", "canary", 0).includes(session) and Experiment("v", "canary", 100).includes(session)


def test_the_share_is_the_share():
    for percent in (5, 30):
        experiment = Experiment("v", "canary", percent)
        share = sum(experiment.includes(f"session-{number}") for number in range(10_000)) / 100
        assert abs(share - percent) < 1.5


@given(st.integers(0, 500), st.integers(0, 500))
def test_the_interval_holds_the_rate(successes, more):
    low, high = wilson(successes, successes + more)
    assert 0 <= low <= high <= 1
    if successes + more:
        assert low <= successes / (successes + more) + 1e-12 and high >= successes / (successes + more) - 1e-12


@pytest.mark.parametrize("wrong", [{"percent": "ten"}, {"percent": None}, {"limits": {"min_samples": "few"}}])
def test_an_experiment_that_somebody_wrote_by_hand_is_understood_or_told(wrong):
    by_hand = {"version": "v", "kind": "canary", "percent": "10", "limits": {"min_samples": "50"}}
    assert State.from_json({"active": "base", "experiment": by_hand}).experiment == Experiment("v", "canary", 10.0)
    with pytest.raises(RolloutFault, match="not understood"):
        State.from_json({"active": "base", "experiment": by_hand | wrong})


def arm(errors=0, slow=0, shown=0, accepted=0, of=200):
    return Arm(completions=of, errors=errors, timed=of - errors, slow=slow, shown=shown, accepted=accepted)


@pytest.mark.parametrize(
    ("control", "candidate", "reason"),
    [
        (arm(), arm(), None),
        (arm(), arm(errors=40), "errors"),
        (arm(), arm(errors=4), None),
        (arm(), arm(errors=49, of=49), None),
        (arm(), arm(slow=60), "latency"),
        (arm(), arm(slow=12), None),
        (arm(shown=200, accepted=80), arm(shown=200, accepted=20), "acceptance"),
        (arm(shown=200, accepted=80), arm(shown=200, accepted=70), None),
        (arm(shown=200, accepted=20), arm(shown=200, accepted=80), None),
        (arm(shown=200, accepted=80), arm(shown=20, accepted=0), None),
    ],
)
def test_a_candidate_goes_when_it_is_surely_worse(control, candidate, reason):
    assert verdict(LIMITS, control, candidate) == reason


@given(st.lists(st.booleans(), min_size=0, max_size=49))
def test_too_few_samples_decide_nothing(failed):
    candidate = Arm(completions=len(failed), errors=sum(failed))
    assert verdict(LIMITS, arm(), candidate) is None


async def test_a_canary_answers_its_share_and_is_promoted(here, store):
    service = await here()
    base = await service.version()
    started = await service.begin(store.one, kind="canary", percent=50)
    assert started.status_code == 200, started.text
    versions = {number: await service.version(f"s{number}") for number in range(30)}
    assert set(versions.values()) == {base, store.one}
    assert {number: await service.version(f"s{number}") for number in range(30)} == versions, "a session stays"
    (figures,) = (await service.experiments())["experiments"]
    assert figures["candidate"]["completions"] == 2 * list(versions.values()).count(store.one)
    assert (await service.begin(store.two, kind="canary", percent=1)).status_code == 409, "one at a time"
    assert (await service.activate(store.two)).status_code == 409
    assert (await service.begin(store.one, kind="canary", percent=90)).status_code == 200, "more of it"
    assert (await service.activate(store.one)).status_code == 200
    assert (await service.experiments())["experiments"] == []
    assert {await service.version(f"s{number}") for number in range(9)} == {store.one}


async def test_who_has_no_session_is_in_by_user_or_by_request(here, store):
    service = await here()
    base = await service.version()
    assert (await service.begin(store.one, kind="canary", percent=50)).status_code == 200
    people = {number: await service.version(user=f"u{number}") for number in range(20)}
    assert set(people.values()) == {base, store.one}
    assert {number: await service.version(user=f"u{number}") for number in range(20)} == people, "a user stays"
    assert {await service.version() for _ in range(40)} == {base, store.one}, "of anonymous requests each counts alone"


async def test_a_shadow_is_measured_and_never_seen(here, store):
    service = await here()
    base = await service.version()
    assert (await service.begin(store.one, kind="shadow", percent=100)).status_code == 200
    for number in range(10):
        assert await service.version(f"s{number}", temperature=0) == base
    figures: dict = {}
    async with asyncio.timeout(60):
        while not figures.get("compared"):
            (figures,) = (await service.experiments())["experiments"]
            await asyncio.sleep(0.02)
    assert figures["candidate"]["errors"] == 0 and 0 <= figures["agreement"] <= 1
    assert 'midfill_shadow_completions_total{agreed="' in await service.metrics()
    for _ in range(2):
        ended = await service.http.delete("/admin/experiments")
        assert ended.status_code == 200 and ended.json()["experiments"] == []


async def test_a_bad_canary_is_taken_back_by_itself(here, store, caplog):
    service = await here()
    base = await service.version()
    assert (await service.begin(store.one, kind="canary", percent=50, min_samples=10)).status_code == 200
    nan = torch.full((1, 1), float("nan"))  # as from a bad device, after the self-test
    service.app.state.service.backend._on_trial.candidate.backend._runner.forward = lambda work: nan.expand(
        sum(item.logits for item in work), directory.load(store.path / "one").config.vocab_size
    )
    statuses = [(await service.ask(f"s{number}", "x = ")).status_code for number in range(60)]
    assert 500 in statuses, "it was bad"
    after = await service.experiments()
    assert after["experiments"] == [] and after["last_rollback"]["reason"] == "errors"
    assert after["last_rollback"]["candidate"]["errors"] == statuses.count(500) == 10
    assert {await service.version(f"s{number}", prompt="x = ") for number in range(30)} == {base}
    assert 'midfill_experiment_rollbacks_total{reason="errors"} 1.0' in await service.metrics()
    assert "experiment rolled back" in caplog.text
    assert json.loads((store.path / "rollout.json").read_text())["experiment"] is None


async def test_a_canary_that_people_like_less_is_taken_back(here, store):
    service = await here()
    assert (await service.begin(store.one, kind="canary", percent=50, min_samples=10)).status_code == 200
    for number in range(200):
        answer = (await service.ask(f"s{number}")).json()
        liked = answer["midfill"]["model_version"] != store.one
        for event in ("shown", "accepted" if liked else "dismissed"):
            await service.http.post("/v1/events", json={"completion_id": answer["id"], "event": event})
        after = await service.experiments()
        if not after["experiments"]:
            break
    assert after["last_rollback"]["reason"] == "acceptance"


async def test_an_experiment_and_a_swap_reach_the_other_replica_and_the_next_process(here, store, monkeypatch):
    monkeypatch.setattr("inference_service.registry.deployments._FOLLOW_S", 0.05)
    one, two = await here(), await here()

    async def until(client, condition):
        async with asyncio.timeout(60):
            while not condition(await client.experiments(), (await client.http.get("/admin/models")).json()):
                await asyncio.sleep(0.02)

    assert (await one.activate(store.one)).status_code == 200
    await until(two, lambda _, models: models["active"] == store.one)
    assert (await one.begin(store.two, kind="canary", percent=100)).status_code == 200
    await until(two, lambda experiments, _: experiments["experiments"])
    assert await two.version("s") == store.two
    later = await here()
    await until(later, lambda experiments, _: experiments["experiments"])
    assert await later.version("s") == store.two
    assert (await two.http.delete("/admin/experiments")).status_code == 200
    await until(one, lambda experiments, _: not experiments["experiments"])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"kind": "canary", "percent": 5}, "version"),
        ({"version": "x", "kind": "all", "percent": 5}, "kind"),
        ({"version": "x", "kind": "canary", "percent": 101}, "percent"),
        ({"version": "x", "kind": "canary", "percent": 5, "min_samples": 1}, "min_samples"),
    ],
)
async def test_bad_experiments_are_told(serve, body, param):
    api = await serve()
    answer = await api.client.put("/admin/experiments", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param
