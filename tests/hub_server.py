"""A stand-in for the Hugging Face hub on this machine: as much of its HTTP as uploads and downloads need."""

import base64
import hashlib
import http.server
import json
import re
import threading
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_owner"
_LARGE = (".safetensors",)  # files that are sent beside the commit, as on the hub


class Hub(http.server.ThreadingHTTPServer):
    """Repositories of models by name, and what was asked of them.

    Attributes:
      commits: the files of each commit, newest last, by the name of the repository.
      requests: method and path of every request.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits, self.requests, self.large = {}, [], {}

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        self._answer("POST")

    def do_PUT(self):
        self._answer("PUT")

    def do_GET(self):
        self._answer("GET")

    def do_HEAD(self):
        self._answer("HEAD")

    def _answer(self, method):
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append((method, path))
        length = int(self.headers.get("Content-Length") or 0)
        self._body = self.rfile.read(length)
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            self._body = self._chunks()
        for wanted, pattern, function in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method in wanted:
                if method in ("POST",) and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    return self._send(401, {"error": "Invalid username or password."})
                return function(self, *match.groups())
        return self._send(404, {"error": f"no {path}"})

    def _chunks(self):
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, status, content, headers=()):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def validate(self):
        header = json.loads(self._body)["content"].split("---")[1]
        valid = "library_name: vq_jax" in header
        self._send(200, {"errors": [] if valid else [{"message": "no library"}], "warnings": []})

    def create(self):
        asked = json.loads(self._body)
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != "owner":
            return self._send(403, {"error": f"You have no rights to make a model of {name}"})
        there = name in self.server.commits
        self.server.commits.setdefault(name, [])
        return self._send(409 if there else 200, {"url": f"{self.server.address}/{name}"})

    def preupload(self, name):
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(_LARGE) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self._body)["files"]
        ]
        self._send(200, {"files": files})

    def batch(self, name):
        objects = [
            {
                **{key: item[key] for key in ("oid", "size")},
                "actions": {"upload": {"href": f"{self.server.address}/large/{item['oid']}"}},
            }
            for item in json.loads(self._body)["objects"]
        ]
        self._send(200, {"transfer": "basic", "objects": objects})

    def put(self, digest):
        assert hashlib.sha256(self._body).hexdigest() == digest
        self.server.large[digest] = self._body
        self._send(200, {})

    def commit(self, name):
        files = dict(self.server.commits[name][-1]) if self.server.commits[name] else {}
        for line in self._body.splitlines():
            part = json.loads(line)
            value = part["value"]
            if part["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif part["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        self.server.commits[name].append(files)
        oid = _oid(name, len(self.server.commits[name]))
        answer = {
            "success": True,
            "commitOid": oid,
            "commitUrl": f"{self.server.address}/{name}/commit/{oid}",
        }
        self._send(200, answer)

    def info(self, name):
        commits = self.server.commits.get(name)
        if not commits:
            return self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        files = [{"rfilename": path} for path in commits[-1]]
        return self._send(200, {"id": name, "sha": _oid(name, len(commits)), "siblings": files})

    def tree(self, name):
        files = self.server.commits[name][-1]
        self._send(200, [_listed(path, content) for path, content in files.items()])

    def resolve(self, name, path):
        content = self.server.commits[name][-1][path]
        oid = _oid(name, len(self.server.commits[name]))
        digest = hashlib.sha256(content).hexdigest()
        self._send(200, content, {"X-Repo-Commit": oid, "ETag": f'"{digest}"'})


def _oid(name, number):
    return hashlib.sha1(f"{name} {number}".encode()).hexdigest()


def _listed(path, content):
    digest = hashlib.sha256(content).hexdigest()
    listed = {"type": "file", "path": path, "size": len(content), "oid": digest[:40]}
    if path.endswith(_LARGE):
        listed["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 100}
    return listed


_REPO = r"(\w[\w.-]*/\w[\w.-]*?)"
_ROUTES = [
    (("POST",), "/api/validate-yaml", _Handler.validate),
    (("POST",), "/api/repos/create", _Handler.create),
    (("POST",), f"/api/models/{_REPO}/preupload/main", _Handler.preupload),
    (("POST",), rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler.batch),
    (("PUT",), r"/large/(\w+)", _Handler.put),
    (("POST",), f"/api/models/{_REPO}/commit/main", _Handler.commit),
    (("GET",), rf"/api/models/{_REPO}(?:/revision/\w+)?", _Handler.info),
    (("GET",), rf"/api/models/{_REPO}/tree/\w+", _Handler.tree),
    (("GET", "HEAD"), rf"/{_REPO}/resolve/\w+/(.+)", _Handler.resolve),
]
