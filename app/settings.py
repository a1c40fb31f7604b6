"""Every setting of Athanor, read from `ATHANOR_*` variables and `.env`.

Nothing else in the project reads the environment. The embedded and the deployed shape differ
only in the URLs given here. `docs/settings.md` lists them all (tested).
"""

import ipaddress
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

    database_url: str = ""
    """SQLAlchemy URL (`postgresql+psycopg://…`). Empty: SQLite under the data dir."""

    broker_url: str = ""
    """Celery broker URL (`redis://…`). Empty: kombu's filesystem broker under the data dir."""

    objects_url: str = ""
    """Where artefacts are kept (`s3://bucket/prefix`). Empty: a folder under the data dir."""

    objects_endpoint: str = ""
    """Endpoint of an S3-compatible server, for example `http://minio:9000`. Empty: the provider's own."""

    object_cache_bytes: int = Field(default=50 * 2**30, ge=0)
    """What copies of remote objects may take on this machine's disk, bytes; those fetched within a day stay
    even so."""

    host: str = "127.0.0.1"
    """Address the gateway binds. Anything but loopback needs a key."""

    port: int = Field(default=8000, ge=0, le=65535)
    """Port the gateway binds; 0 takes a free one and prints it."""

    auth: Literal["auto", "required"] = "auto"
    """`auto`: no key is asked on a loopback bind as long as none was made. `required`: always."""

    api_key: SecretStr | None = None
    """Bootstrap key: opens the default tenant's door."""

    allowed_hosts: str = ""
    """Comma-separated `Host` names accepted besides loopback."""

    cors_origins: str = ""
    """Comma-separated origins that pages may call from. Empty: none but our own."""

    default_classifier: str = "efficientnet-lite0"
    """Model reference that answers `POST /v1/classification` without `model`."""

    default_segmenter: str = "u2netp"
    """Model reference that answers `POST /v1/segmentation` without `model`."""

    default_upscaler: str = "waifu2x-photo"
    """Model reference that answers `POST /v1/super-resolution` without `model`."""

    starters: str = "efficientnet-lite0,u2netp,waifu2x-photo"
    """Comma-separated starter models imported at first start, one after the other. Empty: none."""

    max_body_bytes: int = Field(default=64 * 2**20, ge=1024)
    """Largest body of an inference request, bytes."""

    max_image_pixels: int = Field(default=64_000_000, ge=1)
    """Largest image accepted for decoding, pixels."""

    upscale_at_once_pixels: int = Field(default=1_048_576, ge=1)
    """Pixels up to which super-resolution answers at once, counted at the network's input over all passes;
    larger pictures become jobs."""

    max_result_pixels: int = Field(default=268_435_456, ge=1)
    """Largest picture that super-resolution makes, pixels."""

    max_file_bytes: int = Field(default=20 * 2**30, ge=1024)
    """Largest upload to `/v1/files`, bytes."""

    queue_capacity: int = Field(default=128, ge=1)
    """Inputs that may wait per model; one more is refused with 429."""

    max_run_s: float = Field(default=1.0, gt=0)
    """Longest that one run of a model's graph should take, seconds: batches are made no larger, and windows
    smaller, so that nobody waits longer for a place in the next."""

    model_memory_bytes: int = Field(default=0, ge=0)
    """What loaded models may hold together, bytes: whoever was used least recently leaves for a newcomer.
    0: half of what the machine, or its container, has."""

    default_deadline_s: float = Field(default=60.0, gt=0)
    """Deadline of a request that names none, seconds from receipt."""

    drain_timeout_s: float = Field(default=5.0, gt=0)
    """How long shutdown waits for requests in flight, seconds."""

    cpu_threads: int = Field(default=0, ge=0)
    """Cores that serving may use; 0: all that this process may run on."""

    gpu_device: int = Field(default=0, ge=0)
    """Which GPU serves models, where ONNX Runtime has a provider for it."""

    gpu_memory_bytes: int = Field(default=0, ge=0)
    """What the runtime may take of the GPU's memory for each loaded model, bytes. 0: as much as there is."""

    gpu_tensorrt: bool = False
    """Serve through TensorRT, where the runtime has it; it builds an engine for each model first."""

    log_format: Literal["auto", "text", "json"] = "auto"
    """`auto`: text on a terminal, JSON lines elsewhere."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is logged."""

    lease_s: float = Field(default=20.0, gt=0)
    """A running job whose worker has been silent this long is taken up by another, seconds."""

    heartbeat_s: float = Field(default=5.0, gt=0)
    """How often a worker says that its job lives, seconds."""

    max_queued_jobs: int = Field(default=0, ge=0)
    """Jobs of one tenant that may wait; one more is refused with 429. 0: any number."""

    max_running_jobs: int = Field(default=0, ge=0)
    """Jobs of one tenant that run at a time; more wait. 0: any number."""

    min_free_disk_bytes: int = Field(default=2**30, ge=0)
    """No job begins, and no checkpoint is kept, that would leave the data dir's disk less. 0: never mind."""

    url: str = ""
    """Where the command line finds the service. Empty: where `athanor serve` runs on this data dir."""

    @property
    def sqlalchemy_url(self) -> str:
        """The database that is really used."""
        return self.database_url or f"sqlite:///{self.data_dir / 'athanor.db'}"

    @property
    def binds_loopback(self) -> bool:
        """Only this machine can reach the gateway."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def logs_json(self, is_terminal: bool) -> bool:
        """Whether logs are JSON lines, given whether they go to a terminal."""
        return self.log_format == "json" or (self.log_format == "auto" and not is_terminal)
