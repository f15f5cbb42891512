"""Reports: text, JSON, plots, pages."""
