"""HTML and SVG that is escaped by construction: text stays text, only `tag` makes markup."""

import re
from base64 import b64encode
from html import escape

_VOID = frozenset({"img", "meta", "br", "col"})
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Control characters, marks that turn the text around them, and what is no character."""


class Markup(str):
    """Text that is markup already. Anything done to it but `joined` gives plain text again."""

    __slots__ = ()


def tag(element: str, /, *content: str, **attributes: str | float | None) -> Markup:
    """An element; content that is no Markup is escaped, and so is every attribute.

    `class_` is written `class`, `stroke_width` is `stroke-width`, numbers have two decimals at most, and an
    attribute of None is left out.
    """
    words = [element]
    for key, value in attributes.items():
        if value is not None:
            text = value if isinstance(value, str) else number(value)
            words.append(f'{key.rstrip("_").replace("_", "-")}="{escaped(text)}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening if element in _VOID else f"{opening}{joined(*content)}</{element}>")


def joined(*content: str) -> Markup:
    """One after the other; what is no Markup is escaped."""
    return Markup("".join(part if isinstance(part, Markup) else escaped(part) for part in content))


def escaped(text: str) -> Markup:
    """Text as it can stand between tags and in quotes; what no page may hold is replaced."""
    return Markup(escape(_UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)))


def cut(text: str, most: int = 48) -> str:
    """At most so many letters, the middle left out: what is long differs at its ends."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"


def foreign(text: str, *, most: int = 48) -> Markup:
    """What strangers called something: cut, and apart from the direction of the text around it."""
    return tag("bdi", cut(text, most))


def number(value: float) -> str:
    """A coordinate or size, without decimals that nobody sees."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def shot(jpeg: bytes | None, alt: str, *told: Markup) -> Markup:
    """A card with a picture, if there is one, and what is told of it."""
    picture = Markup()
    if jpeg is not None:
        source = f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"
        picture = tag("img", src=source, alt=alt, loading="lazy")
    return tag("article", picture, tag("div", *told), class_="card shot")
