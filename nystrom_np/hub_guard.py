"""Watches what ``huggingface_hub`` and a server say to each other while something is fetched.

The library names files of its cache after what a server says: after an ETag, a commit, the hash of a file. A server
that lies could make it write elsewhere. So each of these must be plain before the library sees it; else nothing more is
fetched. Requests that fail are repeated for a few seconds only, and none is waited for without end.

The library offers one place for this, the factory of its HTTP sessions: `set_client_factory`, which before 1.0 was
`configure_http_backend`. The factory that was set before still makes the sessions. Requests that others in the process
make, while nothing is fetched here, are let through as they are.
"""

import os
import re
import reprlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

__all__ = ["DistrustedError", "watching"]

PATIENCE = 3.0
"""Seconds from the first try of a request in which another may begin; the library waits 1, 2, 4, … in between."""

LONGEST_WAIT = 8.0
"""Seconds in which a server must go on with its answer, unless ``HF_HUB_ETAG_TIMEOUT`` and its like say more."""

NAMING_HEADERS = ("ETag", "X-Linked-Etag", "X-Repo-Commit", "X-Xet-Hash")
NAMING_KEYS = ("sha", "oid", "sha256", "blobId", "xetHash")
"""What the library makes names of, in what is said of a file and of a repository."""

FAILURES = (408, 429, 500, 502, 503, 504)

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ETAG = re.compile(rf'(W/)?("{_PLAIN.pattern}"|{_PLAIN.pattern})')


class DistrustedError(Exception):
    """Why no more is fetched. It is no OSError: the library might take that for a fault that goes away."""


class _Watch:
    """What is known of the requests that are being made."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.fetches = 0
        self.began: dict[tuple[str, str], float] = {}
        self.verbosity = 0

    def send(self, send: Callable[..., Any], request: Any, options: dict[str, Any]) -> Any:
        """Send a request, and return an answer that may be trusted with names."""
        if not self.fetches:
            return send(request, **options)
        key, now = (request.method, str(request.url)), monotonic()
        began = self.began.setdefault(key, now)
        if now - began > PATIENCE:
            raise DistrustedError(f"the server failed to answer for {now - began:.0f} seconds")
        response = send(_impatient(request, options), **options)
        if response.status_code not in FAILURES:
            self.began.pop(key, None)
        for name in ("Retry-After", "RateLimit"):  # for how long to wait, if the server had its way
            response.headers.pop(name, None)
        if request.method == "HEAD":
            _check_headers(response)
        if "/api/" in key[1] and not options.get("stream"):
            _check_names(_listing(response))
        return response


_watch = _Watch()


@contextmanager
def watching() -> Iterator[None]:
    """Watch the requests that ``huggingface_hub`` makes within the block, and keep its log to errors.

    Examples
    --------
    >>> with watching():
    ...     print(_watch.fetches)
    1
    """
    from huggingface_hub.utils import logging

    with _watch.lock:
        _install()
        if not _watch.fetches:
            _watch.began.clear()
            _watch.verbosity = logging.get_verbosity()
            logging.set_verbosity_error()  # each retry would be a line, and a server can have lines of its own shown
        _watch.fetches += 1
    try:
        yield
    finally:
        with _watch.lock:
            _watch.fetches -= 1
            if not _watch.fetches:
                logging.set_verbosity(_watch.verbosity)


def _install() -> None:
    """Have sessions watched, unless they are."""
    import huggingface_hub
    from huggingface_hub.utils import _http

    name, install = "_GLOBAL_CLIENT_FACTORY", getattr(huggingface_hub, "set_client_factory", None)
    if install is None:
        name, install = "_GLOBAL_BACKEND_FACTORY", huggingface_hub.configure_http_backend
    make = getattr(_http, name)
    if not getattr(make, "watched", False):
        install(_watched(make))


def _watched(make: Callable[[], Any]) -> Callable[[], Any]:
    def make_watched() -> Any:
        session = make()
        send = session.send
        session.send = lambda request, **options: _watch.send(send, request, options)
        return session

    make_watched.watched = True  # type: ignore[attr-defined]
    return make_watched


def _impatient(request: Any, options: dict[str, Any]) -> Any:
    """Limit how long a request is waited for: httpx has that in the request, requests in the options."""
    given = [os.environ.get(name, "") for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT")]
    longest = max([LONGEST_WAIT, *(float(number) for number in given if number.isdecimal())])

    def limited(seconds: Any) -> Any:
        return min(seconds, longest) if isinstance(seconds, int | float) else longest

    if hasattr(request, "extensions"):
        waits = request.extensions.get("timeout") or {}
        request.extensions["timeout"] = {
            part: limited(waits.get(part)) for part in ("connect", "read", "write", "pool")
        }
    else:
        options["timeout"] = limited(options.get("timeout"))
    return request


def _check_headers(response: Any) -> None:
    for name in NAMING_HEADERS:
        value = response.headers.get(name)
        if value is not None and not (_ETAG if "Etag" in name.title() else _PLAIN).fullmatch(value):
            raise DistrustedError(f"the server's {name} is {reprlib.repr(value)}, which is no plain name")


def _listing(response: Any) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None  # then the library refuses it


def _check_names(listing: Any) -> None:
    """Check what names there are in the answer to a question about a repository."""
    waiting = [listing]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            for key in NAMING_KEYS:
                name = value.get(key)
                if name is not None and not (isinstance(name, str) and _PLAIN.fullmatch(name)):
                    raise DistrustedError(f"the server's {key} is {reprlib.repr(name)}, which is no plain name")
            waiting += value.values()
