"""A way back after a loss, off by default: who notices it, where a target is looked for, and when it is believed."""
