"""What the server does by itself: one named loop a file."""
