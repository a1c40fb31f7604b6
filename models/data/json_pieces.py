"""A JSON object too large to hold: the elements of its lists, one at a time.

{"images": [{…}, {…}], "annotations": [{…}, …], …} ─► ("images", {…}), ("images", {…}), ("annotations", …), …
"""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final, NamedTuple

import orjson

MAX_ELEMENT_BYTES: Final = 8 << 20
MAX_DEPTH: Final = 16
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(")?|[{}\[\]]', re.DOTALL)
_BETWEEN = b" \t\r\n,"
_FIRST = re.compile(rb"[^ \t\r\n,]")
_MOST_QUICK_BRACES = 64
_INSIDE = 2
"""Depth at which the elements of the object's lists begin."""


class NotSplit(ValueError):
    """The text is no such object; `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Element(NamedTuple):
    """One object of a list."""

    list_name: str
    value: dict[str, Any]
    text: bytes


class ListSplitter:
    """Holds one element and one piece."""

    def __init__(self, wanted: Collection[str]) -> None:
        self.found: set[str] = set()
        """Wanted lists that were there."""
        self._wanted = {name.encode(): name for name in wanted}
        self._kept = b""
        """What is not done with."""
        self._at = 0
        """In `_kept`, from where no token has been looked for."""
        self._begin = 0
        """In `_kept`, of the element, or of what stands between two."""
        self._open = bytearray()
        self._key = b""
        self._list: str | None = None
        self._is_over = False

    def split(self, pieces: Iterable[bytes]) -> Iterator[Element]:
        """The objects of the wanted lists, in the text's order. Raises NotSplit."""
        for piece in pieces:
            self._kept = self._kept[self._begin :] + piece
            self._at -= self._begin
            self._begin = 0
            yield from self._elements()
            if len(self._kept) - self._begin > MAX_ELEMENT_BYTES + len(piece):
                raise NotSplit(f"One of its values has more than {MAX_ELEMENT_BYTES} bytes.", "Simplify it.")
        if not self._is_over:
            raise NotSplit("It is no whole JSON object: it ends too soon.", "Write it again.")
        self._check_between(len(self._kept))

    def _elements(self) -> Iterator[Element]:
        while True:
            is_between = self._list is not None and len(self._open) == _INSIDE
            element = self._quick_element() if is_between else None
            if element is None:
                token = _TOKEN.search(self._kept, self._at)
                if token is None or (
                    token[0][:1] == b'"' and token[1] is None
                ):  # its end is in the next piece
                    break
                element = self._pass(token)
            if element is not None:
                yield element
        if self._list is None:
            self._begin = self._at

    def _quick_element(self) -> Element | None:
        """The next element, if it ends where its braces are even; those in texts may hinder that.

        Looking at all texts and brackets takes several times as long.
        """
        assert self._list is not None
        first = _FIRST.search(self._kept, self._begin)
        if first is None or first[0] != b"{":
            return None
        start = end = first.start()
        is_open = 0
        for _ in range(_MOST_QUICK_BRACES):
            stop = self._kept.find(b"}", end)
            if stop < 0:
                return None
            is_open += self._kept.count(b"{", end, stop) - 1
            end = stop + 1
            if not is_open:
                break
        text = self._kept[start:end]
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return None
        self._begin = self._at = end
        return Element(self._list, value, text)

    def _pass(self, token: re.Match[bytes]) -> Element | None:
        """Go past a token; the element that it ends, if it ends one."""
        mark, text = token[0][:1], None
        if mark == b'"':
            self._take_text(token[0])
        elif mark in b"{[":
            self._enter(mark, token.start())
        else:
            text = self._leave(mark, token.end())
        self._at = token.end()
        if text is None:
            return None
        assert self._list is not None
        try:
            return Element(self._list, orjson.loads(text), text)
        except orjson.JSONDecodeError as error:
            shown = text[:40].decode(errors="replace")
            raise NotSplit(f"{shown!r} and so on is no JSON: {error}.", "Write it again.") from error

    def _take_text(self, text: bytes) -> None:
        if not self._open:
            raise NotSplit("It is no JSON object.", "Write {, and `images`, `annotations` and `categories`.")
        if len(self._open) == 1:
            self._key = text[1:-1]

    def _enter(self, mark: bytes, start: int) -> None:
        depth = len(self._open)
        if depth == 0 and (mark == b"[" or self._is_over):
            what = "a list" if mark == b"[" else "more than one JSON object"
            raise NotSplit(f"It is {what}.", "Write one object with `images`, `annotations`, `categories`.")
        if depth == 1 and (name := self._wanted.get(self._key)) is not None:
            if name in self.found or mark == b"{":
                how = "there twice" if name in self.found else "an object"
                raise NotSplit(f"`{name}` is {how}.", "It is one list of objects.")
            self.found.add(name)
            self._list, self._begin = name, start + 1
        if depth == _INSIDE and self._list is not None:
            self._check_between(start if mark == b"{" else start + 1)
            self._begin = start
        if depth == MAX_DEPTH:
            raise NotSplit(f"It is nested more than {MAX_DEPTH} deep.", "Write it as COCO does.")
        self._open += mark

    def _leave(self, mark: bytes, end: int) -> bytes | None:
        """The text of the element that ends here, if one does."""
        if not self._open or self._open.pop() != (b"{" if mark == b"}" else b"[")[0]:
            raise NotSplit("It is no JSON: its brackets do not match.", "Write it again.")
        depth, element = len(self._open), None
        if depth == _INSIDE and self._list is not None:
            element, self._begin = self._kept[self._begin : end], end
        elif depth == 1 and self._list is not None:
            self._check_between(end - 1)
            self._list = None
        elif depth == 0:
            self._is_over, self._begin = True, end
        return element

    def _check_between(self, end: int) -> None:
        """Raises NotSplit unless between two elements there is nothing."""
        rest = self._kept[self._begin : end].strip(_BETWEEN)
        if rest:
            shown = rest[:20].decode(errors="replace")
            raise NotSplit(f"{shown!r} stands where an object should.", "Its lists are of objects.")
