"""Everything that is compared with the reference before a bundle is let go."""
