"""Starts that are refused, and say what to do."""

import os
import socket

import pytest

from app.errors import Conflict, Forbidden, InvalidRequest
from app.settings import Settings
from app.supervisor.bind import bind, check_bind, url_of
from app.supervisor.lock import announce, only_one


def test_an_address_that_others_reach_is_refused_without_a_key(service):
    service.environment["ATHANOR_HOST"] = "0.0.0.0"
    refused = service.try_to_start()
    assert refused.returncode == 1
    assert "Other machines could reach 0.0.0.0" in refused.stderr
    assert "ATHANOR_API_KEY" in refused.stderr
    assert service.processes() == {}


@pytest.mark.parametrize(
    ("host", "key", "is_refused"),
    [
        ("0.0.0.0", None, True),
        ("::", None, True),
        ("192.0.2.1", None, True),
        ("0.0.0.0", "", True),
        ("example.org", None, True),
        ("0.0.0.0", "a long random key", False),
        ("127.0.0.1", None, False),
        ("::1", None, False),
        ("localhost", None, False),
    ],
)
def test_which_addresses_need_a_key(host, key, is_refused):
    settings = Settings(_env_file=None, host=host, api_key=key)
    if is_refused:
        with pytest.raises(Forbidden, match="no key is set"):
            check_bind(settings)
    else:
        check_bind(settings)


def test_port_0_takes_a_free_one_and_its_url_is_for_this_machine():
    with bind(Settings(_env_file=None, host="0.0.0.0", port=0)) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://127.0.0.1:{port}"


def test_a_taken_port_names_its_holder():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=rf"Port {port} .* \(pid {os.getpid()}\)"):
            bind(Settings(_env_file=None, port=port))


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_an_address_of_another_machine_is_refused(host):
    with pytest.raises(InvalidRequest):
        bind(Settings(_env_file=None, host=host, port=0))


def test_one_data_dir_has_one_holder(tmp_path):
    with only_one(tmp_path):
        announce(tmp_path, "http://127.0.0.1:1")
        with pytest.raises(Conflict, match=f"pid {os.getpid()}, http://127.0.0.1:1"), only_one(tmp_path):
            pytest.fail("two hold it")
    with only_one(tmp_path):
        pass
