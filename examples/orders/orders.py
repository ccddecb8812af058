"""A handler: `ATM_HANDLERS=orders atm up`, with this folder on PYTHONPATH."""

from pydantic import BaseModel

from atm import Context, NonRetryableError, Retry, handler


class Order(BaseModel):
    customer: str
    amount: int


@handler("charge", timeout=30, max_retry=5, retry=Retry("EXPONENTIAL", delay=1, max_delay=60))
def charge(context: Context, order: Order) -> dict[str, str]:
    context.logger.info("charging %s", order.customer)  # an INFO row in the task's history
    if order.amount <= 0:
        raise NonRetryableError("nothing to charge")
    for step in range(10):
        context.sleep(0.1)  # ends at once when the task is cancelled
        context.progress((step + 1) / 10)
    return {"receipt": f"{order.customer}-{order.amount}"}
