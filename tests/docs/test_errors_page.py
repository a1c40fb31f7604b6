import re
from pathlib import Path

from app import errors
from app.api.errors import STATUS

PAGE = Path("docs/errors.md").read_text()


def leaves(base=errors.AppError):
    return [base, *(leaf for child in base.__subclasses__() for leaf in leaves(child))]


def test_every_error_has_a_status():
    codes = {error.code for error in leaves()}
    assert len(codes) > 20
    assert codes == set(STATUS)


def test_every_code_is_on_the_page_with_its_status():
    rows = dict(re.findall(r"`([a-z_]+)` \| (\d{3}) \|", PAGE))
    assert {code: str(status) for code, status in STATUS.items()} == rows
    assert all(f'<a id="{code}"></a>' in PAGE for code in STATUS)
