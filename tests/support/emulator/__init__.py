"""A GPU on the host: its driver, the kernels built for the CPU, pictures and networks in its memory."""
