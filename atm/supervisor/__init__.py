"""Child processes: started, started again when they end, and never left behind."""
