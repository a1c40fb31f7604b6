"""Every method that a spec can name: frozen data rows in one file per family, found through `CATALOGUE`.

Importing it costs milliseconds: rows name their builders as strings, and torch comes with a builder.
`docs/adding-a-method.md` says how a row is added.
"""

from models.catalogue.adapters import ADAPTERS
from models.catalogue.architectures import ARCHITECTURES
from models.catalogue.augmentations import AUGMENTATIONS, MIXINGS
from models.catalogue.catalogue import Catalogue, UnknownMethod
from models.catalogue.losses import LOSSES
from models.catalogue.optimizers import OPTIMIZERS
from models.catalogue.row import Kind, Parameters, Proof, Row
from models.catalogue.samplers import SAMPLERS
from models.catalogue.schedules import SCHEDULES

CATALOGUE = Catalogue(
    *ARCHITECTURES, *ADAPTERS, *OPTIMIZERS, *SCHEDULES, *LOSSES, *SAMPLERS, *AUGMENTATIONS, *MIXINGS
)

__all__ = ["CATALOGUE", "Catalogue", "Kind", "Parameters", "Proof", "Row", "UnknownMethod"]
