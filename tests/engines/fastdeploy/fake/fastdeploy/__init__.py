"""A stand-in for FastDeploy: the names, signatures and order of calls that detrec relies on, and no more.

Written for detrec's tests. It runs one worker in a thread, on the CPU, with a tiny model.
"""
