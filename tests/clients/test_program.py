"""The program itself: what it prints, how it ends, what it refuses."""

import json
import subprocess
import urllib.request

from sluice import BINARY, Sluice
from test_mosquitto import pub


def get(node, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{node.http}{path}", timeout=10) as answer:
        return answer.read().decode()


def test_the_lines_to_paste_are_printed(node):
    text = "\n".join(node.lines)
    for words in ("sluice sub", "sluice pub", "sluice consume", "message_state", "mosquitto_sub", "kcat"):
        assert words in text, words


def test_sigterm_ends_with_0_and_keeps_everything(node):
    pub(node, "-t", "devices/1/state", "-m", "x", "-q", "1")
    assert node.stop() == 0
    node.start()
    consumed = node.run(
        "consume", "message_state", "--from-beginning", "--decode", "-e",
        "--bootstrap", f"127.0.0.1:{node.kafka}",
    )
    assert consumed.returncode == 0, consumed.stderr
    assert "devices/1/state" in consumed.stdout


def test_a_second_process_on_the_same_folder_is_refused(node):
    second = subprocess.run(
        [BINARY, "serve", "--data-dir", f"{node.folder}/data", "--mqtt", "127.0.0.1:0",
         "--kafka", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--http", "127.0.0.1:0"],
        capture_output=True, text=True, timeout=30, check=False,
    )
    assert second.returncode == 1
    holder = f"is in use by another sluice process (pid {node.process.pid})"
    assert f"the data directory {node.folder}/data {holder}" in second.stderr
    assert "data_dir" in second.stderr
    # The first goes on as if nothing had been.
    pub(node, "-t", "devices/1/state", "-m", "x", "-q", "1")


def test_a_taken_port_is_named_with_its_option(node, tmp_path):
    second = subprocess.run(
        [BINARY, "serve", "--data-dir", str(tmp_path / "other"), "--mqtt", f"127.0.0.1:{node.mqtt}",
         "--kafka", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--http", "127.0.0.1:0"],
        capture_output=True, text=True, timeout=30, check=False,
    )
    assert second.returncode != 0
    assert str(node.mqtt) in second.stderr
    assert "--mqtt" in second.stderr


def test_http(node):
    pub(node, "-t", "devices/1/state", "-m", "x", "-q", "1")
    assert get(node, "/healthz").strip() != ""
    assert "sluice_" in get(node, "/metrics")
    assert json.loads(get(node, "/api/v1/status"))["node"] == "sluice@127.0.0.1"
    streams = json.loads(get(node, "/api/v1/streams"))
    assert "message_state" in json.dumps(streams)
    assert "devices/+/state" in get(node, "/api/v1/hooks")


def test_pub_and_sub_of_our_own(node):
    reader = subprocess.Popen(
        [BINARY, "sub", "-p", str(node.mqtt), "-t", "own/#", "-q", "1", "-C", "1", "-v"],
        stdout=subprocess.PIPE, text=True,
    )
    # The subscription is there when $SYS or a retained message says so; a retained publish needs
    # no such wait.
    sent = node.run("pub", "-p", str(node.mqtt), "-t", "own/a", "-m", "hello", "-q", "1", "-r")
    assert sent.returncode == 0, sent.stderr
    assert reader.communicate(timeout=20)[0] == "own/a hello\n"


def test_an_unknown_key_names_its_line_and_the_nearest(tmp_path):
    path = tmp_path / "sluice.toml"
    path.write_text('[node]\nnaem = "x"\n', encoding="utf-8")
    checked = Sluice(tmp_path).run("check", str(path))
    assert checked.returncode != 0
    said = checked.stdout + checked.stderr
    assert "naem" in said and "name" in said and "2" in said
