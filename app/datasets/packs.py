"""Open packs, for routes that look into them. A pack is opened once and shared; the operating system maps it
in as it is read, so an open one costs its index.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from app.access.principal import Principal
from app.datasets.dataset import DatasetVersionFacts
from app.errors import InvalidRequest, NotFound, StorageUnavailable
from app.storage.objects import ObjectStore
from models.data.pack import Item, Pack, PackDamaged, Split

_OPEN = 8
"""Packs kept open. The longest unused is let go, and closes when its last reader is done."""


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """One image of a version."""

    index: int
    """Its place in the pack; stays for ever."""
    item: Item
    label: str


@dataclass(frozen=True, kw_only=True)
class ImagePage:
    """Some images of a longer list."""

    images: list[ImageFacts]
    has_more: bool


class Packs:
    """Thread-safe."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[str, str], Pack] = OrderedDict()

    def page(
        self,
        principal: Principal,
        version: DatasetVersionFacts,
        *,
        split: Split | None,
        label: str | None,
        limit: int,
        after: int,
    ) -> ImagePage:
        """At most `limit` images of the split and with the label, those behind index `after`.

        Raises InvalidRequest for a label that the version does not have.
        """
        pack = self._get(principal, version.sha256)
        wanted = _label_index(pack, label)
        found: list[ImageFacts] = []
        for index in range(after + 1, len(pack.items)):
            item = pack.items[index]
            if split not in (None, item.split) or wanted not in (None, item.label):
                continue
            if len(found) == limit:
                return ImagePage(images=found, has_more=True)
            found.append(ImageFacts(index=index, item=item, label=pack.labels[item.label]))
        return ImagePage(images=found, has_more=False)

    def image(
        self, principal: Principal, version: DatasetVersionFacts, index: int
    ) -> tuple[ImageFacts, bytes]:
        """One image and its encoded bytes. Raises NotFound."""
        pack = self._get(principal, version.sha256)
        if not 0 <= index < len(pack.items):
            raise NotFound(
                f"{version.reference} has no image {index}.",
                param="index",
                hint=f"It has {len(pack.items)}, from 0.",
            )
        item = pack.items[index]
        return ImageFacts(index=index, item=item, label=pack.labels[item.label]), pack.read(item)

    def drop_deleted(self, principal: Principal) -> None:
        """Let go of the tenant's packs that the object store no longer has: an open file keeps its room on
        disk."""
        with self._lock:
            mine = [key for key in self._open if key[0] == principal.tenant_id]
        gone = [key for key in mine if not self._objects.exists(principal, key[1])]
        with self._lock:
            for key in gone:
                self._open.pop(key, None)

    def _get(self, principal: Principal, sha256: str) -> Pack:
        key = principal.tenant_id, sha256
        with self._lock:
            if key in self._open:
                self._open.move_to_end(key)
                return self._open[key]
        # Outside the lock: a large pack is hashed at its first use, and others should not wait for that.
        try:
            pack = Pack(self._objects.fetch(principal, sha256))
        except PackDamaged as error:
            raise StorageUnavailable("The stored data set cannot be read.", hint=str(error)) from error
        with self._lock:
            pack = self._open.setdefault(key, pack)
            self._open.move_to_end(key)
            while len(self._open) > _OPEN:
                self._open.popitem(last=False)
        return pack


def _label_index(pack: Pack, label: str | None) -> int | None:
    if label is None:
        return None
    if label not in pack.labels:
        known = ", ".join(pack.labels[:10]) + (", …" if len(pack.labels) > 10 else "")
        raise InvalidRequest(f"The version has no label {label!r}.", param="label", hint=f"It has: {known}.")
    return pack.labels.index(label)
