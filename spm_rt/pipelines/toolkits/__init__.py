"""The tracker behind the interfaces of labelling tools and libraries around videos (docs/guide/pipelines.md)."""
