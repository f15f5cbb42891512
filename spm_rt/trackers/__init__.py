"""Who calls the steps of a frame: one target, several targets, and the checks of what they are given."""
