"""What an engine holds, weighed while it is loaded.

    before ──open sessions──► opened ──run the largest batch──► probed
    held = (opened - before) + lanes x (probed - opened) + lanes x one batch of input

A run keeps its memory for the next one, and all lanes may run at once, so that this is what the engine comes
to hold under load. Only one engine is loaded at a time; what requests to others take or give back meanwhile
is weighed too, which is why nothing counts as less than its file, and each further load weighs again. An
accelerator's own memory is not seen.
"""

from dataclasses import asdict, dataclass

from app.runtime.heap import trim_heap
from models.train.memory import peak_bytes, reset_peak, resident_bytes

_UNKNOWN_SHARE = 4
"""A graph that nobody has loaded yet may take so many times its file: it is opened up to three times to find
its plan, and computes in between."""
_SAME = 0.1


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Memory of one engine, bytes."""

    held_bytes: int
    """While all lanes run their largest batch."""
    peak_bytes: int
    """Most at any time while it was loaded, and no less than it holds."""

    @classmethod
    def unknown(cls, file_bytes: int) -> "Footprint":
        """Of a file that was never loaded here: it holds its weights, and may need more."""
        return cls(held_bytes=file_bytes, peak_bytes=file_bytes * _UNKNOWN_SHARE)

    def settled(self) -> "Footprint":
        """The same once it is loaded: the peak has passed."""
        return Footprint(held_bytes=self.held_bytes, peak_bytes=self.held_bytes)

    def is_like(self, other: "Footprint | None") -> bool:
        """Both say the same, as far as they can be trusted."""
        return other is not None and abs(self.held_bytes - other.held_bytes) <= _SAME * other.held_bytes

    def as_row(self) -> dict[str, int]:
        """JSON for the `tunings` table."""
        return asdict(self)


class Weighing:
    """Weighs one engine from before its sessions are opened until it has been probed."""

    def __init__(self, *, file_bytes: int, sessions: int, lanes: int, batch_bytes: int) -> None:
        """`batch_bytes`: the pixels of one largest batch, which each lane keeps a place for."""
        self._least_bytes = file_bytes * sessions + lanes * batch_bytes
        self._lanes = lanes
        self._batch_bytes = batch_bytes
        trim_heap()  # what others have freed must not be taken for free
        reset_peak()
        self._before = self._opened = resident_bytes()

    def opened(self) -> None:
        """The sessions are open and nothing has run."""
        self._opened = resident_bytes()

    def probed(self) -> Footprint:
        """Each session has run its largest batch."""
        peak = peak_bytes() - self._before
        trim_heap()
        run = max(0, resident_bytes() - self._opened)
        held = self._opened - self._before + self._lanes * (run + self._batch_bytes)
        held = max(held, self._least_bytes)
        return Footprint(held_bytes=held, peak_bytes=max(peak, held))
