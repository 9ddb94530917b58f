"""Those who have what is not here: how they are asked, in what order, how patiently, and how many at once."""
