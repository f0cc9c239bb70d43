"""A Hugging Face hub on 127.0.0.1, as small as a test needs, that misbehaves on demand.

It speaks the part of the protocol by which files are fetched:

    HEAD or GET /<owner>/<name>/resolve/<revision>/<file>
        X-Repo-Commit    the commit that a branch or tag stands for
        small files      200, ETag: the hash by which git names the content
        large files      302 to a second server, as the hub has its CDN, and
                         X-Linked-Etag: the content's sha256; X-Linked-Size: its bytes
        no such thing    404 (401 for a model), X-Error-Code: what there is none of

A `Fault` stands between the answer that would be right and what is sent:

    hub.faults["model.safetensors"] = drop(after=1000, times=2)
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


@dataclass
class Answer:
    """What the server is about to send."""

    method: str
    path: str
    name: str  # of the file that is asked for
    is_content: bool  # the file itself, not a word about where it is
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    stop_after: int | None = None  # bytes of the body, whereupon the connection ends
    before_stop: Callable[[], None] = lambda: None


Fault = Callable[[Answer], None]


class Hub:
    """The two servers, what they hold, and every request that they have had."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, tuple[str, dict[str, bytes]]]] = {}
        self.faults: dict[str, Fault] = {}  # by the file's name; "*": any file
        self.requests: list[tuple[str, str, dict[str, str]]] = []  # method, path, headers
        self.has_vanished = False
        self._servers = [_Server(self), _Server(self)]
        self.url, self.cdn = (f"http://127.0.0.1:{s.server_port}" for s in self._servers)

    def __enter__(self) -> "Hub":
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.vanish()

    def vanish(self) -> None:
        """From now on every connection is refused, and those that are open say no more."""
        self.has_vanished = True
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def add(self, repo: str, files: dict[str, bytes], revision: str = "main") -> str:
        """Publish a model under a branch or tag, and return the commit."""
        content = b"".join(name.encode() + body for name, body in sorted(files.items()))
        is_commit = len(revision) == 40
        commit = revision if is_commit else hashlib.sha1(repo.encode() + content).hexdigest()
        for key in (revision, commit):
            self.models.setdefault(repo, {})[key] = commit, files
        return commit

    def asked_for(self, name: str, method: str = "GET") -> list[dict[str, str]]:
        """The headers of each request for a file's content, at the hub and at its CDN."""
        return [h for m, path, h in self.requests if m == method and path.endswith(f"/{name}")]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that has been killed, or had enough of us


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._reply()

    def do_HEAD(self) -> None:
        self._reply()

    def log_message(self, *args: object) -> None:
        pass

    def _reply(self) -> None:
        hub: Hub = self.server.hub
        if hub.has_vanished:
            self.close_connection = True
            return
        headers = {key.lower(): value for key, value in self.headers.items()}
        hub.requests.append((self.command, self.path, headers))
        path = unquote(self.path.split("?")[0]).strip("/")
        answer = self._from_cdn(path) if path.startswith("cdn/") else self._resolve(path)
        for key in (answer.name, "*"):
            if key in hub.faults:
                hub.faults[key](answer)
                break
        self._send(answer)

    def _resolve(self, path: str) -> Answer:
        hub: Hub = self.server.hub
        owner, model, _, revision, name = [*path.split("/", 4), *[""] * 5][:5]
        answer = Answer(self.command, self.path, name, is_content=False)
        revisions = hub.models.get(f"{owner}/{model}")
        if revisions is None:
            return _missing(answer, 401, "RepoNotFound")
        if revision not in revisions:
            return _missing(answer, 404, "RevisionNotFound")
        commit, files = revisions[revision]
        answer.headers["X-Repo-Commit"] = commit
        if name not in files:
            return _missing(answer, 404, "EntryNotFound")
        body = files[name]
        if name.endswith((".safetensors", ".bin")):
            sha256 = hashlib.sha256(body).hexdigest()
            answer.status = 302
            answer.headers |= {
                "Location": f"{hub.cdn}/cdn/{owner}/{model}/{commit}/{name}",
                "X-Linked-Etag": f'"{sha256}"',
                "X-Linked-Size": str(len(body)),
            }
        else:
            git = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
            answer.headers["ETag"] = f'"{git}"'
            answer.body, answer.is_content = body, True
        return answer

    def _from_cdn(self, path: str) -> Answer:
        _, owner, model, commit, name = path.split("/")
        body = self.server.hub.models[f"{owner}/{model}"][commit][1][name]
        return Answer(self.command, self.path, name, is_content=True, body=body)

    def _send(self, answer: Answer) -> None:
        body, wanted = answer.body, self.headers.get("Range")
        if answer.status == 200 and wanted and self.command == "GET":
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            last = len(body) - 1
            answer.status = 206 if start <= last else 416
            answer.headers["Content-Range"] = f"bytes {start}-{last}/{len(body)}"
            body = body[start:]
        self.send_response(answer.status)
        for key, value in ({"Content-Length": str(len(body))} | answer.headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[: answer.stop_after])
        if answer.stop_after is not None:
            self.wfile.flush()
            answer.before_stop()
            self.close_connection = True


def _missing(answer: Answer, status: int, code: str) -> Answer:
    answer.status, answer.headers["X-Error-Code"] = status, code
    return answer


# ---- faults ---------------------------------------------------------------------------------


def refuse(status: int, code: str = "") -> Fault:
    """Another status, on the hub's own server."""

    def fault(answer: Answer) -> None:
        answer.status, answer.body = status, b""
        answer.headers = {"X-Error-Code": code} if code else {}

    return fault


def login_page(answer: Answer) -> None:
    """A captive portal: 200 and a page, whatever was asked for."""
    answer.status, answer.body = 200, b"<!DOCTYPE html><title>Welcome to our Wi-Fi</title>"
    answer.headers = {"Content-Type": "text/html"}


def page_for_content(answer: Answer) -> None:
    """The same, from a proxy that lets the HEAD through."""
    if answer.is_content and answer.method == "GET":
        login_page(answer)


def change(edit: Callable[[bytes], bytes]) -> Fault:
    """Other content than was announced."""

    def fault(answer: Answer) -> None:
        if answer.is_content and answer.method == "GET":
            answer.body = edit(answer.body)

    return fault


def drop(after: int, times: int = 10**9, first: Callable[[], None] = lambda: None) -> Fault:
    """The connection ends in the middle; `first` is called just before."""
    left = [times]

    def fault(answer: Answer) -> None:
        if answer.is_content and answer.method == "GET" and left[0] > 0:
            left[0] -= 1
            answer.stop_after, answer.before_stop = after, first

    return fault


def redirect(edit: Callable[[str], str]) -> Fault:
    """Sent elsewhere, as the hub does where a model has been renamed."""

    def fault(answer: Answer) -> None:
        if (to := edit(answer.path)) != answer.path:
            answer.status, answer.body, answer.headers = 307, b"", {"Location": to}

    return fault
