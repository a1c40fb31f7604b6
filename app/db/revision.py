"""The counter that every change of models, aliases or keys bumps, and the lock that orders such changes."""

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.db.tables import RevisionRow

_ID = 1


def lock_revision(session: Session) -> None:
    """Wait for every other change of the registry or of stored objects to end, and keep others waiting until
    this transaction ends. What is read after it is the newest. (On SQLite
    every IMMEDIATE transaction does so by itself.)
    """
    session.execute(select(RevisionRow.id).where(RevisionRow.id == _ID).with_for_update())


def bump_revision(session: Session) -> None:
    """Tell every gateway, once this transaction commits, that something has changed."""
    session.execute(
        update(RevisionRow)
        .where(RevisionRow.id == _ID)
        .values(value=RevisionRow.value + 1)
        .execution_options(synchronize_session=False)
    )


def read_revision(session: Session) -> int:
    """The counter as this transaction sees it."""
    return session.scalars(select(RevisionRow.value).where(RevisionRow.id == _ID)).one()
