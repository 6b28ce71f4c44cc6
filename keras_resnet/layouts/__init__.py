"""Artifacts -> the folders and configurations that other servers read; `keras-resnet layout` writes them."""
