"""What the account of the mirror is allowed at the cluster: what `check --connect` says of each permission that
is missing, and what the mirror does without."""

import time
import uuid

import pytest
from confluent_kafka.admin import (
    AclBinding, AclBindingFilter, AclOperation, AclPermissionType, ResourcePatternType, ResourceType,
)

from fleet import Fleet
from test_mirror_secure import Door, checked
from test_mirror_trouble import SECOND, publish, row, wait_row

pytestmark = [pytest.mark.mirror, pytest.mark.guarded]

GUEST = """
sasl_mechanism = "PLAIN"
sasl_username = "guest"
sasl_password = "env:GUEST_PASSWORD"
"""


@pytest.fixture(autouse=True)
def password(monkeypatch):
    monkeypatch.setenv("GUEST_PASSWORD", "guest-secret")


def binding(kind, name, operation, pattern=ResourcePatternType.LITERAL):
    return AclBinding(kind, name, pattern, "User:guest", "*", operation, AclPermissionType.ALLOW)


def allow(cluster, *bindings):
    admin = cluster.admin()  # what it was asked for ends with it
    for future in admin.create_acls(list(bindings)).values():
        future.result(30)


def forbid(cluster, kind, name, operation):
    one = AclBindingFilter(
        kind, name, ResourcePatternType.LITERAL, "User:guest", "*", operation, AclPermissionType.ALLOW
    )
    admin = cluster.admin()
    for future in admin.delete_acls([one]).values():
        assert future.result(30)


def test_check_connect_names_what_is_not_allowed(guarded, mirroring):
    run = uuid.uuid4().hex[:6]
    target, positions, commands, identity = f"t-{run}", f"p-{run}", f"c-{run}", f"plant-{run}"
    guarded.create(target, 1)
    node = mirroring(
        Door(guarded.doors["SASL_PLAINTEXT"]), target,
        mirror=f'identity = "{identity}"\npositions_topic = "{positions}"{GUEST}',
    )
    node.config += f"""
[[downlink]]
name = "down"
kafka_topic = "{commands}"
topic = "devices/{{key}}/command"
group = "g-{run}"
"""
    topic, group, transactions = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID
    def grant(*of):
        return lambda: allow(guarded, binding(*of))

    def found():
        # Only asked for so far: nothing was made.
        assert positions not in guarded.admin().list_topics(timeout=10).topics
        grant(topic, positions, AclOperation.CREATE)()
        until_said(node, f"topic {positions} is not there and will be created")
        guarded.create(positions, 1)

    steps = [
        (f"may not see the topic {target}", grant(topic, target, AclOperation.DESCRIBE)),
        (f"may not write the topic {target}", grant(topic, target, AclOperation.WRITE)),
        (f"may not see the topic {positions}", grant(topic, positions, AclOperation.DESCRIBE)),
        (f"cannot create the topic {positions}: not authorised", found),
        (f"may not read the topic {positions}", grant(topic, positions, AclOperation.READ)),
        (
            f"may not commit the positions of the mirror to the group {identity}-positions",
            grant(group, f"{identity}-positions", AclOperation.READ),
        ),
        (
            f"may not write the transactional id {identity}-check-0",
            grant(transactions, f"{identity}-", AclOperation.WRITE, ResourcePatternType.PREFIXED),
        ),
        (f"may not see the topic {commands}", grant(topic, commands, AclOperation.DESCRIBE)),
        (f"unknown topic {commands}: the downlink down reads it", lambda: guarded.create(commands, 1)),
        (f"may not read the topic {commands} of the downlink down", grant(topic, commands, AclOperation.READ)),
        (
            f"may not commit where the downlink down is to the group g-{run}",
            grant(group, f"g-{run}", AclOperation.READ),
        ),
    ]
    for words, mend in steps:
        until_said(node, words)
        mend()
    until_said(node, f"topic {commands} of the downlink down can be read", 0)


def until_said(node, words, wanted=1, seconds=20):
    """What was allowed last takes effect a moment later."""
    end = time.monotonic() + seconds
    while True:
        status, said = checked(node)
        if words in said and status == wanted:
            return
        assert time.monotonic() < end, f"not {words!r}: {said}"


def test_a_topic_that_may_not_be_written_holds_up_no_other(guarded, mirroring):
    """From the first moment on, and where it is forbidden under load; what is allowed again goes on by itself."""
    run = uuid.uuid4().hex[:6]
    open_, closed, positions, identity = f"open-{run}", f"closed-{run}", f"p-{run}", f"plant-{run}"
    for topic in (open_, closed):
        guarded.create(topic, 1)
    topic = ResourceType.TOPIC
    allow(
        guarded,
        binding(topic, open_, AclOperation.WRITE),
        binding(topic, closed, AclOperation.DESCRIBE),
        binding(topic, positions, AclOperation.READ),
        binding(topic, positions, AclOperation.CREATE),
        binding(ResourceType.GROUP, f"{identity}-positions", AclOperation.READ),
        binding(
            ResourceType.TRANSACTIONAL_ID, f"{identity}-", AclOperation.WRITE, ResourcePatternType.PREFIXED
        ),
    )
    node = mirroring(
        Door(guarded.doors["SASL_PLAINTEXT"]), open_,
        mirror=f'identity = "{identity}"\npositions_topic = "{positions}"{GUEST}',
    )
    node.config += SECOND.format(topic=closed)
    node.start()
    node.wait_state("connected")
    fleet = Fleet(node.mqtt, 2, 0.01).start()
    publish(node, "devices/a/other", [b"1"] * 3)
    found = wait_row(node, "message_other", lambda row: row["state"] == "waiting")
    assert "may not write" in found["why"], found
    goes_on(node)
    allow(guarded, binding(topic, closed, AclOperation.WRITE))
    wait_row(node, "message_other", lambda row: row["records"] == 3)
    forbid(guarded, topic, closed, AclOperation.WRITE)
    # Under load and in one transaction with the other.
    end = time.monotonic() + 60
    while row(node, "message_other")["state"] != "waiting":
        assert time.monotonic() < end, row(node, "message_other")
        publish(node, "devices/a/other", [b"2"])
    assert "may not write" in row(node, "message_other")["why"]
    goes_on(node)
    allow(guarded, binding(topic, closed, AclOperation.WRITE))
    wait_row(node, "message_other", lambda row: row["lag_records"] == 0, 90)
    fleet.end()
    node.wait_drained()
    acked, _, missing, twice, disordered = fleet.judge((k, v) for _, _, k, v, _ in guarded.read(open_))
    assert acked and (missing, twice, disordered) == (0, 0, 0)


def goes_on(node):
    """The first stream is mirrored all the while."""
    for _ in range(4):
        before = row(node, "message_state")["records"]
        wait_row(node, "message_state", lambda row, before=before: row["records"] > before + 20, 10)
