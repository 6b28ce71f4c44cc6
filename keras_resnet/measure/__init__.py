"""How fast and how large: latency of a callable, memory of a process, subjects in processes of their own; records."""
