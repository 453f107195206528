"""The training itself, in plain torch: neither Ray nor DVC nor pydantic."""
