"""The stages of the paper, in its order: neutralize, lipsync, enhance, restore, mask, composite (by blend).

Beside them stand the upper face's emotion, a plug-in of section 3.1, and the sync score of the report.
"""
