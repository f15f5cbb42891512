"""The commands of ``spm-bench``, a module each."""
