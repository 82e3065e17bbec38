"""The client programs that are not Python: how each is started, whether it is there, and what it prints
when it runs its scenarios (`ok NAME`, or `failed NAME reason`)."""

import functools
import os
import pathlib
import shutil
import subprocess

import pytest

from door import ROOT, WORKSHOP

HERE = pathlib.Path(__file__).resolve().parent
NODE = {"kafkajs", "platformatic"}
JAVA = {"java"}
JAVA_OLD = {"java-old"}
GO = {"franz", "sarama"}
RUN_SECONDS = 110
JVM = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]


def program(client):
    """The command that starts a client's program; skips the test of a Go client where Go is absent."""
    if client in NODE:
        return ["node", str(HERE / f"{client}.mjs")]
    if client in GO:
        binary = WORKSHOP / "go" / client
        if not binary.exists():
            pytest.skip("not run: Go clients")
        return [str(binary)]
    name = {"java": "lib", "java-old": "lib-3.9"}[client]
    jars = WORKSHOP / "kafka" / name
    classes = WORKSHOP / "java" / name
    assert classes.exists(), f"{classes} is missing: cargo xtask test compiles it"
    return ["java", *JVM, "-cp", f"{classes}{os.pathsep}{jars}/*", "Clients"]


@functools.cache
def scenarios(client, bootstrap):
    """Runs a client's scenarios once and returns what it said of each."""
    done = subprocess.run(
        [*program(client), "scenarios", bootstrap], capture_output=True, text=True, timeout=RUN_SECONDS,
        check=False, cwd=ROOT,
    )
    verdicts = {}
    for line in done.stdout.splitlines():
        words = line.split(" ", 2)
        if words[0] in ("ok", "failed"):
            verdicts[words[1]] = "" if words[0] == "ok" else line
    return verdicts, (done.stdout + done.stderr)[-4000:]


def tool(name, *arguments, stdin=None, seconds=60, check=True):
    """One of Apache Kafka's own command-line tools; returns its standard output."""
    assert shutil.which("java"), "Java is missing: cargo xtask test installs it"
    done = subprocess.run(
        tool_command(name, *arguments), input=stdin, capture_output=True, text=True, timeout=seconds, check=False
    )
    if check:
        assert done.returncode == 0, f"{name} {arguments}: {done.stdout}\n{done.stderr}"
    return done.stdout + ("" if check else done.stderr)


def tool_command(name, *arguments):
    """The command of one of Kafka's tools: what `cargo xtask kafka tool NAME` runs."""
    xtask = os.environ.get("XTASK_BIN", str(ROOT / "target/debug/xtask"))
    return [xtask, "kafka", "tool", name, *arguments]
