"""Where the custom all-reduce is kept."""

_TP_AR = None
