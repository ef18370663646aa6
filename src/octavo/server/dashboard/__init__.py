"""What the engine does, for people who watch: snapshots of it, and the stream that brings them."""
