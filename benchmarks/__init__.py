"""What the queue costs and what it gains, beside the same work without it: ``make bench``."""
