"""Names of a network's input and outputs, as every artifact has them."""

IMAGE = "image"  # the input: pixels 0..255
PROBABILITIES = "probabilities"  # of each class
MASK = "mask"  # the class of each pixel
