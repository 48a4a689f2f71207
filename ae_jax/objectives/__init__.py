"""Parts that several algorithms share: objectives, games, masks, Jacobians, recoding."""
