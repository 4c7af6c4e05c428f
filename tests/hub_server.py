"""A hub on this machine: what huggingface_hub asks for over HTTP, with repositories in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_a_test"


@dataclass
class Repo:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0

    @property
    def sha(self) -> str:
        """Of the newest state; older ones are not kept."""
        return hashlib.sha1(str(self.commits).encode()).hexdigest()


class Hub:
    """The server; ``repos`` is what it holds, ``asked`` the paths it was asked for."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.asked: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def answer(self, code: int, body: Any = b"", **headers: str) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(code)
            for key, value in headers.items():
                self.send_header(key.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def may(self) -> bool:
            return self.headers.get("Authorization") == f"Bearer {TOKEN}"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(path)
            api = re.fullmatch(r"/api/models/([^/]+/[^/]+)", path)
            file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            found = api or file
            repo = hub.repos.get(found[1]) if found else None
            if repo is None or (repo.private and not self.may()):
                self.answer(401 if found else 404, {"error": "no"}, X_Error_Code="RepoNotFound")
            elif api:
                info = {"id": api[1], "sha": repo.sha, "private": repo.private, "tags": []}
                self.answer(200, {**info, "siblings": [], "downloads": 0, "likes": 0})
            else:
                content = repo.files.get(file[3])
                if file[2] not in ("main", repo.sha):
                    self.answer(404, b"", X_Error_Code="RevisionNotFound")
                elif content is None:
                    self.answer(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=repo.sha)
                else:
                    etag = f'"{hashlib.sha1(content).hexdigest()}"'
                    self.answer(200, content, ETag=etag, X_Repo_Commit=repo.sha)

        def do_POST(self) -> None:
            path, data = urlsplit(self.path).path, self.body()
            hub.asked.append(path)
            if path == "/api/validate-yaml":
                return self.answer(200, {"warnings": [], "errors": []})
            if not self.may():
                return self.answer(401, {"error": "Invalid username or password."})
            if path == "/api/repos/create":
                asked = json.loads(data)
                name = f"{asked['organization']}/{asked['name']}"
                known = name in hub.repos
                private = asked.get("private") or asked.get("visibility") == "private"
                hub.repos.setdefault(name, Repo(bool(private)))
                return self.answer(409 if known else 200, {"url": f"{hub.url}/{name}"})
            match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path)
            assert match, path
            repo = hub.repos[match[1]]
            if match[2] == "preupload":
                names = [entry["path"] for entry in json.loads(data)["files"]]
                modes = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
                return self.answer(200, {"files": modes})
            for line in data.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    repo.files[value["path"]] = base64.b64decode(value["content"])
            repo.commits += 1
            url = f"{hub.url}/{match[1]}/commit/{repo.sha}"
            self.answer(200, {"commitUrl": url, "commitOid": repo.sha})

    return Handler
