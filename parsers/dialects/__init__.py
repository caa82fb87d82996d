"""Every wire dialect, as a codec between its bytes and the hub's vocabulary."""
