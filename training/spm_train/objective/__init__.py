"""From a batch of samples to the losses."""
