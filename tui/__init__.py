"""The divergence explorer: a terminal application over what `detrec.replayer.survey` tells."""
