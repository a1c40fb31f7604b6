import shutil
import threading
import time

import pytest

from app.queue import QUEUE, Doorbell, make_celery


@pytest.fixture
def doorbell(settings):
    doorbell = Doorbell(settings)
    yield doorbell
    doorbell.close()


def waiting(settings):
    return sorted((settings.data_dir / "broker" / "messages").glob(f"*.{QUEUE}.msg"))


def test_each_ring_is_a_message_and_messages_keep_their_order(settings, doorbell):
    for job_id in ("job_1", "job_2", "job_3"):
        doorbell.ring(job_id)
    heard = []
    with make_celery(settings).connection_for_read() as connection, connection.channel() as channel:
        for _ in range(3):
            heard.append(channel.basic_get(QUEUE, no_ack=True).payload[0])
        assert channel.basic_get(QUEUE, no_ack=True) is None
    assert heard == [["job_1"], ["job_2"], ["job_3"]]
    assert waiting(settings) == []


def test_the_folder_may_go_between_two_rings(settings, doorbell):
    doorbell.ring("job_1")
    shutil.rmtree(settings.data_dir / "broker")
    doorbell.ring("job_2")
    assert len(waiting(settings)) == 1
    assert doorbell.failures == 0


def test_of_many_listeners_each_message_goes_to_one(settings, doorbell):
    for number in range(40):
        doorbell.ring(f"job_{number}")
    heard = []

    def listen():
        with make_celery(settings).connection_for_read() as connection, connection.channel() as channel:
            while (message := channel.basic_get(QUEUE, no_ack=True)) is not None:
                heard.append(message.payload[0][0])

    threads = [threading.Thread(target=listen) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(heard) == sorted(f"job_{number}" for number in range(40))


@pytest.mark.parametrize("broker_url", ["redis://127.0.0.1:1/0", "amqp://127.0.0.1:1//"])
def test_a_broker_that_is_away_is_counted_and_costs_no_error_and_little_time(settings, broker_url):
    doorbell = Doorbell(settings.model_copy(update={"broker_url": broker_url}))
    started_s = time.monotonic()
    doorbell.ring("job_1")
    assert doorbell.failures == 1
    assert time.monotonic() - started_s < 15
    doorbell.close()


def test_a_folder_that_cannot_be_written_is_counted_too(settings, doorbell):
    settings.data_dir.mkdir()
    (settings.data_dir / "broker").write_text("a file where the folder should be")
    doorbell.ring("job_1")
    assert doorbell.failures == 1
