"""What Podling costs, measured beside the raw limit of the machine and beside podman: `make bench`."""
