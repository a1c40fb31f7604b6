"""What may be published and what an alias may point at."""

from collections.abc import Mapping
from typing import NoReturn

from app.errors import Conflict, NotServable, ParityFailed
from app.storage.objects import Stored
from models.manifest import (
    CERTIFICATE_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    REFERENCE_FILE,
    Agreement,
    Certificate,
    Level,
)

_HINT = "`athanor verify` shows the comparison sample by sample."


def check_publishable(certificate: Certificate, stored: Mapping[str, Stored]) -> None:
    """The certificate speaks of exactly these files, and what it says is good enough.

    Raises:
        NotServable: a file is missing, or the certificate is about other bytes.
        ParityFailed: the level is `certified` and the agreement does not carry it.

    """
    for name in (MODEL_FILE, MANIFEST_FILE, CERTIFICATE_FILE):
        if name not in stored:
            raise NotServable(f"A version needs {name}.", param="artifacts")
    promised = {
        MODEL_FILE: certificate.model_sha256,
        MANIFEST_FILE: certificate.manifest_sha256,
        REFERENCE_FILE: certificate.reference_sha256,
    }
    for name, sha256 in promised.items():
        actual = stored[name].sha256 if name in stored else None
        if actual != sha256:
            raise NotServable(
                f"The certificate is not about this {name}.",
                hint=f"It names {sha256 or 'no such file'}; the file has {actual or 'not been given'}.",
            )
    if (reason := shortfall(certificate)) is not None:
        raise ParityFailed(f"The version cannot be published: {reason}.", hint=_HINT)


def check_promotable(name: str, number: int, certificate: Certificate) -> None:
    """An alias may point at this version.

    Raises:
        NotServable: its certificate does not hold.

    """
    if (reason := shortfall(certificate)) is not None:
        raise NotServable(f"No alias may point at {name}:{number}: {reason}.", hint=_HINT)


def check_unused(name: str, number: int, aliases: Mapping[str, int]) -> None:
    """No alias needs the version.

    Raises:
        Conflict: names the aliases that do.

    """
    users = sorted(alias for alias, target in aliases.items() if target == number)
    if users:
        raise Conflict(
            f"{name}:{number} is what {', '.join(f'{name}@{user}' for user in users)} points at.",
            param="version",
            hint="Promote another version first.",
        )


def refuse_checkpoint(name: str, alias: str, number: int) -> NoReturn:
    """Raise Conflict: this alias of a checkpoint means another version, of another job of the same model."""
    raise Conflict(
        f"{name}@{alias} is {name}:{number} already.",
        param="checkpoint_id",
        hint=f"DELETE /v1/models/{name}/aliases/{alias}, and publish again; {name}:{number} stays.",
    )


def shortfall(certificate: Certificate) -> str | None:
    """Why the certificate does not hold; None if it does.

    Level `imported` promises nothing about outputs and holds as long as no comparison has failed.
    """
    agreement = certificate.agreement
    if agreement is None:
        return "its level is `certified` without a comparison" if _is_certified(certificate) else None
    if _is_certified(certificate) and (agreement.samples < 1 or certificate.reference_sha256 is None):
        return "its level is `certified` without stored samples"
    return _disagreement(agreement)


def _is_certified(certificate: Certificate) -> bool:
    return certificate.level is Level.CERTIFIED


def _disagreement(agreement: Agreement) -> str | None:
    # Written so that NaN fails: every comparison with it is false.
    if not agreement.max_abs <= agreement.tolerance:
        return f"outputs differ by {agreement.max_abs:.3g}, more than {agreement.tolerance:.3g}"
    if agreement.decided and not agreement.top1 >= 1.0:
        return f"only {agreement.top1:.1%} of the decided samples keep their label"
    return agreement.lost
