"""The default weights of SPM-Trackers, ``spm_alexnet`` and ``spm_light``; spm_export finds them in this package."""
