"""Asking a model that runs somewhere else: OpenAI's protocol, which Ollama and vLLM speak as well.

    messages ─> POST …/chat/completions ─> the text of the reply, or the reason why there is none

A request can fail in a dozen ways, and over 5,000 of them some will. Those that may pass (too many
requests, an overloaded server, a lost connection) are tried again, after a wait that doubles, or as
long as the server asks for. What has failed for good comes back as a reason in words, never as an
exception and never as a text.

The key comes from the environment. It goes into one header of requests to this endpoint, and
nowhere else: redirects are not followed, and it is cut out of all that a server sends back.

    python -m gpt.judge         # a judge on this very machine, with its moods

Sources: OpenAI's API reference, "Chat completions"; RFC 9110, 10.2.3 (Retry-After).
"""

import email.utils
import http.client
import json
import os
import queue
import random
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from gpt.errors import UserError

Messages = list[dict[str, str]]  # [{"role": "user", "content": …}]

_MAX_WAIT = 120.0  # seconds that a server may ask for before we give a question up
_MAX_BYTES = 1 << 24  # of a reply; a longer one is no reply
_MAY_PASS = frozenset((408, 425, 429, 500, 502, 503, 504, 529))
_OF_ALL = frozenset((401, 403, 404, 405, 407))  # a wrong key, address or model's name


class EndpointError(UserError):
    """An endpoint or a key that cannot be used."""

    exit_code = 2  # bad usage


@dataclass(frozen=True)
class Endpoint:
    """Who is asked, and with how much patience."""

    url: str  # up to and with the version: http://localhost:11434/v1
    model: str
    key: str | None = field(default=None, repr=False)
    temperature: float | None = 0.0  # None leaves it out: some models accept only their own
    timeout: float = 120.0  # seconds for one reply, from looking up the host to its last byte
    retries: int = 4  # further attempts
    first_wait: float = 1.0  # seconds before the second attempt; each further wait is twice as long

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
            is_address &= self.url.isascii() and not re.search(r"[\s\x00-\x1f\x7f]", self.url)
            _ = parts.port  # raises where it is no number
        except ValueError:
            is_address = False
        if not is_address:
            raise EndpointError("--endpoint must be an address as http://localhost:11434/v1 is one")
        if parts.username or parts.password:
            raise EndpointError("--endpoint holds a password: give keys in the environment alone")
        if self.key is not None and not (self.key.isascii() and self.key.isprintable()):
            raise EndpointError("the key in the environment holds a character that no key has")
        url = self.url.split("#")[0].rstrip("/").removesuffix("/chat/completions")
        object.__setattr__(self, "url", url)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    def settings(self) -> list:
        """All that a reply depends on but for the messages."""
        return [self.url, self.model, self.temperature]


def key_for(url: str, variable: str | None = None) -> str | None:
    """The key for an endpoint: from the variable that is named, or JUDGE_API_KEY.

    OPENAI_API_KEY is for OpenAI: it is found only where the endpoint is theirs.
    """
    if variable is not None:
        if not os.environ.get(variable):
            raise EndpointError(f"--key-from {variable}: there is no such environment variable")
        return os.environ[variable].strip()
    is_openai = urlsplit(url).hostname == "api.openai.com"
    names = ["JUDGE_API_KEY", *(["OPENAI_API_KEY"] if is_openai else [])]
    return next((os.environ[name].strip() for name in names if os.environ.get(name)), None)


class Reply(NamedTuple):
    text: str | None
    reason: str | None = None  # why there is no text
    of_all: bool = False  # whether any other question would fail for the same reason
    may_pass: bool = False  # whether asking again, later, may help


class _Failure(NamedTuple):
    """One attempt's."""

    reason: str
    may_pass: bool
    of_all: bool = False
    wait: float | None = None  # seconds that the server asks for


def ask(endpoint: Endpoint, messages: Messages, stop: threading.Event | None = None) -> Reply:
    """One question, as often as it takes. When `stop` is set, waiting ends at once."""
    stop = stop or threading.Event()
    wait = endpoint.first_wait
    for attempt in range(endpoint.retries + 1):
        result = _attempt(endpoint, messages)
        if isinstance(result, Reply):
            return result
        last = attempt == endpoint.retries
        too_long = result.wait is not None and result.wait > _MAX_WAIT
        if too_long or last or not result.may_pass:
            tried = f" (tried {attempt + 1} times)" if attempt else ""
            asks = f"; it asks for a wait of {result.wait:,.0f} s" if too_long else ""
            reason = _without_key(f"{result.reason}{tried}{asks}", endpoint)
            return Reply(None, reason, result.of_all, result.may_pass)
        # Together at work, they must not come back together: hence up to a half less or more.
        if stop.wait(max(wait * random.uniform(0.5, 1.5), result.wait or 0.0)):
            return Reply(None, "interrupted", may_pass=True)
        wait = min(2 * wait, _MAX_WAIT)
    raise AssertionError("the last attempt returns")


def ask_all(
    endpoint: Endpoint, questions: Mapping[str, Messages], at_once: int
) -> Iterator[tuple[str, Reply]]:
    """Every question's name with its reply, as they come in, `at_once` of them under way.

    The threads never run ahead of who reads the replies, and may stop at one. They are daemons:
    whoever presses Ctrl-C need not wait for a slow server.
    """
    stop, may_ask = threading.Event(), threading.Semaphore(at_once)
    todo, done = queue.SimpleQueue(), queue.SimpleQueue()
    for question in questions.items():
        todo.put(question)

    def work() -> None:
        while may_ask.acquire() and not stop.is_set():
            try:
                name, messages = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((name, ask(endpoint, messages, stop)))
            except BaseException as error:  # a fault of ours: the main thread shall show it
                done.put(error)
                return

    for _ in range(min(at_once, len(questions))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in range(len(questions)):
            result = _next(done)
            if isinstance(result, BaseException):
                raise result
            yield result
            may_ask.release()
    finally:
        stop.set()
        may_ask.release(at_once)  # those that wait for it end


def _next(done: queue.SimpleQueue) -> object:
    while True:
        try:
            return done.get(timeout=0.2)  # without a time limit, Windows would not see Ctrl-C
        except queue.Empty:
            pass


# ---- one attempt ----------------------------------------------------------------------------


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object) -> None:
        return None  # the key is for this endpoint; and a POST would arrive as a GET


def _opener(endpoint: Endpoint) -> urllib.request.OpenerDirector:
    is_here = endpoint.host in ("localhost", "::1") or endpoint.host.startswith("127.")
    proxies = [urllib.request.ProxyHandler({})] if is_here else []  # no proxy leads to ourselves
    return urllib.request.build_opener(_NoRedirect, *proxies)


def _attempt(endpoint: Endpoint, messages: Messages) -> Reply | _Failure:
    """In a thread, which is left behind when its time is up: it waits in too many places."""
    done: queue.SimpleQueue = queue.SimpleQueue()

    def work() -> None:
        try:
            done.put(_request(endpoint, messages))
        except BaseException as error:  # a fault of ours: whoever waits shall show it
            done.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        result = done.get(timeout=endpoint.timeout)
    except queue.Empty:
        return _lost(TimeoutError(), endpoint)
    if isinstance(result, BaseException):
        raise result
    return result


def _request(endpoint: Endpoint, messages: Messages) -> Reply | _Failure:
    body = {"model": endpoint.model, "messages": messages, "stream": False}
    if endpoint.temperature is not None:
        body["temperature"] = endpoint.temperature
    headers = {"Content-Type": "application/json", "User-Agent": "talimat"}
    if endpoint.key:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    path, _, query = endpoint.url.partition("?")
    url = f"{path.rstrip('/')}/chat/completions{'?' if query else ''}{query}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    deadline = time.monotonic() + endpoint.timeout
    try:
        with _opener(endpoint).open(request, timeout=endpoint.timeout) as response:
            data = _read(response, deadline)
    except urllib.error.HTTPError as error:
        return _refused(error, deadline, path)
    except (OSError, http.client.HTTPException, UnicodeError) as error:  # the last: a host's name
        return _lost(error, endpoint)
    return _content(data, endpoint)


def _read(response: http.client.HTTPResponse, deadline: float, limit: int = _MAX_BYTES) -> bytes:
    """All of it, in time: a server that sends a byte now and then has no end otherwise."""
    pieces, size = [], 0
    while piece := response.read1(1 << 16):
        pieces.append(piece)
        size += len(piece)
        if time.monotonic() > deadline:
            raise TimeoutError
        if size > limit:
            return b"".join(pieces)  # no reply is that long, and this one will not be read as one
    if response.length:  # what was announced and has not come
        raise http.client.IncompleteRead(b"", response.length)
    return b"".join(pieces)


def _content(data: bytes, endpoint: Endpoint) -> Reply:
    """The text in a reply of status 200."""
    try:
        reply = json.loads(data)
    except (ValueError, RecursionError):
        shown = data[:60].decode(errors="replace")
        return Reply(None, _without_key(f"the reply is not JSON: {shown!r}", endpoint))
    try:
        choice = reply["choices"][0]
        text = choice["message"]["content"]
        finish = choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        said = _said_in(reply)
        said = f": {_one_line(said)}" if said else ""
        reason = f"the reply is not in the form of a chat completion{said}"
        return Reply(None, _without_key(reason, endpoint))
    if text is not None and type(text) is not str:
        return Reply(None, "the reply's content is not a text")
    if not (text or "").strip():
        why = f" (finish reason {finish!r})" if finish not in (None, "stop") else ""
        return Reply(None, _without_key(f"the reply is empty{why}", endpoint))
    return Reply(_without_key(text, endpoint))


def _refused(error: urllib.error.HTTPError, deadline: float, path: str) -> _Failure:
    """A status other than 200, with what the server says of it."""
    said = ""
    try:
        data = _read(error.fp, min(deadline, time.monotonic() + 5), limit=1 << 16)
        said = _said_in(json.loads(data))
    except (ValueError, RecursionError):  # a page or a line of text, mostly of a proxy
        said = re.sub(r"(?is)<(style|script)\b.*?</\1>|<[^>]*>", " ", data.decode(errors="replace"))
    except (OSError, http.client.HTTPException):
        pass  # the status alone has to do
    finally:
        error.close()
    said = f": {_one_line(said)}" if said.strip() else ""
    if error.code in (404, 405) and not re.search(r"/v\d+", path):
        said += " (--endpoint names no version: does the address end in /v1?)"
    if 300 <= error.code < 400:
        said = f": it sends on to {error.headers.get('Location', 'nowhere')!r:.100}; ask there"
    return _Failure(
        f"HTTP {error.code}{said}",
        error.code in _MAY_PASS,
        error.code in _OF_ALL or 300 <= error.code < 400,
        _retry_after(error.headers.get("Retry-After")),
    )


def _said_in(reply: object) -> str:
    """What a server says of an error, in the forms that there are; nothing if it says nothing."""
    told = reply if isinstance(reply, dict) else {}
    said = told.get("error") or told.get("message") or told.get("detail")
    said = said.get("message") if isinstance(said, dict) else said
    return said if isinstance(said, str) else ""


def _one_line(text: str) -> str:
    """Of a foreign text what a terminal can show, and no code that moves its cursor."""
    text = " ".join(text.split())[:200]
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _retry_after(value: str | None) -> float | None:
    """Seconds, given as such or as a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _lost(error: Exception, endpoint: Endpoint) -> _Failure:
    """No status at all: no connection, or it broke off."""
    cause = getattr(error, "reason", error)  # urllib wraps what happened before the request
    if isinstance(cause, TimeoutError):
        return _Failure(f"no reply within {endpoint.timeout:g} s", may_pass=True)
    if isinstance(cause, ConnectionRefusedError):
        reason = f"connection refused at {urlsplit(endpoint.url).netloc}: does the server run?"
        return _Failure(reason, may_pass=True, of_all=True)
    if isinstance(cause, socket.gaierror | UnicodeError):
        return _Failure(f"there is no host {endpoint.host}", may_pass=True, of_all=True)
    if isinstance(cause, ssl.SSLError):
        is_certificate = isinstance(cause, ssl.SSLCertVerificationError)
        return _Failure(f"TLS: {cause}", may_pass=not is_certificate, of_all=is_certificate)
    return _Failure(f"connection lost ({type(cause).__name__})", may_pass=True)


def _without_key(text: str, endpoint: Endpoint) -> str:
    """A server may quote the key that it refuses. (A dummy like "x" is none, and in many words.)"""
    is_secret = endpoint.key is not None and len(endpoint.key) >= 8
    return text.replace(endpoint.key, "[the key]") if is_secret else text
