"""A judge on 127.0.0.1 that replies as it is told, and remembers every question.

`JudgeServer.behave` gets each request and returns an Answer. The test of a failure is a function of
a line: `lambda request: Answer(status=500)`.
"""

import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Request:
    path: str
    headers: dict[str, str]  # names in lower case
    body: dict
    n_before: int  # requests with the same body before this one

    @property
    def asked(self) -> str:
        """What the judge is shown."""
        return self.body["messages"][-1]["content"]


@dataclass
class Answer:
    """By default, what a good endpoint sends."""

    says: str | None = "50"  # the message's content
    status: int = 200
    raw: bytes | None = None  # instead of a chat completion
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0  # seconds before the first byte
    drip: float = 0.0  # seconds between two bytes
    hang_up_after: int | None = None  # bytes of the body, whereupon the connection ends
    finish_reason: str = "stop"


class JudgeServer:
    def __init__(self, behave: Callable[[Request], Answer] = lambda request: Answer()) -> None:
        self.behave = behave
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "JudgeServer":
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def use_tls(self, certificate: Path, key: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = self.url.replace("http:", "https:")

    def take(self, path: str, headers: dict[str, str], body: dict) -> Answer:
        with self._lock:
            n_before = sum(request.body == body for request in self.requests)
            request = Request(path, headers, body, n_before)
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            answer = self.behave(request)
            time.sleep(answer.delay)
            return answer
        finally:
            with self._lock:
                self._at_once -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, judge: JudgeServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.judge = judge

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # whoever asked has gone


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.judge.take(self.path, headers, body)
        data = answer.raw
        if data is None:
            message = {"role": "assistant", "content": answer.says}
            choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
            data = json.dumps({"object": "chat.completion", "choices": [choice]}).encode()
        self.send_response(answer.status)
        for name, value in ({"Content-Length": str(len(data))} | answer.headers).items():
            self.send_header(name, value)
        self.end_headers()
        data = data[: answer.hang_up_after]
        if not answer.drip:
            self.wfile.write(data)
            return
        for byte in data:
            self.wfile.write(bytes([byte]))
            time.sleep(answer.drip)

    def do_GET(self) -> None:
        """Only a redirect that was followed leads here."""
        self.server.judge.take(self.path, dict(self.headers), {"method": "GET"})
        self.send_error(405)

    def log_message(self, *args: object) -> None:
        pass
