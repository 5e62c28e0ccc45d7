"""What a job is and which moves it may make: pure, no I/O."""
