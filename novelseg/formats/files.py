"""Names of the files in the folders that `baseline`, `train` and `evaluate` write."""

WEIGHTS, LOG_FILE = "weights.safetensors", "log.tsv"
ROWS, EXAMPLES_FILE, ABOUT = "rows.parquet", "examples.h5", "about.json"
