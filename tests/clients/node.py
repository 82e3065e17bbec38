"""A node that is asked over HTTP and by the program's own verbs."""

import json
import os
import urllib.error
import urllib.request

from sluice import Sluice


class Node(Sluice):
    """A node that is asked over HTTP and by ctl, as whoever may read its data directory."""

    def ask(self, method, path, body=None, token=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}/api/v1{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            assert error.headers["Content-Type"] == "application/problem+json"
            return error.code, json.load(error)

    def verb(self, *arguments):
        return self.run(
            *arguments, "--http", f"127.0.0.1:{self.http}",
            "--data-dir", os.path.join(self.folder, "data"),
        )

    def ctl(self, *arguments):
        done = self.verb("ctl", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def records(self, stream, **query):
        found, cursor = [], None
        while True:
            path = f"/streams/{stream}/records?limit=1000" + (f"&cursor={cursor}" if cursor else "")
            path += "".join(f"&{name}={value}" for name, value in query.items())
            code, page = self.ask("GET", path)
            assert code == 200, page
            found += page["items"]
            cursor = page["next"]
            if cursor is None:
                return found
