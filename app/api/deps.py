"""What routes depend on: the caller and the services, put there by the gateway and `create_app`."""

from typing import Annotated

from fastapi import Depends, Request

from app.access.principal import Principal
from app.api.gateway import PRINCIPAL_KEY
from app.services import Services


def _principal(request: Request) -> Principal:
    principal = request.scope[PRINCIPAL_KEY]
    assert isinstance(principal, Principal)  # the gateway lets nobody past without one
    return principal


def _services(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


PrincipalDep = Annotated[Principal, Depends(_principal)]
ServicesDep = Annotated[Services, Depends(_services)]
