"""What the server answers on the wire."""
