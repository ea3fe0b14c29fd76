"""Runs the parts of `make test`, records what each phase and test costs, and prints the table."""
