"""The default weights of SPM-Tracker, ``spm_alexnet.safetensors``; spm_export finds them in this package."""
