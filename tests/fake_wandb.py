"""A W&B server of this machine: answers like one, or stops answering."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RUN = {"id": "cnVu", "displayName": "run", "config": "{}", "historyLineCount": 0,
       "project": {"id": "cA==", "name": "fulgurite", "entity": {"id": "ZQ==", "name": "me"}}}  # fmt: skip
ANSWERS: dict[str, Any] = {
    "createRunFiles(": {"createRunFiles": {"runID": "cnVu", "uploadHeaders": [], "files": []}},
    "viewer": {"viewer": {"id": "me", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}},
}


class FakeWandb:
    """What the server has been told, and whether it still answers.

    Args:
        silent_after: A text in the request after which nothing is answered any more; "" from the first on.
    """

    def __init__(self, silent_after: str | None) -> None:
        self.silent_after = silent_after
        self.names: set[str] = set()
        """Of the runs that were begun."""
        self.silent = threading.Event()
        self.over = threading.Event()

    def answer(self, path: str, body: str) -> dict[str, Any]:
        if self.silent_after is not None and (self.silent_after in body or self.silent_after in path):
            self.silent.set()
        if self.silent.is_set():
            self.over.wait()
        if "upsertBucket(" in body:
            name = json.loads(body)["variables"]["name"]
            self.names.add(name)
            return {"data": {"upsertBucket": {"bucket": {**RUN, "name": name}, "inserted": True}}}
        return {"data": next((answer for key, answer in ANSWERS.items() if key in body), {})}


@contextlib.contextmanager
def fake_wandb(silent_after: str | None = None) -> Iterator[tuple[FakeWandb, str]]:
    """A server, and its address."""
    state = FakeWandb(silent_after)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode(errors="replace")
            content = json.dumps(state.answer(self.path, body)).encode()
            with contextlib.suppress(OSError):  # nobody waits any more
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state, f"http://127.0.0.1:{server.server_port}"
    finally:
        state.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
