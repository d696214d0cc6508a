"""The main job in two passes: analyse a video once, then render it from speech."""
