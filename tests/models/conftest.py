"""Its presence puts this folder on the path, so that the folders below can import `random_networks`."""
