"""Speed, as ratios against slow references in the same run."""
