"""Every setting of Athanor, read from `ATHANOR_*` variables and `.env`.

Nothing else in the project reads the environment. The embedded and the deployed shape differ
only in the URLs given here.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _default_data_dir() -> Path:
    return Path.home() / ".local" / "share" / "athanor"


class Settings(BaseSettings):
    """One frozen value, made once and handed to `create_app(settings)`."""

    model_config = SettingsConfigDict(env_prefix="ATHANOR_", env_file=".env", extra="ignore", frozen=True)

    data_dir: Path = Field(default_factory=_default_data_dir)
    """Where the embedded database, broker, objects and caches live."""

    host: str = "127.0.0.1"
    """Address the gateway binds. Anything but loopback needs a key."""

    port: int = Field(default=8000, ge=0, le=65535)
    """Port the gateway binds; 0 takes a free one and prints it."""

    auth: Literal["auto", "required"] = "auto"
    """`auto`: no key is asked on a loopback bind as long as none was made. `required`: always."""

    api_key: SecretStr | None = None
    """Bootstrap key: bearer of the default tenant's full rights."""
