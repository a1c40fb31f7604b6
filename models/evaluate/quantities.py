"""Numbers as people read them."""

_NONE = "\N{EN DASH}"


def percent(share: float | None) -> str:
    """0.9231 → 92.3%."""
    return _NONE if share is None else f"{share:.1%}"


def decimal(value: float | None) -> str:
    """Three significant digits: 0.0312, 0.300, 12.3, 1,230."""
    if value is None:
        return _NONE
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def count(value: int) -> str:
    """12345 → 12,345."""
    return f"{value:,}"


def pictures(value: int) -> str:
    """1 picture, 12 pictures."""
    return f"{count(value)} picture{'' if value == 1 else 's'}"


def duration(seconds: float) -> str:
    """0.42 s, 8.1 s, 3 min 12 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    if round(seconds) < 3600:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours} h {rest} min"


def size(size_bytes: float) -> str:
    """Bytes with a unit that suits their number."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"
