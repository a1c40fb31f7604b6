"""One connection, byte by byte: what HTTP/1.1 allows beside a plain request, on the hot route."""

import json
import socket
import threading
import time
from contextlib import ExitStack

import httpx
import pytest

from tests.colour_models import COLOURS, picture, publish_colours
from tests.serving import gateway


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("connection")
    with gateway(folder, queue_capacity=256, cors_origins="https://page.test") as world:
        for name, work in (("quick", None), ("slow", 12)):
            publish_colours(world.registry, folder / name, name=name, **({"work": work} if work else {}))
            world.pin_plan(name, batch=4)
            answer = httpx.post(
                f"{world.url}/v1/classification?model={name}", content=picture("red"), timeout=120
            )
            assert answer.json()["predictions"][0]["label"] == "red"
        yield world


class Connection:
    """A socket and what has come over it."""

    def __init__(self, world):
        self.socket = socket.create_connection(("127.0.0.1", world.settings.port), timeout=30)
        self._received = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *parts):
        self.socket.sendall(b"".join(parts))

    def response(self):
        """(status, headers, body) of the next response."""
        while b"\r\n\r\n" not in self._received:
            self._more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        while len(self._received) < int(headers.get("content-length", 0)):
            self._more()
        length = int(headers.get("content-length", 0))
        body, self._received = self._received[:length], self._received[length:]
        return int(status.split()[1]), headers, json.loads(body) if body else None

    def refusal(self):
        """All that comes until the server ends the connection."""
        while data := self.socket.recv(65536):
            self._received += data
        return self._received

    def is_closed(self):
        """The server has ended it, and sent nothing more."""
        assert self._received == b""
        return self.socket.recv(1) == b""

    def _more(self):
        data = self.socket.recv(65536)
        assert data, f"the connection ended after {self._received!r}"
        self._received += data


def request(body, *headers, model="quick", version="1.1"):
    lines = [f"POST /v1/classification?model={model} HTTP/{version}", "Host: 127.0.0.1", *headers]
    if not any(line.lower().startswith("transfer-encoding") for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def best(response):
    status, _, body = response
    assert status == 200, body
    return body["predictions"][0]["label"]


def test_one_after_another_each_gets_its_own_answer_and_id(world):
    with Connection(world) as connection:
        for number in range(60):
            connection.send(request(picture(COLOURS[number % 3], noise=number), f"X-Request-Id: n-{number}"))
            response = connection.response()
            assert best(response) == COLOURS[number % 3]
            assert response[1]["x-request-id"] == f"n-{number}"


def test_a_request_that_comes_in_pieces_is_put_together(world):
    whole = request(picture("blue", size=64))
    with Connection(world) as connection:
        for start in range(0, len(whole), max(1, len(whole) // 20)):
            connection.send(whole[start : start + max(1, len(whole) // 20)])
            time.sleep(0.002)
        assert best(connection.response()) == "blue"


@pytest.mark.parametrize(("model", "turns"), [("quick", 8), ("slow", 8)])
def test_pipelined_requests_are_answered_in_their_order(world, model, turns):
    """Hot and other paths mixed: each comes while the one before it is unanswered."""
    health = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with Connection(world) as connection:
        for turn in range(turns):
            colours = [COLOURS[(turn + place) % 3] for place in range(4)]
            parts = [request(picture(colour), model=model) for colour in colours]
            connection.send(parts[0], parts[1], health, parts[2], parts[3])
            assert [best(connection.response()) for _ in range(2)] == colours[:2]
            assert connection.response()[0] == 200
            assert [best(connection.response()) for _ in range(2)] == colours[2:]


def test_the_next_request_may_come_at_any_moment_around_an_answer(world):
    """Pipelined a little later each time, so that it meets the first one in every state."""
    with Connection(world) as connection:
        for step in range(120):
            connection.send(request(picture("red")))
            time.sleep(step * 0.0001)
            connection.send(request(picture("green")), request(b"no picture"))
            assert best(connection.response()) == "red"
            assert best(connection.response()) == "green"
            assert connection.response()[0] == 415


def test_every_other_form_of_a_request_is_answered_too(world):
    data = picture("green")
    chunked = f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n"
    with Connection(world) as connection:
        connection.send(request(chunked, "Transfer-Encoding: chunked"))
        assert best(connection.response()) == "green"

        head, _, body = request(data, "Expect: 100-continue").partition(b"\r\n\r\n")
        connection.send(head, b"\r\n\r\n")
        assert connection.response()[0] == 100
        connection.send(body)
        assert best(connection.response()) == "green"

        connection.send(request(data, "Origin: https://page.test"))
        response = connection.response()
        assert best(response) == "green"
        assert response[1]["access-control-allow-origin"] == "https://page.test"

        connection.send(request(data, "Origin: https://evil.test"))
        assert connection.response()[0] == 403


def test_a_request_whose_end_nobody_can_know_is_refused(world):
    with Connection(world) as connection:
        connection.send(request(picture("red"), "Content-Length: 7"))
        assert connection.refusal().startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("headers", "version"), [(["Connection: close"], "1.1"), ([], "1.0")], ids=["close", "HTTP/1.0"]
)
def test_a_connection_is_closed_after_the_answer_where_that_is_asked_for(world, headers, version):
    with Connection(world) as connection:
        connection.send(request(picture("red"), *headers, version=version))
        response = connection.response()
        assert best(response) == "red"
        assert response[1]["connection"] == "close"
        assert connection.is_closed()


def test_an_idle_connection_is_closed_and_a_used_one_is_not(world):
    """After 5 s without a request; each request starts the time anew."""
    with Connection(world) as idle, Connection(world) as used:
        idle.send(request(picture("red")))
        assert best(idle.response()) == "red"
        began = time.monotonic()
        while time.monotonic() - began < 7:
            used.send(request(picture("blue")))
            assert best(used.response()) == "blue"
            time.sleep(0.5)
        assert idle.is_closed()
        used.send(request(picture("blue")))
        assert best(used.response()) == "blue"


def test_a_request_that_takes_longer_than_a_connection_may_idle_is_answered(world):
    """It comes right after an answer, which may not have been accounted for by then."""
    with ExitStack() as stack:
        connections = [stack.enter_context(Connection(world)) for _ in range(60)]
        second = request(picture("blue"))
        for connection in connections:
            connection.send(request(picture("red")))
            assert best(connection.response()) == "red"
            connection.send(second[:-100])
        time.sleep(6)
        for connection in connections:
            connection.send(second[-100:])
        assert [best(connection.response()) for connection in connections] == ["blue"] * len(connections)


def test_answers_are_counted_once_with_the_status_that_was_sent(world):
    def counted(status):
        return world.metric("athanor_requests_total", route="/v1/classification", status=str(status))

    before = counted(200), counted(415)
    with Connection(world) as connection:
        for _ in range(20):
            connection.send(request(picture("red")))
            assert best(connection.response()) == "red"
        for _ in range(5):
            connection.send(request(b"no picture"))
            assert connection.response()[0] == 415
    assert (counted(200) - before[0], counted(415) - before[1]) == (20, 5)


def test_clients_that_hang_up_at_any_moment_disturb_nobody(world):
    """Sockets are closed around the time of their answer, so their descriptors go to the next client."""
    failures = []

    def steady():
        with Connection(world) as connection:
            for number in range(150):
                colour = COLOURS[number % 3]
                connection.send(request(picture(colour, noise=number)))
                if (got := best(connection.response())) != colour:
                    failures.append((number, got, colour))

    def fickle(offset):
        for number in range(100):
            with Connection(world) as connection:
                connection.send(request(picture("green")))
                time.sleep(offset + number * 0.0001)

    threads = [threading.Thread(target=steady)]
    threads += [threading.Thread(target=fickle, args=(offset,)) for offset in (0.0, 0.003)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert httpx.get(f"{world.url}/health/live").status_code == 200
