"""Just enough of docker compose to start a service without Docker: variables, entrypoint, environment."""

import json
import os
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+)(?:(?P<rule>:[-?])(?P<text>[^}]*))?\}")


class Refused(Exception):
    """`docker compose` would stop here with this message."""


def read_env(text: str) -> dict[str, str]:
    """Variables of an `.env` file."""
    lines = (line.strip() for line in text.splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def load_compose(environment: dict[str, str]) -> dict:
    """The compose file with its variables filled in. Raises Refused where one must be set and is not."""

    def fill(match: re.Match[str]) -> str:
        value = environment.get(match["name"], "")
        if value or match["rule"] is None:
            return value
        if match["rule"] == ":?":
            raise Refused(f"{match['name']}: {match['text']}")
        return match["text"]

    return yaml.safe_load(_VARIABLE.sub(fill, (ROOT / "docker-compose.yml").read_text()))


def dockerfile_environment() -> dict[str, str]:
    """What `ENV` sets in the stages `serve` and `train`, but for PATH."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    stage = text.partition(" AS serve\n")[2]
    lines = [line.removeprefix("ENV ") for line in stage.splitlines() if line.startswith("ENV ")]
    pairs = dict(part.split("=", 1) for line in lines for part in line.split())
    del pairs["PATH"]
    return pairs


def entrypoint() -> list[str]:
    """What stands before a service's command."""
    text = (ROOT / "Dockerfile").read_text()
    return json.loads(re.search(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[1])


def service_environment(service: dict, env_file: dict[str, str], replace: dict[str, str]) -> dict[str, str]:
    """A container's environment: image, then env_file, then `environment`; addresses replaced by ours."""
    merged = dockerfile_environment()
    if service.get("env_file"):
        merged |= env_file
    merged |= service.get("environment", {})
    for ours, theirs in replace.items():
        merged = {name: value.replace(ours, theirs) for name, value in merged.items()}
    keep = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return keep | merged
