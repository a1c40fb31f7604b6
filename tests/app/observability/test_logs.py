import io
import json
import logging

import pytest
import structlog

from app.observability.logs import bound, configure_logs, get_logger


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def log_to(settings):
    """Configure logging as a process with these settings would, for one test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def configure(stream, **changes):
        structlog.reset_defaults()
        configure_logs(settings.model_copy(update=changes), stream=stream)
        return stream

    yield configure
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_elsewhere_than_on_a_terminal_each_line_is_one_json_object(log_to):
    stream = log_to(io.StringIO())
    get_logger("app.test").info("job_started", kind="import", path=object)
    [line] = lines(stream)
    assert (line["event"], line["kind"], line["level"], line["logger"]) == (
        "job_started",
        "import",
        "info",
        "app.test",
    )
    assert line["timestamp"].endswith("Z")


def test_on_a_terminal_lines_are_text(log_to):
    stream = log_to(Terminal())
    get_logger("app.test").warning("broker_away", tries=3)
    assert "broker_away" in stream.getvalue()
    assert "{" not in stream.getvalue()


@pytest.mark.parametrize(("terminal", "log_format"), [(True, "json"), (False, "text")])
def test_the_setting_overrules_the_terminal(log_to, terminal, log_format):
    stream = log_to(Terminal() if terminal else io.StringIO(), log_format=log_format)
    get_logger("app.test").info("event")
    assert stream.getvalue().startswith("{") is (log_format == "json")


def test_bound_facts_are_on_every_line_inside_the_block_and_on_none_after_it(log_to):
    stream = log_to(io.StringIO())
    with bound(job_id="job_1"):
        get_logger("app.test").info("ours")
        logging.getLogger("some.library").warning("theirs %d", 1)
    get_logger("app.test").info("after")
    assert [(line["event"], line.get("job_id")) for line in lines(stream)] == [
        ("ours", "job_1"),
        ("theirs 1", "job_1"),
        ("after", None),
    ]


def test_an_exceptions_trace_is_in_its_line(log_to):
    stream = log_to(io.StringIO())
    try:
        raise ValueError("why")
    except ValueError:
        get_logger("app.test").exception("failed")
    [line] = lines(stream)
    assert "ValueError: why" in line["exception"]


def test_libraries_chatter_is_left_out_and_their_warnings_are_kept(log_to):
    stream = log_to(io.StringIO())
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("celery.worker").warning("Connection lost")
    get_logger("app.test").debug("detail")
    assert [line["event"] for line in lines(stream)] == ["Connection lost"]
