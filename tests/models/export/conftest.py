import pytest

from models.export.adopt import Wishes, adopt
from models.export.inspect_onnx import Refused
from models.export.served import ServedSession
from tests.tiny_graphs import CLASSES, SCALED


@pytest.fixture
def adopted(tmp_path):
    """Adopts a model; gives the facts and a session on the served graph."""

    def run(model, preprocessing=SCALED, *, classes=CLASSES, limits=None, **wishes):
        source, target = tmp_path / "theirs", tmp_path / "served.onnx"
        source.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        facts = adopt(
            source, target, Wishes(preprocessing=preprocessing, classes=classes, **wishes), limits=limits
        )
        return facts, ServedSession(target)

    return run


@pytest.fixture
def refused(adopted, tmp_path):
    """Adopts a model that must be refused, with a hint and without a trace."""

    def run(model, says, **options):
        with pytest.raises(Refused, match=says) as caught:
            adopted(model, **options)
        assert caught.value.hint
        assert not (tmp_path / "served.onnx").exists()

    return run
