"""What the test of the article's example needs: traffic over HTTP, and a recount that shares no code with the engine."""
