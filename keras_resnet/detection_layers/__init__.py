"""Layers of detectors. None has weights, and all compute in float32 under every dtype policy."""
