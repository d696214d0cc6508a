"""Aids for training on minutes of film, beside the steps of the paper, which needs none of them.

A config asks for them by ``step: lnet_small_data`` and the like (:data:`train.catalog.STEPS`), as ``configs/demo``
does. All are off by default: without further options each of these steps trains as its parent does. The weights
that it leaves are of the same network.
"""
