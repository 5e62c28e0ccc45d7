"""A registry of images on the loopback, with one image, that may want credentials or have nothing.

As a script it needs nothing but Python, so that it can serve on a node of a cluster: an image of the program that its
first argument names, to whom gives what the second one is, USER:PASSWORD. It prints its address.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import platform
import secrets
import signal
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
#: Of all that is sent, and what there is between them where there is time: between those of its first half, and of the
#: second, for who looks late. The engine tells of each twentieth.
PIECES = 15
PIECE_SECONDS = (0.5, 3.0)
#: All that begin so are the same image.
TAGS = "/v2/hodei/image/manifests/1"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def make_image(program: Path) -> bytes:
    """Return an image that has one program in it, as ``docker save`` writes it; it runs as user 1000."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as files:
        files.add(program, f"bin/{program.name}")
    config = {
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "User": "1000:1000"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()]},
    }
    parts = {
        "manifest.json": json.dumps([{"Config": "config.json", "Layers": ["layer.tar"]}]).encode(),
        "config.json": json.dumps(config).encode(),
        "layer.tar": layer.getvalue(),
    }
    saved = io.BytesIO()
    with tarfile.open(fileobj=saved, mode="w") as archive:
        for name, content in parts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return saved.getvalue()


class Registry:
    """Serves an image.

    :param saved: the image, as ``docker save`` writes it.
    :param user: the name and password it wants, with a colon between; none when empty.
    :ivar port: where it serves; it may be ended and begin again there.
    :ivar asked: the paths of what it was asked for.
    :ivar hurried: once cleared, what it sends comes in pieces, long after each other, until it is set again.
    """

    def __init__(self, saved: bytes, user: str = "") -> None:
        self.asked: list[str] = []
        self.hurried = threading.Event()
        self.hurried.set()
        self.blobs: dict[str, bytes] = {}
        self.expected = "Basic " + base64.b64encode(user.encode()).decode() if user else ""
        with tarfile.open(fileobj=io.BytesIO(saved)) as archive:

            def read(name: str) -> bytes:
                file = archive.extractfile(name)
                assert file is not None
                return file.read()

            entry = json.loads(read("manifest.json"))[0]
            layers = [self._keep(_compressed(read(name)), LAYER) for name in entry["Layers"]]
            # Another image than the one that was saved, which the engine has: it would fetch nothing.
            described = json.loads(read(entry["Config"])) | {"comment": secrets.token_hex(8)}
            config = self._keep(json.dumps(described).encode(), CONFIG)
        self.manifest = json.dumps(
            {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        ).encode()
        self.port = 0
        # The engine may still have what a registry before this one served at its port.
        self._tag = f"1-{secrets.token_hex(4)}"

    def _keep(self, blob: bytes, kind: str) -> dict[str, object]:
        digest = "sha256:" + hashlib.sha256(blob).hexdigest()
        self.blobs[digest] = blob
        return {"mediaType": kind, "size": len(blob), "digest": digest}

    def __enter__(self) -> Self:
        """Begin to serve."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                """Answer."""
                registry.asked.append(self.path)
                if registry.expected and self.headers.get("Authorization") != registry.expected:
                    self._answer(401, b'{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}')
                elif self.path == "/v2/":
                    self._answer(200, b"{}")
                elif self.path.startswith(TAGS) or self.path.endswith(registry.manifest_digest):
                    self._answer(200, registry.manifest, MANIFEST)
                elif (digest := self.path.rpartition("/")[2]) in registry.blobs:
                    self._answer(200, registry.blobs[digest], "application/octet-stream")
                else:
                    self._answer(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}')

            do_HEAD = do_GET  # noqa: N815 - the library's name

            def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
                if status == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="test"')
                if kind == MANIFEST:
                    self.send_header("Docker-Content-Digest", registry.manifest_digest)
                self.end_headers()
                if self.command == "GET":
                    size = max(64 << 10, len(body) // PIECES)
                    for begin in range(0, len(body), size):
                        if begin:
                            registry.hurried.wait(PIECE_SECONDS[begin > len(body) // 2])
                        self.wfile.write(body[begin : begin + size])

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    @property
    def host(self) -> str:
        """Return where it is, as images' names begin."""
        return f"127.0.0.1:{self.port}"

    @property
    def name(self) -> str:
        """Return what the image is called here."""
        return f"{self.host}/hodei/image:{self._tag}"

    @property
    def name_by_content(self) -> str:
        """Return what it is called by its manifest's digest."""
        return f"{self.host}/hodei/image@{self.manifest_digest}"

    @property
    def manifest_digest(self) -> str:
        """Return what names the manifest's content."""
        return "sha256:" + hashlib.sha256(self.manifest).hexdigest()


def _compressed(layer: bytes) -> bytes:
    """Compress a layer to what no engine has seen yet: it keeps what it has fetched, and fetches that no more."""
    return gzip.compress(layer, 1, mtime=secrets.randbits(31))


if __name__ == "__main__":
    with Registry(make_image(Path(sys.argv[1])), sys.argv[2]) as serving:
        sys.stdout.write(serving.host + "\n")
        sys.stdout.flush()
        signal.pause()
