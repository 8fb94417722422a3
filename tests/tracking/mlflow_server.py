"""Enough of MLflow's REST interface to receive a run, with the faults that a server has. Loopback only."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class MlflowServer:
    """``mode``: "ok", "500", or "hang" (accepts and never answers). ``stop`` closes the port, ``start``
    opens it again.
    """

    def __init__(self) -> None:
        self.mode = "ok"
        self.requests = 0
        self.metrics: list[tuple[str, int, float]] = []
        self.params: dict[str, str] = {}
        self.statuses: list[str] = []
        self.port = 0
        self._released = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> MlflowServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.requests += 1
                if outer.mode == "hang":
                    outer._released.wait(60)
                    return
                code, answer = (500, {}) if outer.mode == "500" else outer.answer(self.path, json.loads(body or b"{}"))
                data = json.dumps(answer).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = _any

            def log_message(self, format: str, *args: Any) -> None: ...

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        self._released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        run = {
            "info": {
                "run_id": "r1",
                "run_uuid": "r1",
                "experiment_id": "1",
                "status": "RUNNING",
                "artifact_uri": "file:///nonexistent",
            },
            "data": {},
        }
        call = path.partition("/mlflow/")[2].partition("?")[0]
        if call == "experiments/get-by-name":
            return 200, {"experiment": {"experiment_id": "1", "name": "esl_dist", "lifecycle_stage": "active"}}
        if call == "runs/log-batch":
            new = [(m["key"], int(m["step"]), float(m["value"])) for m in body.get("metrics", [])]
            self.metrics += [m for m in new if m not in self.metrics]
            self.params |= {p["key"]: p["value"] for p in body.get("params", [])}
            return 200, {}
        if call == "runs/update":
            self.statuses.append(str(body.get("status")))
            return 200, {"run_info": run["info"]}
        if call in ("runs/create", "runs/get"):
            return 200, {"run": run}
        return 404, {"error_code": "ENDPOINT_NOT_FOUND", "message": call}

    def wait(self, condition: Any, seconds: float = 90) -> None:
        """Until ``condition()`` holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (
                f"nothing within {seconds} s: {self.requests} requests, {len(self.metrics)} metrics"
            )
            time.sleep(0.05)
