"""Valid calls with random bytes changed in their HTTP/2 frames, sent to a real server."""
