"""Time: turns, several targets, a process of its own, the machine and its limits, the verdict."""
