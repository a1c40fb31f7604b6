"""Seeded hostile archives and manifests: each maker takes a random generator and gives the file, the words
its refusal has to have, and the name it has to tell (None: any).
"""

import random
from collections.abc import Callable

from tests.models.data import hostile_manifests, hostile_parquet, hostile_tars, hostile_zips
from tests.models.data.hostile_parts import Hostile

MAKERS: dict[str, Callable[[random.Random], Hostile]] = {
    name: maker
    for module in (hostile_zips, hostile_tars, hostile_manifests, hostile_parquet)
    for name, maker in vars(module).items()
    if callable(maker) and maker.__module__ == module.__name__ and not name.startswith("_")
}
"""By name."""
