"""Rows of `tunings`: the plan that was measured for a model file on a machine."""

import time

from app.db.session import Database
from app.db.tables import TuningRow
from app.runtime.plan import Plan


class TuningStore:
    """Remembers plans, so that only the first load of a file on a machine measures."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, model_sha256: str, machine: str) -> Plan | None:
        """The stored plan, if any."""
        with self._database.read() as session:
            row = session.get(TuningRow, (model_sha256, machine))
            return Plan(**row.plan) if row else None

    def keep(self, model_sha256: str, machine: str, plan: Plan) -> None:
        """Store a plan; the last measurement wins."""
        with self._database.begin() as session:
            session.merge(
                TuningRow(
                    model_sha256=model_sha256, machine=machine, plan=plan.as_row(), created_at=time.time()
                )
            )
