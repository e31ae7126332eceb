"""Against a server on the loopback address, which only the injected address check lets through."""

import io
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from coldstart.core.stage import Reject
from coldstart.media.fetch import Fetcher, fetcher, public_address
from coldstart.media.limits import Limits

BODY = bytes(range(256)) * 40


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.seen.append((self.command, self.path, self.headers["Host"]))  # type: ignore[attr-defined]
        getattr(self, f"serve_{self.path.strip('/').partition('?')[0]}", self.serve_missing)()

    do_HEAD = do_GET  # noqa: N815

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def serve_missing(self) -> None:
        self.answer(404)

    def serve_photo(self) -> None:
        self.answer(200, BODY, ETag='"v1"', Last_Modified="Sun, 22 Nov 2026 00:00:00 GMT")

    def serve_plain(self) -> None:
        self.answer(200, BODY)

    def serve_fault(self) -> None:
        self.answer(500)

    def serve_zipped(self) -> None:
        self.answer(200, BODY, Content_Encoding="gzip")

    def serve_hop(self) -> None:
        self.answer(302, Location="/photo")

    def serve_loop(self) -> None:
        self.answer(302, Location="/loop")

    def serve_inward(self) -> None:
        self.answer(302, Location="http://169.254.169.254/latest/")

    def serve_elsewhere(self) -> None:
        self.answer(302, Location="http://other.example/photo")

    def serve_file(self) -> None:
        self.answer(302, Location="file:///etc/hostname")

    def serve_endless(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"400\r\n" + bytes(1024) + b"\r\n")
        except OSError:
            self.close_connection = True

    def serve_drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        try:
            for _ in range(1000):
                self.wfile.write(b".")
                self.wfile.flush()
                time.sleep(0.02)
        except OSError:
            self.close_connection = True

    def serve_short(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"half")
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def root(server: ThreadingHTTPServer) -> str:
    return f"http://localhost:{server.server_port}"


@pytest.fixture(scope="module")
def lenient(server: ThreadingHTTPServer) -> Iterator[Fetcher]:
    fetcher = Fetcher(address_ok=lambda address: public_address(address) or address in ("127.0.0.1", "::1"))
    yield fetcher
    fetcher.close()


LIMITS = Limits(allowed_hosts=("localhost",))


def get(fetcher: Fetcher, url: str, limits: Limits = LIMITS, max_bytes: int = 10**6) -> bytes:
    file = io.BytesIO()
    fetcher.get(url, limits, file, max_bytes)
    return file.getvalue()


def refuse(fetcher: Fetcher, url: str, limits: Limits = LIMITS, max_bytes: int = 10**6) -> str:
    with pytest.raises(Reject) as caught:
        get(fetcher, url, limits, max_bytes)
    return str(caught.value)


def test_body_arrives_with_the_host_name_kept(lenient: Fetcher, root: str, server: ThreadingHTTPServer) -> None:
    assert get(lenient, f"{root}/photo?size=1&b=%20") == BODY
    assert server.seen[-1] == ("GET", "/photo?size=1&b=%20", root.removeprefix("http://"))  # type: ignore[attr-defined]


def test_redirect_within_the_rules(lenient: Fetcher, root: str) -> None:
    assert get(lenient, f"{root}/hop") == BODY


def test_every_hop_is_checked(lenient: Fetcher, root: str) -> None:
    assert refuse(lenient, f"{root}/inward") == (
        "private_address: http://169.254.169.254/latest/: 169.254.169.254 is not a public address"
    )
    assert refuse(lenient, f"{root}/elsewhere") == (
        "host_not_allowed: http://other.example/photo: other.example is not among allowed_hosts (localhost)"
    )
    assert refuse(lenient, f"{root}/file") == ("scheme_not_allowed: file:/etc/hostname: file is not permitted here")
    assert refuse(lenient, f"{root}/loop") == f"fetch_failed: {root}/loop: more than 5 redirects"


def test_a_name_that_leads_inward_is_refused_before_connecting(root: str, server: ThreadingHTTPServer) -> None:
    before = len(server.seen)  # type: ignore[attr-defined]
    assert refuse(fetcher(), f"{root}/photo").startswith("private_address: localhost leads to ")
    assert len(server.seen) == before  # type: ignore[attr-defined]


def test_one_inward_address_among_several_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(2, 1, 6, "", (address, 80)) for address in ("93.184.215.14", "10.0.0.7")]
    monkeypatch.setattr("coldstart.media.fetch.socket.getaddrinfo", lambda *args, **named: found)
    limits = Limits(allowed_hosts=("img.example",))
    assert refuse(Fetcher(), "http://img.example/x", limits) == (
        "private_address: img.example leads to 10.0.0.7, which is not a public address"
    )


def test_name_is_resolved_once_and_that_address_used(
    lenient: Fetcher, server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    asked = []
    original = socket.getaddrinfo

    def resolve(host: str, port: int, *args: object, **named: object) -> object:
        asked.append(host)
        return original("127.0.0.1" if host == "img.example" else host, port, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("coldstart.media.fetch.socket.getaddrinfo", resolve)
    url = f"http://img.example:{server.server_port}/photo"
    assert get(lenient, url, Limits(allowed_hosts=("img.example",))) == BODY
    assert asked == ["img.example", "127.0.0.1"]


def test_too_many_bytes(lenient: Fetcher, root: str) -> None:
    for page in ("photo", "endless"):
        assert refuse(lenient, f"{root}/{page}", max_bytes=5000) == (
            f"too_many_bytes: {root}/{page}: more than 5000 bytes"
        )


def test_failures(lenient: Fetcher, root: str) -> None:
    assert refuse(lenient, f"{root}/missing") == f"not_found: {root}/missing: HTTP status 404"
    assert refuse(lenient, f"{root}/fault") == f"fetch_failed: {root}/fault: HTTP status 500"
    assert refuse(lenient, f"{root}/zipped") == f"fetch_failed: {root}/zipped: sent as gzip, which was not asked for"
    assert refuse(lenient, f"{root}/short").startswith(f"fetch_failed: {root}/short: RemoteProtocolError ")
    assert refuse(lenient, "http://localhost:1/x").startswith("fetch_failed: http://localhost:1/x: ConnectError ")


def test_slow_server_ends_before_the_deadline(lenient: Fetcher, root: str) -> None:
    start = time.monotonic()
    limits = Limits(allowed_hosts=("localhost",), deadline_s=0.5)
    assert refuse(lenient, f"{root}/drip", limits) == f"fetch_failed: {root}/drip: not complete in time"
    assert time.monotonic() - start < 20  # what the whole of it takes


def test_signature(lenient: Fetcher, root: str, server: ThreadingHTTPServer) -> None:
    expected = f'"v1" Sun, 22 Nov 2026 00:00:00 GMT {len(BODY)}'
    assert lenient.signature(f"{root}/photo", LIMITS) == expected
    assert server.seen[-1][0] == "HEAD"  # type: ignore[attr-defined]
    unstated = [lenient.signature(f"{root}/plain", LIMITS) for _ in range(2)]
    assert unstated[0] != unstated[1]
    with pytest.raises(Reject, match="not_found"):
        lenient.signature(f"{root}/missing", LIMITS)


def test_proxies_of_the_environment_are_not_used(lenient: Fetcher, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert get(lenient, f"{root}/photo") == BODY


@pytest.mark.parametrize(
    "address, expected",
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.215.14", True),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::5db8:d70e", True),
        ("2002:7f00:1::", False),
        ("2001:0:7f00:1::", False),
    ],
)
def test_public_address(address: str, expected: bool) -> None:
    assert public_address(address) is expected
