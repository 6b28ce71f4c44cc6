"""An oracle that shares no code with `keras_resnet`: seeded weights, a PyTorch forward, and its stored results."""
