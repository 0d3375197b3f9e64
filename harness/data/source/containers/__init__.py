"""The file types that hold rows: JSON lines and lists, csv and tsv, parquet, `datasets`. Each becomes a row stream."""
