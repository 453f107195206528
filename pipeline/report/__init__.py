"""Tables, plots, sheets and the page of an evaluation."""
