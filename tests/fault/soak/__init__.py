"""Twenty writers and a fault every few seconds, for as long as one likes."""
