"""How well a tracker tracks: clips, metrics, other trackers."""
