"""The clients that are not Python: each runs its scenarios in one program, and each scenario counts as
one test. How the programs are started is in programs.py."""

import pytest

from programs import scenarios

pytestmark = pytest.mark.kafka

COMMON = ["produce", "group", "time", "idempotent", "admin"]
SCENARIOS = {
    "java": [
        *COMMON, "compressed", "transactions", "exactly_once", "fenced", "admin_groups", "admin_offsets",
        "admin_producers", "admin_log_dirs",
    ],
}
SCENARIOS["kafkajs"] = [*COMMON, "compressed", "transactions", "admin_groups"]
SCENARIOS["platformatic"] = SCENARIOS["kafkajs"]
SCENARIOS["franz"] = [*COMMON, "compressed", "transactions", "exactly_once", "admin_groups"]
SCENARIOS["sarama"] = [*COMMON, "compressed", "transactions", "admin_groups"]
SCENARIOS["java-old"] = SCENARIOS["java"]


# One worker runs all scenarios of a client: they come out of one run of its program.
CASES = [
    pytest.param(client, scenario, marks=pytest.mark.xdist_group(client))
    for client, names in SCENARIOS.items() for scenario in names
]


@pytest.mark.parametrize("client,scenario", CASES)
def test_scenario(door, client, scenario):
    verdicts, output = scenarios(client, door.bootstrap)
    assert scenario in verdicts, f"{client} said nothing of {scenario}:\n{output}"
    assert not verdicts[scenario], f"{client}: {verdicts[scenario]}\n{output}"
