"""Labelled images: where they lie and what they show."""
