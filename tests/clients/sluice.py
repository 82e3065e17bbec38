"""Starts the real program on ports and a data folder of its own, and stops it by its process id."""

import os
import queue
import re
import resource
import signal
import subprocess
import threading

BINARY = os.environ.get("SLUICE_BIN", "target/debug/sluice")
START_SECONDS = 60


class Sluice:
    """One node. `start` may be called again after `kill` or `stop`: same folder, same ports."""

    # Listeners of these kinds are given by flags, which replace those of the configuration.
    BY_FLAG = ("mqtt", "ws", "kafka", "http")

    def __init__(self, folder, config=None):
        self.folder = str(folder)
        self.config = config
        self.mqtt = self.ws = self.kafka = self.http = None
        self.mqtts = self.wss = self.https = None
        self.process = None
        self.lines = []
        # What the next start gets besides: environment variables, options, a limit of open files.
        self.environment = {}
        self.options = []
        self.open_files = None

    def start(self):
        command = [BINARY, "serve", "--data-dir", os.path.join(self.folder, "data")]
        for kind in self.BY_FLAG:
            port = getattr(self, kind) or 0
            command += [f"--{kind}", f"127.0.0.1:{port}"]
        if self.config:
            path = os.path.join(self.folder, "sluice.toml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(self.config)
            command += ["--config", path]
        command += self.options
        log = open(os.path.join(self.folder, "sluice.log"), "ab")
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=self.folder,
            text=True,
            env={**os.environ, **self.environment},
            preexec_fn=self._limit if self.open_files else None,
        )
        log.close()
        lines = queue.Queue()
        thread = threading.Thread(target=self._read, args=(self.process.stdout, lines), daemon=True)
        thread.start()
        self.lines = []
        while True:
            try:
                line = lines.get(timeout=START_SECONDS)
            except queue.Empty:
                self.process.kill()
                raise AssertionError(f"not ready after {START_SECONDS} s: {self.lines}") from None
            if line is None:
                raise AssertionError(f"ended at start: {self.lines}\n{self.log()}")
            self.lines.append(line)
            found = re.match(r"\s*(MQTTS?|WSS?|Kafka|HTTPS?)\s+127\.0\.0\.1:(\d+)", line)
            if found:
                setattr(self, found.group(1).lower(), int(found.group(2)))
            if line.startswith("ready"):
                return self

    def _limit(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.open_files, self.open_files))

    def log(self):
        """What it wrote to its standard error so far."""
        with open(os.path.join(self.folder, "sluice.log"), encoding="utf-8") as file:
            return file.read()

    @staticmethod
    def _read(stream, lines):
        for line in stream:
            lines.put(line.rstrip("\n"))
        lines.put(None)

    def kill(self):
        """kill -9: nothing is flushed, nobody is told."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """SIGTERM; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def run(self, *arguments, **options):
        """Runs another verb of the program and returns the finished process."""
        return subprocess.run(
            [BINARY, *arguments], capture_output=True, text=True, timeout=60, check=False, **options
        )
