"""Recording FastDeploy: a plugin that tells a Probe what its model runner does, and what it leaves open."""
