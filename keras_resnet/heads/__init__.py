"""Feature maps -> one kind of prediction."""
