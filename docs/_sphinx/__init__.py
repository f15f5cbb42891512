"""What the pages are built with, besides Sphinx: tables and help texts taken from the code."""
