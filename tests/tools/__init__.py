"""What `make test` and its parts run."""
