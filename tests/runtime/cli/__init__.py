"""``spm-track``."""
