"""Marks that survive: what this project writes into its results so that they can be told from recordings.

:mod:`~videoretalking.provenance.keys` holds who may find a mark, :mod:`~videoretalking.provenance.payload` what it
says, :mod:`~videoretalking.provenance.statistics` how sure a finding is. The mark of the picture (section 6 of the
paper) is written by :mod:`~videoretalking.provenance.video` and found by
:mod:`~videoretalking.provenance.video_detector`; that of the sound by :mod:`~videoretalking.provenance.audio` and
:mod:`~videoretalking.provenance.audio_search`. What was made of what is signed by
:mod:`~videoretalking.provenance.manifest`.
"""
