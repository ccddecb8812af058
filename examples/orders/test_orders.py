"""Tests of the handler: `pytest`, in this folder."""

import pytest
from orders import Order, charge

from atm import NonRetryableError
from atm.testing import AtmServer, at_progress, run_handler


def test_an_order_gets_its_receipt():
    run = run_handler(charge, {"customer": "Ada", "amount": 42}).check()
    assert run.result == {"receipt": "Ada-42"}
    assert run.lines == ["charging Ada"]
    assert run.progress[-1].fraction == 1


def test_an_order_of_nothing_fails_for_good():
    run = run_handler(charge, Order(customer="Ada", amount=0))
    assert (run.status, run.will_retry) == ("FAILED", False)
    with pytest.raises(NonRetryableError, match="nothing to charge"):
        run.check()


def test_an_order_without_a_customer_is_refused():
    assert run_handler(charge, {"amount": 42}).reason == "INVALID_PAYLOAD"


def test_a_charge_can_be_cancelled_halfway():
    run = run_handler(charge, {"customer": "Ada", "amount": 42}, cancel_at=at_progress(0.5))
    assert run.status == "CANCELLED"
    assert run.progress[-1].fraction == 0.5


def test_a_charge_that_is_out_of_time_is_tried_again():
    run = run_handler(charge, {"customer": "Ada", "amount": 42}, timeout=0.5, attempt=3)
    assert (run.status, run.will_retry, run.retry_wait) == ("TIMEOUT", True, 4)


def test_an_order_on_a_server(atm_server: AtmServer):
    task = atm_server.client.create_task("charge", {"customer": "Ada", "amount": 42})
    done = atm_server.client.wait_for_task(task.task_id, timeout=30)
    assert (done.status, done.result) == ("SUCCESS", {"receipt": "Ada-42"})
