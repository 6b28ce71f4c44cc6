"""How fast: latency of anything that can be called."""
