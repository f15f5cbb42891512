"""Many videos: a manifest goes in, Parquet comes out; one process, many, or a cluster (docs/guide/pipelines.md)."""
