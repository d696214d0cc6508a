"""Speed and memory of the main job: the whole first, its parts beside it, and what the machine could do."""
