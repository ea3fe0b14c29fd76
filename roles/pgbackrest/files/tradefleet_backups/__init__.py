"""What the programs for backups share."""
