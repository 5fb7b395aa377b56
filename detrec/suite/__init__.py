"""The fault suite: every fault at several places of several workloads; changes that must not show."""
