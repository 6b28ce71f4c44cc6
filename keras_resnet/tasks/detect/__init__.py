"""Detection: boxes of objects in images, and masks where the data has them. So far, only its data can be read."""
