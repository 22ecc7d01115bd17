"""The costs that deploy/cost.py tells, beside what is worked out by hand."""

import re
from pathlib import Path

import pytest

from deploy import cost
from deploy.cost import Service, Team


def rows(capsys, *arguments: str) -> list[list[str]]:
    cost.main(arguments)
    return [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]


def test_three_a10g_at_a_dollar_and_ten_requests_a_second(capsys):
    """3 dollars buy 36,000 requests; of 100 tokens each, that is 3.6 million tokens."""
    service = Service(hourly=1.00, machines=3, requests_per_s=10, tokens=100)
    assert service.per_request == pytest.approx(3 / 36_000)
    assert service.per_1k_tokens == pytest.approx(3 / 3_600)
    words = "--machines 3 --machine a10g --requests-per-second 10 --tokens-per-request 100"
    given = rows(capsys, *words.split())[1]
    assert given[:4] == ["given", "1,000", "0.000833", "0.00008333"]


def test_the_measured_rates_are_below_a_cent_for_a_thousand_tokens(capsys):
    measured = [row for row in rows(capsys) if " on " in row[0]]
    assert len(measured) == len(list(cost.measured())) >= 4
    assert {row[0].partition(" on ")[0] for row in measured} == {"int8", "fp32, plain engine"}
    for row in measured:
        assert 0 < float(row[2]) < 0.01
    # the price it would take to get there: with the slowest of them, 9.75 dollars an hour
    slowest = min(rate for _, _, rate in cost.measured())
    assert Service(9.75, 1, slowest / 16, 16).per_1k_tokens > 0.0099


def test_a_machine_that_is_idle_half_of_the_time_costs_twice_as_much():
    service = Service(1.00, 1, 10, 16)
    assert Service(1.00, 1, 10, 16, busy=0.5).per_1k_tokens == pytest.approx(2 * service.per_1k_tokens)


def test_a_developer_month():
    """100 developers at 180 requests an hour ask 5 times a second, 15 at the peak: 2 machines, and 1 that may fail."""
    service = Service(hourly=1.00, machines=1, requests_per_s=10, tokens=16)
    team = Team(100, requests_per_hour=180)
    assert team.developer_month(service, autoscaled=False) == pytest.approx(3 * 730 / 100)
    at_work = 8 * 21
    assert team.developer_month(service, autoscaled=True) == pytest.approx((3 * at_work + 2 * (730 - at_work)) / 100)


def test_spot_is_cheaper_and_gpus_are_told_as_bounds(capsys):
    bounds, spot = rows(capsys), rows(capsys, "--spot")
    assert float(spot[1][2]) < float(bounds[1][2])
    (a10g,) = [row for row in bounds if row[0].startswith("a10g")]
    # 600 GB/s over 124 million weights of 4 bytes
    assert a10g[1].startswith("1,210 tokens/s, ") and a10g[4].startswith("9,677 tokens/s, ")
    cost.main([])
    assert "has not been measured" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--machine a11", "no machine 'a11'"),
        ("--requests-per-second 0", "must be above 0"),
        ("--busy 2", "at most 1"),
        ("--tokens-per-second 5 --requests-per-second 1", "not allowed"),
    ],
)
def test_nonsense_is_refused(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        cost.main(words.split())
    assert said in capsys.readouterr().err + str(ended.value)


def test_a_price_table_without_a_price_is_refused(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text("[machines.one]\non_demand = 1\n")
    with pytest.raises(ValueError, match=re.escape("machines.one needs on_demand and spot")):
        cost.machines(path)


def test_the_page_tells_what_the_commands_print(capsys):
    page = (Path(__file__).parents[2] / "docs" / "cost.md").read_text()
    commands = re.findall(r"^python -m deploy\.cost(.*)$", page, flags=re.MULTILINE)
    assert len(commands) == 4
    for words in commands:
        cost.main(words.split())
        printed = capsys.readouterr().out.strip()
        if "--hourly" not in words:  # there a reader's own figures stand for the example's
            assert printed in page, words
