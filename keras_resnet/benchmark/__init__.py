"""Networks compared: what was published, counted and measured of each."""
