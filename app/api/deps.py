"""What routes depend on: the caller and the services, put there by the gateway and `create_app`."""

from typing import Annotated

from fastapi import Depends, Header, Request
from pydantic import AfterValidator

from app.access.principal import Principal
from app.api.gateway import PRINCIPAL_KEY
from app.jobs.keys import Own, is_own
from app.services import Services


def _principal(request: Request) -> Principal:
    principal = request.scope[PRINCIPAL_KEY]
    assert isinstance(principal, Principal)  # the gateway lets nobody past without one
    return principal


def _services(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


def _clients_key(key: str | None) -> str | None:
    if key is not None and is_own(key):
        begin = ", ".join(f"{own}:" for own in Own)
        raise ValueError(f"Keys that begin with {begin} are the service's own. Put something before it.")
    return key


PrincipalDep = Annotated[Principal, Depends(_principal)]
ServicesDep = Annotated[Services, Depends(_services)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]*$",
        description="A second request with this key within 24 h gets the first one's job.",
    ),
    AfterValidator(_clients_key),
]
