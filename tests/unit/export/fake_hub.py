"""A model hub on the loopback address: the routes that an upload uses, and what it was sent."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeHub:
    """repositories: name → is it private. files: path → content, of all commits. tokens: what requests came with."""

    def __init__(self, refuse: int | None = None) -> None:
        """refuse: the status of every answer."""
        self.repositories: dict[str, bool] = {}
        self.branches: set[str] = set()
        self.files: dict[str, bytes] = {}
        self.stored: dict[str, bytes] = {}  # of large files, by SHA-256
        self.tokens: set[str | None] = set()
        self.commit_path = ""
        self.refuse = refuse
        self.faults_of_card: list[str] = []  # what it says of every model card
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = self._chunks()
                hub.tokens.add(self.headers.get("Authorization"))
                status, content = hub.answer(self.command, self.path, body)
                sent = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            def _chunks(self) -> bytes:
                found = b""
                while size := int(self.rfile.readline(), 16):
                    found += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return found

            do_GET = do_POST = do_PUT = _answer

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if self.refuse is not None:
            return self.refuse, {"error": "You have no right to write here"}
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            status = 409 if name in self.repositories else 200
            self.repositories.setdefault(name, bool(asked.get("private")) or asked.get("visibility") == "private")
            return status, {"url": f"{self.address}/{name}", "error": "there"}
        if path == "/api/validate-yaml":
            return 400 if self.faults_of_card else 200, {"errors": [{"message": one} for one in self.faults_of_card]}
        if path.startswith("/storage/"):
            self.stored[path.removeprefix("/storage/")] = body
            return 200, {}
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            actions = [{**o, "actions": {"upload": {"href": f"{self.address}/storage/{o['oid']}"}}} for o in objects]
            return 200, {"transfer": "basic", "objects": actions}
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in files
            ]
            return 200, {"files": modes}
        if "/commit/" in path:
            return 200, self._commit(path, body)
        if "/branch/" in path:
            self.branches.add(path.rpartition("/")[2])
            return 200, {}
        name = "/".join(path.split("?")[0].split("/")[3:5])
        return 200, {"id": name, "private": self.repositories.get(name, False), "sha": "0" * 40, "siblings": []}

    def _commit(self, path: str, body: bytes) -> dict[str, Any]:
        self.commit_path = path
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                self.files[value["path"]] = self.stored[value["oid"]]
        return {
            "commitUrl": f"{self.address}/{'/'.join(path.split('/')[3:5])}/commit/{'1' * 40}",
            "commitOid": "1" * 40,
        }
