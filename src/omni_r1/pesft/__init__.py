"""PeSFT: supervised fine-tuning with the perception alignment loss (paper eq 1 to 3)."""
