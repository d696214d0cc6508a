"""The stages of the paper, in its order: neutralize, lipsync, enhance, restore, blend."""
