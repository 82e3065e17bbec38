"""The short form of `cargo xtask soak crowd`: those who mean no good cost the well-behaved nothing that they
would notice, no connection, and no more memory than is bounded."""

import os
import pathlib
import subprocess
import sys

CROWD = pathlib.Path(__file__).parents[1] / "soak" / "crowd.py"


def test_a_crowd_at_the_door_costs_the_others_nothing():
    # Half a second: what other tests beside this one may cost a p99, too.
    ran = subprocess.run(
        [sys.executable, str(CROWD), "--clients", "1000", "--abusive", "100", "--seconds", "3", "--rate", "200",
         "--p99-ms-max", "500"],
        capture_output=True, text=True, timeout=100, check=False, env=os.environ)
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for what in ("silent", "half_connect", "garbage", "broken_tls", "half_upgrade", "guess", "flap", "flood"):
        assert what in ran.stdout, "each was tried"
