"""The worker: connects back to its server, runs jobs, sends their logs."""
