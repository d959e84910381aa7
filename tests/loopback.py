"""A web server for the tests, on the loopback interface, and archives for it."""

import contextlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """A web server on the loopback interface that can be told to misbehave.

    `files` maps paths to bytes. `faults` is a list of faults for the GET requests to come, one each, in order;
    an empty list means good service. `requests` records (path, Range header).
    """

    def __init__(self):
        self.files, self.faults, self.requests = {}, [], []
        self.ranges, self.released = True, threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                server.answer(self)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self):
        self.released.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def answer(self, handler):
        handler.close_connection = True
        body = self.files.get(handler.path)
        if body is None:
            handler.send_response(404)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        asked = handler.headers.get("Range")
        self.requests.append((handler.path, asked))
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, int):
            handler.send_response(fault)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start, status = 0, 200
        if asked and self.ranges:
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
        if start >= len(body) and status == 206:
            handler.send_response(416)
            if fault != "silent 416":
                handler.send_header("Content-Range", f"bytes */{len(body)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if fault == "other piece":
            start += 1
        body = body[start:]
        handler.send_response(status)
        if status == 206:
            handler.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{start + len(body)}")
        lie = {"says more": 1000, "says less": -1000}.get(fault, 0)
        if fault != "no length":
            handler.send_header("Content-Length", str(len(body) + lie))
        if fault == "called gzip":
            handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        if fault in ("cut", "stall"):
            handler.wfile.write(body[: len(body) // 2])
            handler.wfile.flush()
            if fault == "stall":
                self.released.wait(10)
            return
        if fault == "wrong bytes":
            body = bytes(len(body))
        with contextlib.suppress(ConnectionError):  # the client left at the length it was told
            handler.wfile.write(body)


def tar_bytes(members, mode="w:gz"):
    """Pack (name, bytes) or ready TarInfo objects."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
