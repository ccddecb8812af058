"""How fast ATM is, and others, measured by one method: see README.md."""
