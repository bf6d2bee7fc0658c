"""Where rows go. One file a sink; `base.py` is what the runner asks of each."""
