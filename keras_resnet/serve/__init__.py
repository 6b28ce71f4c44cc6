"""Artifacts -> a server on KServe's Python server, with a page to try them; `keras-resnet serve` starts it.

`model` and `application` import KServe, so that they are imported only after `kserve_import.import_kserve`.
"""
