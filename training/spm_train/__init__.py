"""Training: data, pairs, losses and the loop that fits the reference model of spm_export."""
