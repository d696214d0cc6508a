"""Marks that survive: what this project writes into its results so that they can be told from recordings.

:mod:`~videoretalking.provenance.keys` holds who may find a mark, :mod:`~videoretalking.provenance.payload` what it
says, :mod:`~videoretalking.provenance.statistics` how sure a finding is, :mod:`~videoretalking.provenance.video`
the mark of the picture and its detector (section 6 of the paper).
"""
