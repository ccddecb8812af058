"""The fault suite: whole installations, real faults, and a checker that reads SQL and journals only."""
