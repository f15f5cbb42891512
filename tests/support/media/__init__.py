"""Pictures and clips that are drawn on the spot, in the layouts of benchmarks and training sets."""
