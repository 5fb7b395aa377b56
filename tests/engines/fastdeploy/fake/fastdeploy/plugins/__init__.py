"""Part of the stand-in for FastDeploy."""
