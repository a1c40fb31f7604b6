"""What one of COCO's JSON files says: pictures, categories, and what is outlined in each picture.

Memory holds the pictures and two numbers for each annotation; the annotations themselves lie in a file.
"""

from array import array
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final, NamedTuple, TypeGuard

import numpy as np
import orjson

from models.data.coco_shapes import Shape, ShapeError, brief, read_shape
from models.data.image_manifest import RowError, label_of
from models.data.json_pieces import Element, ListSplitter, NotSplit
from models.data.listing import Listing
from models.data.pack import IGNORED
from models.data.problems import Problem
from models.tasks.image_facts import ImageError, ImageLimits

BACKGROUND: Final = "background"
"""The label of what nothing outlines, where there are several."""
MAX_IMAGES: Final = 1_000_000
MAX_ANNOTATIONS: Final = 5_000_000
MAX_OF_A_PICTURE: Final = 10_000
MAX_BYTES_OF_A_PICTURE: Final = 64 << 20
_MOST_ID_CHARACTERS: Final = 100
_LISTS: Final = ("images", "annotations", "categories")

Id = int | str


class Picture(NamedTuple):
    """One of `images`."""

    id: Id
    file_name: str
    width: int
    height: int
    number: int
    """By which its annotations are found."""


class CocoIndex:
    """One JSON file. What is wrong with it is noted in the archive's listing."""

    def __init__(self, file: str, spill: BinaryIO, limits: ImageLimits, listing: Listing) -> None:
        self.file = file
        self.labels: tuple[str, ...] = ()
        """By level."""
        self.pictures: list[Picture] = []
        """Those without a mistake."""
        self._spill, self._limits, self._listing = spill, limits, listing
        self._numbers: dict[Id, int] = {}
        """Of images by id, whether `images` has them or an annotation names them."""
        self._pictures: dict[int, Picture] = {}
        self._categories: dict[Id, str] = {}
        self._levels: dict[Id, int] = {}
        self._of, self._begins = array("q"), array("q", [0])
        """Of annotations: their image's number, and where they begin."""
        self._order = np.zeros(0, np.int64)
        """Annotations, those of a picture together."""
        self._starts = np.zeros(1, np.int64)
        """In `_order`, by image's number."""

    def read(self, pieces: Iterable[bytes]) -> None:
        """Take the JSON text."""
        splitter = ListSplitter(_LISTS)
        try:
            for element in splitter.split(pieces):
                self._take(element)
            for name in _LISTS:
                if name not in splitter.found:
                    raise NotSplit(f"It has no list `{name}`.", "Write it as COCO does for instances.")
            self._name_levels()
        except NotSplit as error:
            self._listing.problems.add(Problem(file=self.file, message=error.message, hint=error.hint))
            return
        self._order = np.argsort(np.array(self._of), kind="stable")
        counts = np.bincount(np.array(self._of), minlength=len(self._numbers))
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._check()

    def shapes_of(self, picture: Picture) -> list[tuple[Shape, int]]:
        """What is outlined in a picture, with levels, in the order of painting."""
        found = []
        for annotation in self._annotations_of(picture.number):
            shape = read_shape(annotation["segmentation"], picture.width, picture.height)
            is_crowd = bool(annotation.get("iscrowd"))
            level = IGNORED if is_crowd else self._levels[annotation["category_id"]]
            found.append(((not is_crowd, -shape.area), shape, level))
        return [(shape, level) for _, shape, level in sorted(found, key=lambda one: one[0])]

    # -- reading ---------------------------------------------------------------------------------------

    def _take(self, element: Element) -> None:
        name, value, text = element
        if name == "images":
            self._take_image(value)
        elif name == "categories":
            self._take_category(value)
        elif len(self._of) == MAX_ANNOTATIONS:
            raise NotSplit(f"It has more than {MAX_ANNOTATIONS} annotations.", "Make several data sets.")
        elif _is_id(image_id := value.get("image_id")):
            self._of.append(self._number(image_id))
            self._spill.write(text)
            self._begins.append(self._begins[-1] + len(text))
        else:
            self._broken(
                f"Annotation {brief(value.get('id'))} has no `image_id`.", "Say which image it is of."
            )

    def _take_image(self, image: dict[str, Any]) -> None:
        image_id, file_name = image.get("id"), image.get("file_name")
        if not _is_id(image_id):
            raise NotSplit(f"The image {brief(file_name)} has no `id`.", "An id is a whole number or a text.")
        number = self._number(image_id)
        if number in self._pictures:
            raise NotSplit(f"Two images have the id {image_id}.", "Give each an id of its own.")
        width, height = image.get("width"), image.get("height")
        try:
            if not isinstance(file_name, str) or not file_name.strip():
                raise ImageError("image_undecodable", "It has no `file_name`.", hint="Name its file.")
            if type(width) is not int or type(height) is not int:
                raise ImageError("image_undecodable", f"It has the sides {brief(width)} and {brief(height)}.")
            self._limits.check(width, height)
        except ImageError as error:
            self._broken(f"Image {image_id}: {error.message}", error.hint or "Count its pixels.")
            self._pictures[number] = Picture(image_id, "", 0, 0, number)
            return
        self._pictures[number] = Picture(image_id, file_name, width, height, number)

    def _take_category(self, category: dict[str, Any]) -> None:
        category_id = category.get("id")
        if not _is_id(category_id):
            raise NotSplit(
                f"The category {brief(category.get('name'))} has no `id`.", "Number the categories."
            )
        try:
            name = label_of(category.get("name"), f"the name of category {category_id}")
        except RowError as error:
            raise NotSplit(f"{error.message[:1].upper()}{error.message[1:]}", error.hint or "") from error
        if category_id in self._categories:
            raise NotSplit(f"Two categories have the id {category_id}.", "Give each an id of its own.")
        if name in self._categories.values():
            raise NotSplit(f"Two categories have the name {name!r}.", "Give each a name of its own.")
        if len(self._categories) == IGNORED:
            raise NotSplit(f"It has more than {IGNORED} categories.", "Join some of them.")
        self._categories[category_id] = name

    def _number(self, image_id: Id) -> int:
        if len(self._numbers) > MAX_IMAGES:
            raise NotSplit(f"It speaks of more than {MAX_IMAGES} images.", "Make several data sets.")
        return self._numbers.setdefault(image_id, len(self._numbers))

    def _name_levels(self) -> None:
        """By the order of ids, whatever lies between them."""
        ids = sorted(self._categories, key=lambda one: (isinstance(one, str), one))
        named = [one for one in ids if self._categories[one].lower() != BACKGROUND]
        if not 0 < len(named) < IGNORED:
            hint = "Name what is outlined."
            raise NotSplit(f"It has {len(named)} categories; there may be 1 to {IGNORED - 1}.", hint)
        names = tuple(self._categories[one] for one in named)
        self.labels = names if len(names) == 1 else (BACKGROUND, *names)
        self._levels = dict.fromkeys(ids, 0) | {one: at for at, one in enumerate(named, 1)}

    # -- checking --------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Look at every annotation, and keep the pictures that have none with a mistake."""
        is_outlined = False
        for number in self._numbers.values():
            picture = self._pictures.get(number)
            is_sound, has_plain = self._check_picture(number, picture)
            is_outlined |= has_plain
            if is_sound and picture is not None and picture.file_name:
                self.pictures.append(picture)
        if self._of and not is_outlined and not self._listing.broken:
            message, hint = "All its annotations are crowds, which say nothing.", "Outline things one by one."
            self._listing.problems.add(Problem(file=self.file, message=message, hint=hint))

    def _check_picture(self, number: int, picture: Picture | None) -> tuple[bool, bool]:
        """Whether nothing is wrong, and whether something is outlined that is no crowd."""
        chosen = self._chosen(number)
        size = sum(self._begins[at + 1] - self._begins[at] for at in chosen)
        if len(chosen) > MAX_OF_A_PICTURE or size > MAX_BYTES_OF_A_PICTURE:
            known = "" if picture is None else f" {picture.id}"
            message = f"Image{known} has {len(chosen)} annotations of {size} bytes."
            self._broken(message, f"At most {MAX_OF_A_PICTURE}, and {MAX_BYTES_OF_A_PICTURE} bytes.")
            return False, False
        is_sound, has_plain = True, False
        for annotation in self._annotations_of(number):
            problem = self._problem_of(annotation, picture)
            if problem is not None:
                self._broken(f"Annotation {brief(annotation.get('id'))} {problem[0]}.", problem[1])
                is_sound = False
            has_plain |= not annotation.get("iscrowd")
        return is_sound, has_plain

    def _problem_of(self, annotation: dict[str, Any], picture: Picture | None) -> tuple[str, str] | None:
        if picture is None:
            return (
                f"is of image {annotation['image_id']}, which is not in `images`",
                "Add it there.",
            )
        category_id = annotation.get("category_id")
        if not _is_id(category_id) or category_id not in self._levels:
            known = ", ".join(map(str, list(self._levels)[:5]))
            return f"has the category {brief(category_id)}, and there are {known}", "Add it to `categories`."
        if picture.file_name:
            try:
                read_shape(annotation.get("segmentation"), picture.width, picture.height)
            except ShapeError as error:
                return error.message, error.hint
        return None

    def _chosen(self, number: int) -> list[int]:
        chosen: list[int] = self._order[self._starts[number] : self._starts[number + 1]].tolist()
        return chosen

    def _annotations_of(self, number: int) -> Iterator[dict[str, Any]]:
        for at in self._chosen(number):
            self._spill.seek(self._begins[at])
            yield orjson.loads(self._spill.read(self._begins[at + 1] - self._begins[at]))

    def _broken(self, message: str, hint: str) -> None:
        self._listing.broken.add(Problem(file=self.file, message=message, hint=hint))


def _is_id(value: object) -> TypeGuard[Id]:
    if isinstance(value, str):
        return len(value) <= _MOST_ID_CHARACTERS
    return isinstance(value, int) and not isinstance(value, bool)
