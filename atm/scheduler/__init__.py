"""What every server does beside answering calls: it sees to it that accepted tasks go on.

Each role is one sweep, safe to repeat and to run in several servers at once:
every change is a compare-and-set.
"""
