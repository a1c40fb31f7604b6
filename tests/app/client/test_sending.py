"""Files on their way to a real gateway, over a connection that breaks."""

import os

import pytest

from app.client import sending
from app.client.client import Client
from app.client.errors import RequestFailed, Unreachable
from app.client.sending import PART_BYTES, send_file
from tests.serving import gateway


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with gateway(tmp_path_factory.mktemp("sending"), max_file_bytes=PART_BYTES * 3) as world:
        yield world


class Flaky(Client):
    """Loses the answer to some parts, after the service has stored them."""

    def __init__(self, url, *, lost):
        super().__init__(url)
        self.lost = lost
        self.sent = 0

    def add_part(self, upload_id, data):
        self.sent += 1
        answer = super().add_part(upload_id, data)
        if self.sent in self.lost:
            raise Unreachable(self.url, "the connection broke")
        return answer


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(sending, "_PAUSE_S", 0.0)


def make(path, size_bytes):
    path.write_bytes(os.urandom(size_bytes))
    return path


def content(world, file):
    with world.client() as http:
        return http.get(f"/v1/files/{file['id']}/content").content


def test_a_short_file_goes_whole_and_a_long_one_in_parts(world, tmp_path):
    for size_bytes, parts in ((PART_BYTES, 0), (PART_BYTES + 1, 2), (PART_BYTES * 2, 2), (0, 0)):
        path = make(tmp_path / "a.zip", size_bytes)
        seen = []
        with Flaky(world.url, lost=()) as client:
            file = send_file(client, path, seen.append)
            assert client.sent == parts
        assert (file["filename"], file["bytes"]) == ("a.zip", size_bytes)
        assert content(world, file) == path.read_bytes()
        assert seen == [min(size_bytes, PART_BYTES * n) for n in range(1, parts + 1)]


def test_a_part_whose_answer_was_lost_is_sent_again_and_is_in_the_file_once(world, tmp_path, impatient):
    path = make(tmp_path / "a.zip", PART_BYTES * 2 + 5)
    with Flaky(world.url, lost=(2, 3)) as client:
        file = send_file(client, path)
        assert client.sent == 5
    assert content(world, file) == path.read_bytes()


def test_a_connection_that_stays_broken_is_given_up(world, tmp_path, impatient):
    path = make(tmp_path / "a.zip", PART_BYTES + 1)
    with Flaky(world.url, lost=range(1, 100)) as client:
        with pytest.raises(Unreachable):
            send_file(client, path)
        assert client.sent == 5


def test_a_file_that_the_service_does_not_take_is_refused_before_it_is_sent(world, tmp_path):
    path = make(tmp_path / "a.zip", PART_BYTES * 3 + 1)
    with Flaky(world.url, lost=()) as client:
        with pytest.raises(RequestFailed) as refused:
            send_file(client, path)
        assert (refused.value.code, client.sent) == ("payload_too_large", 0)
