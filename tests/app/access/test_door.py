import pytest
from starlette.testclient import TestClient

from app.access.door import Door, hash_key
from app.access.principal import SYSTEM, Principal
from app.errors import Forbidden, Unauthorized
from app.main import create_app
from app.settings import Settings

OTHER = Principal(tenant_id="other", key_id="key_1")


def door(*, keys=None, **settings):
    return Door(Settings(_env_file=None, **settings), lambda: keys or {})


def headers(host="127.0.0.1:8000", **more):
    return {b"host": host.encode(), **{k.replace("_", "-").encode(): v.encode() for k, v in more.items()}}


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000", "127.8.8.8"])
def test_loopback_names_are_known(host):
    assert door().admit(headers(host)) == SYSTEM


@pytest.mark.parametrize(
    "host", ["evil.test", "", "127.0.0.1.evil.test", "localhost.evil.test", "[::1", "10.0.0.1"]
)
def test_other_hosts_are_refused(host):
    with pytest.raises(Forbidden, match="does not answer for the host"):
        door().admit(headers(host))


def test_a_host_can_be_allowed():
    assert door(allowed_hosts="api.example, other.example").admit(headers("Other.example:443")) == SYSTEM


@pytest.mark.parametrize(
    "given",
    [
        {"origin": "http://evil.test"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:3000"},
        {"sec_fetch_site": "cross-site"},
        {"origin": "http://127.0.0.1:8000", "sec_fetch_site": "cross-site"},
    ],
)
def test_requests_from_other_sites_are_refused(given):
    with pytest.raises(Forbidden, match="not allowed"):
        door().admit(headers(**given))


@pytest.mark.parametrize(
    "given",
    [
        {"origin": "http://127.0.0.1:8000", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
        {"sec_fetch_site": "same-origin"},
    ],
)
def test_our_own_pages_may_call(given):
    assert door().admit(headers(**given)) == SYSTEM


def test_an_origin_can_be_allowed():
    guarded = door(cors_origins="https://app.example")
    assert guarded.admit(headers(origin="https://app.example", sec_fetch_site="cross-site")) == SYSTEM


def test_on_loopback_without_keys_any_authorization_is_ignored():
    assert door().admit(headers(authorization="Bearer whatever")) == SYSTEM


@pytest.mark.parametrize(
    "settings",
    [{"api_key": "s3cret"}, {"auth": "required"}, {"host": "0.0.0.0", "allowed_hosts": "127.0.0.1"}],
)
def test_a_key_is_asked_once_one_is_made_or_required_or_others_can_reach_us(settings):
    with pytest.raises(Unauthorized, match="needs a key"):
        door(**settings).admit(headers())


def test_the_first_registered_key_closes_the_open_door():
    keys = {}
    guarded = Door(Settings(_env_file=None), lambda: keys)
    assert guarded.admit(headers()) == SYSTEM
    keys[hash_key("theirs")] = OTHER
    with pytest.raises(Unauthorized):
        guarded.admit(headers())
    assert guarded.admit(headers(authorization="Bearer theirs")) == OTHER


def test_the_bootstrap_key_opens_the_default_tenant():
    assert door(api_key="s3cret").admit(headers(authorization="Bearer s3cret")) == SYSTEM


@pytest.mark.parametrize("given", ["Bearer wrong", "Basic s3cret", "s3cret", "Bearer", "Bearer  "])
def test_wrong_keys_are_refused(given):
    with pytest.raises(Unauthorized):
        door(api_key="s3cret").admit(headers(authorization=given))


def test_probes_need_no_key_and_come_to_the_right_host(tmp_path):
    app = create_app(
        Settings(api_key="s3cret", default_classifier="", starters="", data_dir=tmp_path, _env_file=None)
    )
    client = TestClient(app, base_url="http://127.0.0.1")
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code in {200, 503}
    assert client.get("/v1/models").status_code == client.get("/metrics").status_code == 401
    assert client.get("/health/live", headers={"host": "evil.test"}).status_code == 403
