"""What stands between the package and the machine: files, folders, locks, cores, streams, and JSON."""
