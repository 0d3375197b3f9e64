"""Floor 4: retrieval, STS and classification scores on local data, from an encode function."""
