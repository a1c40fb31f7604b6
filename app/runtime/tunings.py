"""Rows of `tunings`: what was measured of a model file on a machine: its plan, and what its engines held."""

import time

from app.db.session import Database
from app.db.tables import TuningRow
from app.runtime.footprint import Footprint
from app.runtime.plan import Plan


class TuningStore:
    """Remembers, so that only the first load of a file on a machine measures and guesses."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, model_sha256: str, machine: str) -> Plan | None:
        """The stored plan, if any."""
        with self._database.read() as session:
            row = session.get(TuningRow, (model_sha256, machine))
            return Plan(**row.plan) if row else None

    def footprint(self, model_sha256: str, machine: str, shape: str) -> Footprint | None:
        """What an engine of this shape held when it was last loaded, if it ever was."""
        with self._database.read() as session:
            row = session.get(TuningRow, (model_sha256, machine))
            kept = (row.memory or {}).get(shape) if row else None
            return Footprint(**kept) if kept else None

    def keep_footprint(self, model_sha256: str, machine: str, shape: str, footprint: Footprint) -> None:
        """Remember it beside the plan; the last weighing wins."""
        with self._database.begin() as session:
            row = session.get(TuningRow, (model_sha256, machine), with_for_update=True)
            if row is not None:
                row.memory = {**(row.memory or {}), shape: footprint.as_row()}

    def keep(self, model_sha256: str, machine: str, plan: Plan) -> None:
        """Store a plan; the last measurement wins."""
        with self._database.begin() as session:
            session.merge(
                TuningRow(
                    model_sha256=model_sha256, machine=machine, plan=plan.as_row(), created_at=time.time()
                )
            )
