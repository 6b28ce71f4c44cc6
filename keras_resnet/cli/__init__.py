"""The console command `keras-resnet`: one module a command, over the same functions that code calls."""
