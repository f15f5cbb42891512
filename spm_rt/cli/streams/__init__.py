"""Several sources in one run of ``spm-track``, or one whose metrics are served."""
