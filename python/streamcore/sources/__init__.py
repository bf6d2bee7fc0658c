"""Where records come from. One file a source; `base.py` is what the runner asks of each."""
