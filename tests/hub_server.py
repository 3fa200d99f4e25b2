"""A server on loopback that speaks the routes of the Hugging Face Hub that `snapshot_download` asks for."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from huggingface_hub import constants


@dataclass
class Hub:
    """What the server serves, and what it was asked.

    Attributes
    ----------
    folders : dict of (str, str) to Path
        The files of a repository at a revision.
    gated : set of str
        Repositories that need a token.
    broken : set of str
        Files whose download breaks off.
    lies : dict of str to object
        What is said in place of the truth: headers of files by their names; ``sha``, and each file's ``oid``, ``path``
        or ``lfs``, in listings.
    faults : dict of str to object
        How a kind of request fails, "HEAD", "resolve", "revision" or "tree": a status of HTTP, "close" for a connection
        that is closed, "silent" for no answer.
    requests : list of str
        "HEAD owner/name revision file" in order; for what is known of all files, "GET owner/name revision".
    tokens : set of str or None
        Who asked: headers "Authorization".
    """

    folders: dict[tuple[str, str], Path] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    lies: dict[str, Any] = field(default_factory=dict)
    faults: dict[str, int | str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    endpoint: str = ""
    hanging: Event = field(default_factory=Event)

    def add(self, name: str, folder: Path, revision: str = "main") -> str:
        """Serve a folder as a revision of a repository; return its commit."""
        self.folders[name, revision] = folder
        self.folders[name, commit_of(folder)] = folder
        return commit_of(folder)


def commit_of(folder: Path) -> str:
    """Something that looks like the commit of a folder's content."""
    digest = hashlib.sha1()
    for path in files_in(folder):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def listing(name: str, folder: Path, kind: str, lies: dict[str, Any]) -> bytes:
    """What the Hub's API tells of a repository, or of its tree of files."""
    told_of_files = {key: lies[key] for key in ("path", "oid", "lfs", "xetHash") if key in lies}
    names = {path: path.relative_to(folder).as_posix() for path in files_in(folder)}
    if kind == "tree":
        rows = [{"type": "file", "path": n, "size": path.stat().st_size, "oid": path.name} for path, n in names.items()]
        return json.dumps([row | told_of_files for row in rows]).encode()
    siblings = [{"rfilename": lies.get("path", name)} for name in names.values()]
    told = {"id": name, "sha": lies.get("sha", commit_of(folder)), "siblings": siblings}
    return json.dumps(told | {"private": False, "downloads": 0, "likes": 0, "tags": []}).encode()


@contextmanager
def serving() -> Iterator[Hub]:
    """Run the server in a thread."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> object:
            route = r"/(?:api/models/)?([\w.-]+/[\w.-]+)/(resolve|revision|tree)/([^/?]+)/?([^?]*)(?:\?.*)?"
            found = re.fullmatch(route, self.path)
            if found is None:
                return self.send(404, {})
            name, kind, revision, file = found.groups()
            hub.tokens.add(self.headers.get("Authorization"))
            hub.requests.append(f"{self.command} {name} {revision} {file}".rstrip())
            fault = hub.faults.get(self.command) or hub.faults.get(kind)
            if fault == "silent":
                hub.hanging.wait(60)
            if fault in ("close", "silent"):
                self.close_connection = True
                return None
            if fault:
                return self.send(int(fault), {"Retry-After": "9999"})
            if not any(name == known for known, _ in hub.folders):
                return self.send(401, {"X-Error-Code": "RepoNotFound"})
            if name in hub.gated and kind == "resolve":
                return self.send(403, {"X-Error-Code": "GatedRepo"})
            if (name, revision) not in hub.folders:
                return self.send(404, {"X-Error-Code": "RevisionNotFound"})
            folder = hub.folders[name, revision]
            if kind != "resolve":
                return self.send(200, {"Content-Type": "application/json"}, listing(name, folder, kind, hub.lies))
            commit = {"X-Repo-Commit": commit_of(folder)}
            if not (folder / file).is_file():
                return self.send(404, {"X-Error-Code": "EntryNotFound", **commit})
            content = (folder / file).read_bytes()
            etag = hashlib.sha1(content).hexdigest()
            told = {"ETag": f'"{etag}"', **commit} | {k: v for k, v in hub.lies.items() if k[0].isupper()}
            return self.send(200, told, content, breaks=file in hub.broken)

        def send(self, status: int, headers: dict[str, str], content: bytes = b"", breaks: bool = False) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content[: len(content) // 2] if breaks else content)
                self.close_connection = breaks

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        hub.hanging.set()
        server.shutdown()
        server.server_close()
        thread.join()


def ask_at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``HF_ENDPOINT`` does, which is read once in a process."""
    template = endpoint + constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
