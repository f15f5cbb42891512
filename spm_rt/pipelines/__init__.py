"""The tracker in the pipelines that people have: streams, servers, fleets, toolkits (docs/guide/pipelines.md).

One module or small folder for each integration, with its own extra in ``pyproject.toml``. Nothing of spm_rt but the
command line imports any of them, and each imports its libraries where it uses them.
"""
