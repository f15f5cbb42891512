"""Where time goes, operator by operator, and how much work each one is."""
