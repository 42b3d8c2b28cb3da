"""SPFL (method A): region prototypes at three levels, pseudo labels, and joint training."""
