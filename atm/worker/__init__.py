"""What runs tasks: the handlers, one attempt at a time, and the life of a worker process."""
