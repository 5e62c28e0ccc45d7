"""What Python programs import to submit jobs, follow their logs and wait for them."""
