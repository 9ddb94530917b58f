"""Who has what is not here: how others are asked over HTTP, in what order, how patiently and how many at once."""
